"""What the claims of a provider say of a person."""

import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from authsite.accounts.sign_on.models import Person
from authsite.accounts.sign_on.refusals import MAX_SKEW, Reason, SignOnRefused

MAX_GROUPS = 10_000


def person(claims: Mapping[str, Any]) -> Person:
    """Return the person; the name may be missing, and only a first sign-on needs it."""
    return Person(
        subject=claims["sub"],
        name=_text(claims, settings.OIDC_NAME_CLAIM),
        groups=_groups(claims),
        first_name=_text(claims, "given_name"),
        last_name=_text(claims, "family_name"),
        email=_text(claims, "email"),
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def _groups(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the values of the claim for roles, which may be nested: `realm_access.roles`."""
    found: Any = claims.get(settings.OIDC_ROLES_CLAIM)
    if found is None:
        found = claims
        for name in settings.OIDC_ROLES_CLAIM.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return frozenset({found})
    if not isinstance(found, list):
        return frozenset()
    return frozenset(one for one in found[:MAX_GROUPS] if isinstance(one, str))


def demand_class(claims: Mapping[str, Any], wanted: list[str]) -> None:
    """Raise SignOnRefused unless the `acr` is one of the wanted ones, where any are."""
    if wanted and claims.get("acr") not in wanted:
        raise SignOnRefused(Reason.WEAK, f"acr is {claims.get('acr')!r}, not one of {wanted}")


def has_second_factor(claims: Mapping[str, Any]) -> bool:
    """Whether the provider says, in `amr` or `acr`, that it asked for a second factor."""
    methods = claims.get("amr")
    said = [*(methods if isinstance(methods, list) else []), claims.get("acr")]
    return any(one in settings.OIDC_SECOND_FACTOR for one in said)


def proved_at(claims: Mapping[str, Any]) -> float | None:
    """Return when the person showed the provider who they are, in Unix seconds, if it says so.

    Raises SignOnRefused where that is in the future.
    """
    moment = claims.get("auth_time")
    if isinstance(moment, bool) or not isinstance(moment, int | float):
        return None
    if moment > time.time() + MAX_SKEW:
        raise SignOnRefused(Reason.UNUSABLE_ANSWER, "auth_time is in the future")
    return float(max(0, moment))  # what is no moment at all, such as NaN, is long ago


def demand_fresh(moment: float | None, since: float) -> None:
    """Raise SignOnRefused unless the person showed who they are since then."""
    if moment is None or moment < since - MAX_SKEW:
        raise SignOnRefused(Reason.NOT_FRESH, f"auth_time is {moment}, asked for since {since:.0f}")
