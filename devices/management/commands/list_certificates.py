from datetime import datetime
from typing import Any

from devices.management.credentials import ListCredentialsCommand, described_certificate
from devices.models import Certificate


class Command(ListCredentialsCommand):
    help = (
        "List registered certificates that live, by device: until when, and whether each is\n"
        "usable now; --json has their fingerprints. What a trust anchor alone vouches for is on\n"
        "no record.\n\n"
        "  --filter groups=Roof --filter enabled=true"
    )
    noun = "certificate"

    def rows(self) -> Any:
        return Certificate.objects.with_list_state()

    def described(self, row: Certificate, now: datetime) -> dict[str, Any]:
        return described_certificate(row, now)
