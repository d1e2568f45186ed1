from typing import Any

from acl.management.sets import described
from acl.models import CommandSet
from devices.management.base import RegistryCommand


class Command(RegistryCommand):
    help = "List command sets with their commands."

    def handle(self, *args: Any, **options: Any) -> None:
        rows = CommandSet.objects.order_by("name").prefetch_related("patterns")
        documents = [described(row) for row in rows]
        lines = [f"{one['set']}: {', '.join(one['commands']) or '—'}" for one in documents]
        self.answer("\n".join(lines) or "No command set.", {"sets": documents})
