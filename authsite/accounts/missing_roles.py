"""Which role would open a page that was refused."""

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.http import HttpRequest

MAX_REMEMBERED = 3  # permissions; a page that whoever may change it may see asks for three
DENIED = "denied_permissions"  # of an account, as it was loaded for a request


class DeniedPermissions:
    """An authentication backend that is asked last, and so for what all others denied only.

    The admin refuses without saying which permission was missing: what was asked for last.
    """

    def authenticate(self, _request: HttpRequest | None, **_credentials: Any) -> None:
        """Authenticate nobody."""

    def has_perm(self, user: Any, permission: str, _obj: object = None) -> bool:
        earlier = getattr(user, DENIED, ())
        setattr(user, DENIED, (*earlier, permission)[-MAX_REMEMBERED:])
        return False


def missing(user: Any) -> dict[str, list[str]] | None:
    """Return the `roles` of which one would have been enough, and the account's `own`.

    None where that is not known; no roles where only a superuser may.
    """
    denied: tuple[str, ...] = getattr(user, DENIED, ())
    if not denied:
        return None
    # Who may change rows may see them: where both were asked for, to see them is enough.
    permission = denied[-1]
    seen = permission.replace(".change_", ".view_")
    if seen in denied:
        permission = seen
    app, _dot, codename = permission.partition(".")
    wanted = Permission.objects.filter(content_type__app_label=app, codename=codename)
    roles = Group.objects.filter(permissions__in=wanted).distinct()
    return {
        "roles": [role.name for role in roles.order_by("name")],
        "own": [role.name for role in user.groups.order_by("name")],
    }
