"""Login of staff: password hashing, counting of failures, lock-out, start of a session."""

import math
import time
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from axes.models import AccessAttempt
from axes.utils import reset
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.db.models import QuerySet
from django.db.models.signals import pre_save
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import rotate_token
from django.utils import timezone
from django.utils.translation import gettext as _
from django_otp import login as otp_login

from authsite.accounts import second_factor
from devices.admin.base import reauthentication
from devices.admin.base.pages import site_page
from devices.values.text import is_blank
from rpc.authentication import source_address

SIGNED_IN_AT = "signed_in_at"  # in a session, like what follows: Unix seconds
ACTIVE_AT = "active_at"
RENEWED = "renewed"  # whether it has new CSRF tokens since its second factor was given
PASSWORD_AT = "password_at"  # noqa: S105 (the name of a moment)
BEGAN_FROM = "began_from"  # an address, or nothing where that is not certain
BROWSER = "browser"
IPV6_PREFIX = 64  # what one Internet connection has of IPv6 addresses
MAX_BROWSER = 60  # characters of a browser that is not known
# What is in a `User-Agent`, in this order: Edge says that it is Chrome, and Chrome Safari.
BROWSERS = {
    "Edg": "Edge",
    "OPR": "Opera",
    "Firefox": "Firefox",
    "FxiOS": "Firefox",
    "Chrome": "Chrome",
    "CriOS": "Chrome",
    "Safari": "Safari",
}
SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "CrOS": "ChromeOS",
    "Mac OS X": "macOS",
    "Linux": "Linux",
}


class StaffHasher(Argon2PasswordHasher):
    """Argon2id at the minimum cost that OWASP recommends: 19 MiB, 2 passes.

    Django's own 100 MiB, times the threads of a process, would let guesses at the login page take
    the memory that the machine endpoints need.
    """

    time_cost = 2
    memory_cost = 19 * 1024
    parallelism = 1


def client_address(request: HttpRequest) -> str | None:
    """Return the address that failures are counted for, beside the name; of IPv6, the /64.

    It is the peer's where the forwarding headers leave it uncertain.
    """
    for address in (source_address(request.META), request.META.get("REMOTE_ADDR")):
        parsed = _parsed(address)
        if isinstance(parsed, IPv6Address):
            return str(ip_network((parsed, IPV6_PREFIX), strict=False).network_address)
        if parsed is not None:
            return str(parsed)
    return None


def _parsed(address: str | None) -> IPv4Address | IPv6Address | None:
    """Return an address, as one of IPv4 where IPv6 holds one; None for any other text."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        return parsed.ipv4_mapped or IPv6Address(int(parsed))  # without a zone: that is any text
    return parsed


def whole_address(request: HttpRequest) -> str | None:
    """Return the address that a request really comes from, or None where that is not certain."""
    parsed = _parsed(source_address(request.META))
    return None if parsed is None else str(parsed)


def browser_name(request: HttpRequest) -> str:
    """Return browser and system in plain words, or the beginning of what an unknown one sends."""
    sent = "".join(char for char in request.headers.get("User-Agent", "") if not is_blank(char))
    browser, system = (
        next((name for mark, name in names.items() if mark in sent), None)
        for names in (BROWSERS, SYSTEMS)
    )
    return f"{browser} ({system})" if browser and system else sent[:MAX_BROWSER]


def lockout_response(request: HttpRequest, *_details: object) -> HttpResponse:
    """Return the page of a lock-out, which says how long to wait."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    return site_page(
        admin.site,
        request,
        "admin/locked_out.html",
        title=_("Too many failed logins"),
        minutes=math.ceil(seconds / 60),
        status=429,
        headers={"Retry-After": str(seconds), "Cache-Control": "no-store"},
    ).render()


@receiver(pre_save, sender=AccessAttempt)
def keep_nothing_typed(*, instance: AccessAttempt, **_signal: object) -> None:
    """Keep of a failure who and from where, and nothing that was sent with it.

    django-axes keeps whole forms but for fields that settings name: on the page for a new password
    that was the old one as it was typed, and the new one.
    """
    instance.get_data = instance.post_data = ""


def lockouts() -> QuerySet[AccessAttempt]:
    """Return the failures that lock a name out now, from one address each."""
    since = timezone.now() - settings.AXES_COOLOFF_TIME
    found: QuerySet[AccessAttempt] = AccessAttempt.objects.filter(
        failures_since_start__gte=settings.AXES_FAILURE_LIMIT, attempt_time__gte=since
    )
    return found


def unlock(user: Any) -> bool:
    """Forget an account's failures, from every address; return whether there were any.

    Wrong codes make the next one wait, whoever gives it: that wait ends, too.
    """
    waited = second_factor.end_waits(user)
    return bool(reset(username=user.get_username())) or waited


def forget_failures(request: HttpRequest, user: Any) -> None:
    """Reset the count of failures: password and second factor were given."""
    reset(username=user.get_username(), ip=client_address(request))


def record_password(request: HttpRequest) -> None:
    request.session[PASSWORD_AT] = time.time()


def renew_session(request: HttpRequest) -> None:
    """Give a session in which a second factor was just given a new key, and new CSRF tokens.

    Whoever had those from before, with the password alone, has nothing. Where it is given again the
    tokens stay: forms that lie open in other tabs are still accepted.
    """
    request.session.cycle_key()
    if not request.session.get(RENEWED):
        rotate_token(request)
        request.session[RENEWED] = True


def record_second_factor(request: HttpRequest, factor: Any) -> None:
    """Record that the account's second factor was just given, after its password."""
    otp_login(request, factor)
    renew_session(request)
    forget_failures(request, request.user)
    given: float = request.session.get(PASSWORD_AT, 0)
    if 0 <= time.time() - given < settings.STAFF_CONFIRM_SECONDS:
        reauthentication.confirm(request)


@receiver(user_logged_in)
def begin_session(*, request: HttpRequest, user: User, **_signal: object) -> None:
    """Record when a session began, in which browser and from where, for *My sessions*.

    Failures go on counting while a second factor is missing, so that the password does not buy
    five more codes.
    """
    if not second_factor.is_enrolled(user):
        forget_failures(request, user)
    request.session[SIGNED_IN_AT] = request.session[ACTIVE_AT] = time.time()
    request.session[BROWSER] = browser_name(request)
    request.session[BEGAN_FROM] = whole_address(request)
    record_password(request)
