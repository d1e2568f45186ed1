from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction
from django.utils import timezone

from devices.management.base import DeviceCommand, duration, trimmed
from devices.models import Device, PreSharedKey
from devices.values.moments import in_utc


class Command(DeviceCommand):
    help = (
        "Issue a new key for a device; the keys that it has end after the overlap.\n\n"
        "Until then old and new secrets admit the device. Look at “last used” in the admin, or\n"
        "revoke the old key earlier, once the device has changed over."
    )
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--overlap",
            type=duration,
            default=timedelta(days=1),
            metavar="SPAN",
            help="how long the old keys go on: 15m, 12h, 30d, 2w (default: 1d); with 0m, and where "
            "they would only begin later, they are revoked now",
        )
        parser.add_argument("--label", type=trimmed, default="", help="what staff call the new key")

    @transaction.atomic  # a secret that cannot be printed is not issued
    def handle_device(self, device: Device, **options: Any) -> None:
        key, secret = PreSharedKey.objects.rotate(
            device=device, overlap=options["overlap"], label=options["label"]
        )
        end = timezone.now() + options["overlap"]
        old = "are revoked"
        if options["overlap"]:
            old = f"end by {in_utc(end)}; those that would begin later are revoked"
        self.answer(
            f"Issued key {key.pk} of {device.identifier}; its other keys {old}.\n"
            f"Secret (shown once): {secret}",
            {"identifier": device.identifier, "key": key.pk, "secret": secret},
        )
