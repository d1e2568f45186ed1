from typing import Any

from devices.management.base import RegistryCommand
from devices.models import CertificateAuthority


class Command(RegistryCommand):
    help = "List trust anchors: whether each vouches for devices, until when, its fingerprint."

    def handle(self, *args: Any, **options: Any) -> None:
        anchors = [
            {
                "name": anchor.name,
                "enabled": anchor.enabled,
                "subject": anchor.subject,
                "fingerprint": anchor.fingerprint,
                "not_before": anchor.not_before,
                "not_after": anchor.not_after,
                "crl_policy": anchor.crl_policy,
            }
            for anchor in CertificateAuthority.objects.order_by("name")
        ]
        lines = [
            f"{one['name']}  {'enabled' if one['enabled'] else 'disabled'}  "
            f"until {one['not_after']:%Y-%m-%d}  {one['fingerprint']}"
            for one in anchors
        ]
        self.answer(options, "\n".join(lines) or "No trust anchor.", {"trust_anchors": anchors})
