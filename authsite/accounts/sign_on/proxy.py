"""Staff whom a trusted proxy has signed on already, and names in a header."""

import logging
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponseBase

from authsite.accounts import login, second_factor
from authsite.accounts.sign_on import sessions
from authsite.accounts.sign_on.models import ExternalIdentity, Person
from authsite.accounts.sign_on.refusals import Reason, SignOnRefused
from authsite.accounts.sign_on.views import refused
from devices.admin.base import reauthentication
from rpc.authentication import is_within

logger = logging.getLogger("authsite.sign_on")

PAGES = "/admin/"  # nothing else has sessions


class ProxySignOn:
    """Signs on whom the header names, and ends the session when it names somebody else, or nobody.

    Sessions that began with a password of this registry are left alone.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if not settings.PROXY_USER_HEADER:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(PAGES):
            try:
                _sign_on(request)
            except SignOnRefused as refusal:
                request.user = AnonymousUser()  # the proxy says so, whatever the session says
                return refused(request, refusal).render()
        return self.get_response(request)


def _sign_on(request: HttpRequest) -> None:
    name = _header(request, settings.PROXY_USER_HEADER)
    if sessions.source(request) is sessions.Source.PROXY and (
        name != request.session.get(sessions.SUBJECT)
    ):
        logout(request)
    if not name or request.user.is_authenticated:
        return
    if "," in name:  # two headers, which a server joins
        raise SignOnRefused(Reason.NO_NAME, f"the proxy names more than one: {name[:200]!r}")
    groups = _header(request, settings.PROXY_GROUPS_HEADER).split(",")
    person = Person(name, name, frozenset(group.strip() for group in groups) - {""})
    user = ExternalIdentity.objects.sign_on(
        ExternalIdentity.Source.PROXY, "", person, settings.PROXY_ROLES
    )
    sessions.begin(request, user, sessions.Source.PROXY, subject=name)
    # A proxy asks nobody again: the second factor confirms, and who has none yet sets one up.
    login.record_password(request)
    if second_factor.is_on() and not second_factor.is_enrolled(user):
        reauthentication.confirm(request)
    logger.info("%r was signed on by the proxy", user.get_username())


def _header(request: HttpRequest, header: str) -> str:
    """Return what a configured proxy says in a header; "" where it or anybody else says nothing."""
    value = request.META.get("HTTP_" + header.upper(), "").strip() if header else ""
    if not value:
        return ""
    if not is_within(request.META.get("REMOTE_ADDR") or "", settings.TRUSTED_PROXIES):
        logger.warning("%s came from %s, no proxy of ours", header, login.client_address(request))
        return ""
    try:
        return str(value.encode("latin-1").decode())  # a server hands bytes on as Latin-1
    except UnicodeError:
        raise SignOnRefused(Reason.NO_NAME, f"{header} is no UTF-8") from None
