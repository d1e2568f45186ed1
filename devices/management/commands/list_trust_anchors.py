from typing import Any

from devices.management.base import RegistryCommand, fields_of
from devices.models import CertificateAuthority


class Command(RegistryCommand):
    help = "List trust anchors: whether each vouches for devices, until when, its fingerprint."

    def handle(self, *args: Any, **options: Any) -> None:
        names = ("name", "enabled", "subject", "fingerprint", "not_before", "not_after")
        anchors = [
            fields_of(anchor, *names, "crl_policy")
            for anchor in CertificateAuthority.objects.order_by("name")
        ]
        lines = [
            f"{one['name']}  {'enabled' if one['enabled'] else 'disabled'}  "
            f"until {one['not_after']:%Y-%m-%d}  {one['fingerprint']}"
            for one in anchors
        ]
        self.answer(options, "\n".join(lines) or "No trust anchor.", {"trust_anchors": anchors})
