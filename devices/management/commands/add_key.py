from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from devices.management.base import DeviceCommand, moment, trimmed
from devices.models import Device, PreSharedKey
from devices.models.credentials.pre_shared_key import check_end


class Command(DeviceCommand):
    help = (
        "Add a pre-shared key to a device; the ones that it has stay.\n\n"
        "Without --secret-stdin a secret is generated and printed once."
    )
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--label", type=trimmed, default="", help="what staff call the key")
        parser.add_argument(
            "--not-before", type=moment, metavar="TIME", help="admits from then on (ISO 8601)"
        )
        parser.add_argument(
            "--not-after", type=moment, metavar="TIME", help="admits until then (ISO 8601)"
        )
        parser.add_argument(
            "--secret-stdin", action="store_true", help="register the secret on standard input"
        )
        parser.add_argument(
            "--random",
            action="store_true",
            help="with --secret-stdin: a machine made it, with at least 128 random bits; it is "
            "then checked as fast as a generated one",
        )

    @transaction.atomic  # a secret that cannot be printed is not issued
    def handle_device(self, device: Device, **options: Any) -> None:
        check_end(options["not_after"])
        wanted = {name: options[name] for name in ("label", "not_before", "not_after")}
        document: dict[str, Any] = {"identifier": device.identifier}
        if options["secret_stdin"]:
            given = self.secret_from_stdin()
            key = PreSharedKey.objects.register(
                device=device, secret=given, random=options["random"], **wanted
            )
            if not options["random"]:
                self.warn_if_weak(given, device)
            text = f"Registered key {key.pk} of {device.identifier}."
        elif options["random"]:
            raise CommandError("--random goes with --secret-stdin", returncode=2)
        else:
            key, secret = PreSharedKey.objects.issue(device=device, **wanted)
            text = f"Issued key {key.pk} of {device.identifier}.\nSecret (shown once): {secret}"
            document["secret"] = secret
        self.answer(text, document | {"key": key.pk})
