from typing import Any

from django.core.management.base import CommandError, CommandParser

from devices.management.base import DeviceCommand, named, number, signature
from devices.models import Certificate, Device


class Command(DeviceCommand):
    help = (
        "Revoke a certificate of a device, whether it was registered or a trust anchor vouches\n"
        "for it. It admits nobody from its next use on, and cannot be registered again."
    )
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--file", type=named, help="the certificate; - for standard input")
        which.add_argument(
            "--certificate", type=number, metavar="N", help="the number of a registered one"
        )
        which.add_argument("--all", action="store_true", help="every registered one of the device")
        parser.add_argument(
            "--key-too", action="store_true", help="and every other certificate with its key"
        )

    def handle_device(self, device: Device, **options: Any) -> None:
        how = {"by": signature(), "reason": options["reason"], "key_too": options["key_too"]}
        if options["file"]:
            presented = self.certificate(options["file"])
            revoked = [
                Certificate.objects.revoke_presented(device=device, presented=presented, **how)
            ]
        else:
            revoked = [row for row in self._registered(device, options) if row.revoke(**how)]
        numbers = [row.pk for row in revoked]
        self.answer(
            f"Revoked {', '.join(f'certificate {number}' for number in numbers)} "
            f"of {device.identifier}.",
            {"identifier": device.identifier, "revoked": numbers},
        )

    @staticmethod
    def _registered(device: Device, options: dict[str, Any]) -> list[Certificate]:
        rows = Certificate.objects.filter(device=device, revoked_at=None)
        if not options["all"]:
            rows = rows.filter(pk=options["certificate"])
        if not rows:
            raise CommandError(f"{device.identifier} has no such live certificate", returncode=1)
        return list(rows)
