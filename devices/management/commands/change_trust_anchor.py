from typing import Any

from django.core.management.base import CommandError, CommandParser

from devices.management.base import ChangeCommand
from devices.models.credentials.authority import CRLPolicy


class Command(ChangeCommand):
    help = "Switch a trust anchor on or off, or change what it requires of its revocation list."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="the trust anchor's name")
        switch = parser.add_mutually_exclusive_group()
        switch.add_argument("--enable", action="store_true", help="let it vouch for devices")
        switch.add_argument(
            "--disable", action="store_true", help="it vouches for nobody from the next request on"
        )
        parser.add_argument(
            "--crl-policy", choices=CRLPolicy.values, help="as for add_trust_anchor"
        )
        parser.add_argument("--distribution-point", metavar="URL", help="as for add_trust_anchor")

    def handle(self, *args: Any, **options: Any) -> None:
        anchor = self.anchor(options["name"])
        switched = options["enable"] or options["disable"]
        changed = {"enabled": options["enable"]} if switched else {}
        changed |= self.given(options, "crl_policy", "distribution_point")
        if not changed:
            raise CommandError("nothing to change: see --help", returncode=2)
        with self.change(options):
            self.set_fields(anchor, changed)
        told = ", ".join(f"{name} {value}" for name, value in changed.items())
        self.answer(f"{anchor.name}: {told}.", {"name": anchor.name, **changed})
