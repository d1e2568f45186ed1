from typing import Any

from devices.credentials.certificates import note_revoked
from devices.management.base import RegistryCommand, fields_of
from devices.models import CertificateAuthority


class Command(RegistryCommand):
    help = "List trust anchors: whether each vouches for devices, until when, its fingerprint."

    def handle(self, *args: Any, **options: Any) -> None:
        names = ("name", "enabled", "subject", "fingerprint", "not_before", "not_after")
        rows = list(CertificateAuthority.objects.order_by("name"))
        note_revoked(rows)
        anchors = [fields_of(row, *names, "crl_policy", "refused_as") for row in rows]
        lines = [
            f"{one['name']}  "
            f"{one['refused_as'] or ('enabled' if one['enabled'] else 'disabled')}  "
            f"until {one['not_after']:%Y-%m-%d}  {one['fingerprint']}"
            for one in anchors
        ]
        self.answer("\n".join(lines) or "No trust anchor.", {"trust_anchors": anchors})
