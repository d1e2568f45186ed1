from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from devices.management.base import KeyCommand, number, signature
from devices.models import Device, PreSharedKey


class Command(KeyCommand):
    help = (
        "Revoke a key of a device: it admits nobody from its next use on.\n\n"
        "A device with one live key needs no --key. When the last usable key is revoked, the live\n"
        "session of the device is ended at the RTIO servers that are on record: docs/rtio.md."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--key", type=number, metavar="N", help="the number of the key")
        which.add_argument("--all", action="store_true", help="every live key of the device")

    def handle_device(self, device: Device, **options: Any) -> None:
        live = PreSharedKey.objects.filter(device=device).live_at(timezone.now())
        keys = list(live.filter(pk=options["key"]) if options["key"] is not None else live)
        if not (keys and options["all"]):
            keys = [self.only(device, keys, others=", or --all")]
        by = signature()
        revoked = [key.pk for key in keys if key.revoke(by=by, reason=options["reason"])]
        self.answer(
            f"Revoked {', '.join(f'key {number}' for number in revoked)} of {device.identifier}.",
            {"identifier": device.identifier, "revoked": revoked},
        )
