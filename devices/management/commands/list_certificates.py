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
    credentials = Certificate.objects.with_list_state()
    described = staticmethod(described_certificate)
