from typing import Any

from django.utils import timezone

from devices.management.base import DeviceCommand, fields_of
from devices.management.credentials import credential_text, described_certificate, described_key
from devices.models import Certificate, Device, PreSharedKey
from devices.values import attributes


class Command(DeviceCommand):
    help = "Show a device: its fields, the groups that it is in, its keys and certificates."

    def handle_device(self, device: Device, **options: Any) -> None:
        now = timezone.now()
        keys = [described_key(key, now) for key in PreSharedKey.objects.filter(device=device)]
        pinned = Certificate.objects.filter(device=device).with_list_state()
        certificates = [described_certificate(one, now) for one in pinned]
        document = {
            **fields_of(device, "identifier", "kind", "enabled", "name", "description"),
            "groups": list(device.groups.order_by("name").values_list("name", flat=True)),
            **fields_of(device, "attributes", "created", "updated", "last_seen"),
            "keys": keys,
            "certificates": certificates,
        }
        shown = {
            **document,
            "groups": ", ".join(document["groups"]) or "-",
            "attributes": attributes.as_text(device.attributes),  # as change_device takes them
            "keys": len(keys),
            "certificates": len(certificates),
        }
        lines = [self.lines(shown)]
        lines += [f"  {credential_text(one)}" for one in (*keys, *certificates)]
        self.answer("\n".join(lines), document)
