"""Who may do what over the API: the account's permissions, within what its token grants.

The one place that decides. A view names for each of its operations the permissions that it needs;
one that it does not name is refused.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar, cast

from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from devices.history.models import permission_to

Row = TypeVar("Row", bound=Model)

VERBS = {
    "list": "view",
    "retrieve": "view",
    "export": "view",
    "create": "add",
    "partial_update": "change",
    "destroy": "delete",
}


class Grant(Protocol):
    """What a token lets its owner do, out of what the owner may do (`request.auth`)."""

    def permits(self, permission: str) -> bool:
        """Whether the scopes cover a permission such as `devices.change_device`."""

    def narrow(self, queryset: "QuerySet[Row]") -> "QuerySet[Row]":
        """Return those of the rows that the token reaches."""

    def narrows(self, permission: str) -> bool:
        """Whether it grants a permission on some rows only, or on so many."""

    def reached_groups(self, permission: str) -> frozenset[int] | None:
        """Return the groups, and those below them, that a permission is kept to; None: to none."""

    def count_use(self, permission: str, rows: Iterable[Model]) -> None:
        """Count the use of a permission on rows; raises PermissionDenied or Throttled."""


def model_permissions(model: type[Model]) -> dict[str, Sequence[str]]:
    """Return the permissions of the usual operations on rows of a model."""
    return {operation: (permission_to(verb, model),) for operation, verb in VERBS.items()}


def grant_of(request: Request) -> Grant | None:
    """Return what narrows the request; None where the account itself asks."""
    return cast("Grant | None", request.auth)


def may(request: Request, permission: str) -> bool:
    """Whether the account has a permission and the token grants it."""
    grant = grant_of(request)
    return bool(request.user and request.user.has_perm(permission)) and (
        grant is None or grant.permits(permission)
    )


def may_all(request: Request, permission: str) -> bool:
    """Whether the request has a permission on every row: whatever it names is told."""
    grant = grant_of(request)
    return may(request, permission) and (grant is None or not grant.narrows(permission))


def lacks(request: Request, permission: str) -> str:
    """Return in words that a permission is lacking, and to whom; nothing where it is there."""
    if may(request, permission):
        return ""
    text = (
        _("This token does not grant the permission %(name)s.")
        if request.user and request.user.has_perm(permission)
        else _("This account does not have the permission %(name)s.")
    )
    return text % {"name": permission}


def demand(request: Request, *permissions: str) -> None:
    """Raise PermissionDenied, which says what is lacking, unless all permissions are there."""
    for permission in permissions:
        if text := lacks(request, permission):
            raise PermissionDenied(text)


def narrowed(request: Request, rows: "QuerySet[Row]") -> "QuerySet[Row]":
    """Return those of the rows that the request reaches."""
    grant = grant_of(request)
    return rows if grant is None else grant.narrow(rows)


class IsPermitted(BasePermission):
    """Lets a request pass that has all permissions of its operation; else says what is lacking."""

    message: str | None = None

    def has_permission(self, request: Request, view: Any) -> bool:
        needed = view.needed_permissions()
        if not (request.user and request.user.is_authenticated) or needed is None:
            return False
        said = (lacks(request, one) for one in needed)
        self.message = next(filter(None, said), None)
        return self.message is None
