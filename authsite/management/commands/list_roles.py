from typing import Any

from django.contrib.auth.models import Group
from django.db.models import Count

from devices.management.base import RegistryCommand, counted


class Command(RegistryCommand):
    help = "List roles: how many accounts have each, and with --json what each may do."

    def handle(self, *args: Any, **options: Any) -> None:
        roles = Group.objects.annotate(accounts=Count("user")).order_by("name")
        documents: list[dict[str, Any]] = [
            {
                "role": role.name,
                "accounts": role.accounts,
                "permissions": sorted(
                    f"{one.content_type.app_label}.{one.codename}" for one in role.permissions.all()
                ),
            }
            for role in roles.prefetch_related("permissions__content_type")
        ]
        lines = [
            f"{one['role']}  ({counted(one['accounts'], 'account')}, "
            f"{counted(len(one['permissions']), 'permission')})"
            for one in documents
        ]
        self.answer("\n".join(lines) or "No role.", {"roles": documents})
