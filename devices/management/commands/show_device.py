from typing import Any

from django.utils import timezone

from devices.management.base import DeviceCommand
from devices.models import Certificate, Device, PreSharedKey


class Command(DeviceCommand):
    help = "Show a device: its fields, the groups that it is in, its keys and certificates."

    def handle_device(self, device: Device, **options: Any) -> None:
        now = timezone.now()
        keys = [
            {
                "key": key.pk,
                "label": key.label,
                "state": key.state_at(now).value,
                "scheme": key.scheme,
                "not_before": key.not_before,
                "not_after": key.not_after,
                "last_used": key.last_used,
            }
            for key in PreSharedKey.objects.filter(device=device)
        ]
        certificates = [
            {
                "certificate": certificate.pk,
                "label": certificate.label,
                "state": certificate.state_at(now).value,
                "fingerprint": certificate.fingerprint,
                "not_after": certificate.not_after,
                "last_used": certificate.last_used,
            }
            for certificate in Certificate.objects.filter(device=device)
        ]
        document = {
            "identifier": device.identifier,
            "kind": device.kind,
            "enabled": device.enabled,
            "name": device.name,
            "description": device.description,
            "groups": list(device.groups.order_by("name").values_list("name", flat=True)),
            "attributes": device.attributes,
            "created": device.created,
            "updated": device.updated,
            "last_seen": device.last_seen,
            "keys": keys,
            "certificates": certificates,
        }
        shown = {
            **document,
            "groups": ", ".join(document["groups"]) or "-",
            "keys": len(keys),
            "certificates": len(certificates),
        }
        lines = [self.lines(shown)]
        lines += [f"  key {one['key']}: {one['state']}, {one['label'] or '-'}" for one in keys]
        lines += [
            f"  certificate {one['certificate']}: {one['state']}, {one['label'] or '-'}"
            for one in certificates
        ]
        self.answer(options, "\n".join(lines), document)
