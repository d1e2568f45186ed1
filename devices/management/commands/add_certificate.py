from typing import Any

from django.core.management.base import CommandParser

from devices.credentials import x509
from devices.management.base import DeviceCommand, fields_of, trimmed
from devices.models import Certificate, Device
from devices.models.credentials.certificate import Pin


class Command(DeviceCommand):
    help = (
        "Pin a certificate, or its public key, to a device; what it has stays.\n\n"
        "A certificate that a trust anchor vouches for needs no pin."
    )
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "file",
            help="PEM or DER; - for standard input. What follows the first certificate is ignored",
        )
        parser.add_argument(
            "--pin",
            choices=Pin.values,
            default=Pin.CERTIFICATE.value,
            help="what must come back: this certificate, or any with its public key, such as a "
            "renewal (default: certificate)",
        )
        parser.add_argument(
            "--label", type=trimmed, default="", help="what staff call the certificate"
        )

    def handle_device(self, device: Device, **options: Any) -> None:
        certificate = Certificate.objects.register(
            device=device,
            presented=self.certificate(options["file"]),
            pin=options["pin"],
            label=options["label"],
        )
        names = ("pin", "subject", "issuer", "serial", "not_before", "not_after")
        document = {
            "certificate": certificate.pk,
            **fields_of(certificate, *names),
            "key": x509.key_text(certificate.parsed),
            **fields_of(certificate, "fingerprint", "public_key_fingerprint"),
        }
        self.answer(
            f"Registered certificate {certificate.pk} of {device.identifier}.\n"
            f"{self.lines(document)}",
            {"identifier": device.identifier} | document,
        )
