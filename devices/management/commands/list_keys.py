from devices.management.credentials import ListCredentialsCommand, described_key
from devices.models import PreSharedKey


class Command(ListCredentialsCommand):
    help = (
        "List keys that live, by device: until when, and whether each is usable now. expiring has\n"
        "those that end soon.\n\n"
        "  --filter groups=Roof --filter enabled=true"
    )
    noun = "key"
    credentials = PreSharedKey.objects.all()
    described = staticmethod(described_key)
