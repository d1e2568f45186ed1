import json
from datetime import UTC
from typing import Any

from django.utils import timezone

from devices.management.base import DeviceCommand, fields_of
from devices.models import Certificate, Device, PreSharedKey


class Command(DeviceCommand):
    help = "Show a device: its fields, the groups that it is in, its keys and certificates."

    def handle_device(self, device: Device, **options: Any) -> None:
        now = timezone.now()
        keys = [
            {"key": key.pk, "label": key.label, "state": key.state_at(now).value}
            | fields_of(key, "scheme", "not_before", "not_after", "last_used")
            for key in PreSharedKey.objects.filter(device=device)
        ]
        certificates = [
            {"certificate": one.pk, "label": one.label, "state": one.state_at(now).value}
            | fields_of(one, "fingerprint", "not_after", "last_used")
            for one in Certificate.objects.filter(device=device)
        ]
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
            "attributes": json.dumps(device.attributes, ensure_ascii=False),  # as change_device
            "keys": len(keys),
            "certificates": len(certificates),
        }
        lines = [self.lines(shown)]
        lines += [f"  key {one['key']}: {_described(one)}" for one in keys]
        lines += [f"  certificate {one['certificate']}: {_described(one)}" for one in certificates]
        self.answer(options, "\n".join(lines), document)


def _described(credential: dict[str, Any]) -> str:
    """Return its state, its label and when it ends, as after a rotation, in UTC."""
    end = credential["not_after"]
    until = f", until {end.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if end else ""
    return f"{credential['state']}, {credential['label'] or '-'}{until}"
