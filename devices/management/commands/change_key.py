from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from devices.management.base import NONE, KeyCommand, moment_or_none, number, trimmed
from devices.models import Device, PreSharedKey


class Command(KeyCommand):
    help = (
        "Change what a key of a device is called, or when it admits its device; one that was\n"
        "revoked stays so. A device with one live key needs no --key. Where the last usable key\n"
        "is given times that refuse it now, the live session of the device is ended, as by\n"
        "revoke_key."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--key", type=number, metavar="N", help="the number of the key")
        parser.add_argument("--label", type=trimmed, default=..., help="what staff call the key")
        for end, what in (("before", "from then on"), ("after", "until then")):
            parser.add_argument(
                f"--not-{end}",
                type=moment_or_none,
                default=...,
                metavar="TIME",
                help=f"admits {what} (ISO 8601); {NONE}: without this bound",
            )

    def handle_device(self, device: Device, **options: Any) -> None:
        fields = ("label", "not_before", "not_after")
        changed = {name: options[name] for name in fields if options[name] is not ...}
        if not changed:
            raise CommandError("nothing to change: see --help", returncode=2)
        keys = PreSharedKey.objects.filter(device=device)
        named = options["key"] is not None
        keys = keys.unrevoked().filter(pk=options["key"]) if named else keys.live_at(timezone.now())
        key = self.only(device, list(keys))
        with transaction.atomic():
            key.hold()
            if key.revoked_at is not None:
                raise CommandError(f"key {key.pk} was revoked meanwhile", returncode=1)
            for name, value in changed.items():
                setattr(key, name, value)
            key.full_clean()
            key.save(update_fields=[*changed])
        self.answer(
            f"Changed {', '.join(changed)} of key {key.pk} of {device.identifier}.",
            {"identifier": device.identifier, "key": key.pk, "changed": changed},
        )
