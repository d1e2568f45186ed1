"""What the commands about accounts and tokens have in common."""

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import Group, User
from django.core.management.base import CommandError, CommandParser

from authsite.accounts.account import Account
from authsite.accounts.tokens.models import ApiToken
from authsite.accounts.tokens.service_account import ServiceAccount
from devices.management.base import RegistryCommand, fields_of


class AccountCommand(RegistryCommand):
    """A command about accounts of staff and of services."""

    def account(self, name: str, *, lock: bool = False) -> Account:
        """Return the account of that name; ends with 1 where there is none.

        With `lock` nobody else changes it until the transaction ends.
        """
        accounts = Account.objects.select_related("service_account__answerable")
        if lock:
            list(Account.objects.select_for_update(no_key=True).filter(username=name))
        account: Account | None = accounts.filter(username=name).first()
        if account is None:
            raise CommandError(f"there is no account {name}", returncode=1)
        return account

    def roles(self, names: Sequence[str]) -> list[Group]:
        """Return the roles of these names; ends with 1 where there is none of a name."""
        found = {role.name: role for role in Group.objects.filter(name__in=names)}
        for name in names:
            if name not in found:
                there_are = ", ".join(Group.objects.order_by("name").values_list("name", flat=True))
                raise CommandError(f"there is no role {name}; there are {there_are}", returncode=1)
        return list(found.values())

    @staticmethod
    def add_roles(parser: CommandParser) -> None:
        """Add `--role`, which may be given again."""
        parser.add_argument(
            "--role",
            action="append",
            default=[],
            metavar="ROLE",
            help="such as Viewer, Operator, Security, Auditor; may be given again",
        )

    @staticmethod
    def described(user: User) -> dict[str, Any]:
        service: ServiceAccount | None = getattr(user, "service_account", None)
        return {
            "username": user.get_username(),
            "kind": "staff" if service is None else "service",
            "active": user.is_active,
            "staff": user.is_staff,
            "superuser": user.is_superuser,
            "roles": sorted(role.name for role in user.groups.all()),
            "answerable": None if service is None else service.answerable.get_username(),
            "last_login": user.last_login,
        }

    @staticmethod
    def described_token(token: ApiToken, state: str) -> dict[str, Any]:
        """Return a token as a document: everything but its secret."""
        return {
            **fields_of(token, "identifier", "name"),
            "owner": token.owner.get_username(),
            "state": state,
            **fields_of(token, "scopes", "rules", "networks", "not_after", "created"),
            **fields_of(token, "last_used", "last_used_from"),
        }


class OneAccountCommand(AccountCommand):
    """A command about one account, which it is told first."""

    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="name of the account")
