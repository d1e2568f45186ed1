from typing import Any

from django.core.management.base import CommandParser

from devices.credentials import x509
from devices.credentials.x509 import NameSource
from devices.management.base import RegistryCommand, fields_of, new_name
from devices.models import CertificateAuthority
from devices.models.credentials.authority import PLACEHOLDER, CRLPolicy


class Command(RegistryCommand):
    help = (
        "Trust an authority's certificate: what chains to it and names a device admits that\n"
        "device. The name is taken from one place and mapped to the identifier by two templates\n"
        "that share {id}: --name-pattern 'urn:factory:{id}' \\\n"
        "--identifier-pattern '//api.example.com/{id}'."
    )
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", type=new_name, help="what staff call the authority")
        parser.add_argument("file", help="its certificate, PEM or DER; - for standard input")
        parser.add_argument(
            "--name-source",
            choices=NameSource.values,
            default=NameSource.COMMON_NAME.value,
            help="where the device's name stands (default: common-name)",
        )
        parser.add_argument(
            "--name-pattern",
            default=PLACEHOLDER,
            metavar="T",
            help="the name there (default: {id})",
        )
        parser.add_argument(
            "--identifier-pattern",
            default=PLACEHOLDER,
            metavar="T",
            help="the identifier in the registry (default: {id})",
        )
        parser.add_argument(
            "--crl-policy",
            choices=CRLPolicy.values,
            default=CRLPolicy.REFUSE.value,
            help="require: refuse until a revocation list is loaded, and whenever it is out of "
            "date; refuse: only when a loaded one is out of date; warn: never for that reason "
            "(default: refuse)",
        )
        parser.add_argument(
            "--distribution-point",
            default="",
            metavar="URL",
            help="the address that the authority's list names, where it names one: you say that "
            "the list of this address is whole",
        )
        parser.add_argument(
            "--disabled", action="store_true", help="vouch for nobody: for an intermediate's list"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        options["enabled"] = not options["disabled"]
        anchor = CertificateAuthority.objects.register(
            presented=self.certificate(options["file"]),
            **{name: options[name] for name in CertificateAuthority.written_fields},
        )
        document = {
            **fields_of(anchor, "subject", "not_before", "not_after"),
            "key": x509.key_text(anchor.parsed),
            "fingerprint": anchor.fingerprint,
        }
        text = f"Registered the trust anchor {anchor.name}.\n{self.lines(document)}"
        if anchor.crl_policy == CRLPolicy.REQUIRE:
            text += "\nIt admits nobody until load_crl has loaded its revocation list."
        self.answer(text, {"name": anchor.name, "enabled": anchor.enabled} | document)
