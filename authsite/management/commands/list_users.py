from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandParser

from authsite.management.accounts import AccountCommand


class Command(AccountCommand):
    help = "List accounts of staff and of services by name, with their roles."

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_roles(parser)
        parser.add_argument("--services", action="store_true", help="only service accounts")

    def handle(self, *args: Any, **options: Any) -> None:
        users = User.objects.order_by("username").prefetch_related("groups")
        users = users.select_related("service_account__answerable")
        if options["role"]:
            users = users.filter(groups__in=self.roles(options["role"])).distinct()
        if options["services"]:
            users = users.exclude(service_account=None)
        documents = [self.described(user) for user in users]
        width = max((len(one["username"]) for one in documents), default=0)
        lines = [
            f"{one['username']:<{width}}  {'active  ' if one['active'] else 'disabled'}  "
            f"{'superuser' if one['superuser'] else ', '.join(one['roles']) or 'no role'}"
            + (f"  (service, {one['answerable']} answers for it)" if one["answerable"] else "")
            for one in documents
        ]
        self.answer("\n".join(lines) or "No account.", {"users": documents})
