from typing import Any

from django.db.models import Count

from devices.management.base import RegistryCommand, counted
from devices.models import DeviceGroup


class Command(RegistryCommand):
    help = "List groups: their names, the group that each lies in, and how many devices are in it."

    def handle(self, *args: Any, **options: Any) -> None:
        groups: list[dict[str, Any]] = [
            {"group": group.name, "within": group.parent and group.parent.name, "devices": n}
            for group in DeviceGroup.objects.select_related("parent")
            .annotate(members=Count("devices"))
            .order_by("name")
            for n in [group.members]
        ]
        lines = [
            f"{one['group']}  ({counted(one['devices'], 'device')}"
            + (f", within {one['within']})" if one["within"] else ")")
            for one in groups
        ]
        self.answer("\n".join(lines) or "No group.", {"groups": groups})
