"""Middleware for browsers: content security, malformed URLs, length of sessions, history."""

import re
import time
from collections.abc import Callable

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext as _

from authsite.accounts.login import ACTIVE_AT, SIGNED_IN_AT
from devices import history
from devices.admin.base.pages import REASON
from devices.database import confirmation

SESSION_WRITE_SECONDS = 60  # a busy session is written once in so many, not at each request
MALFORMED = re.compile(r"%00|\x00|[0-9]{1000}")  # in a path or a query

# Nothing inline, nothing from elsewhere. `data:` is for the icon of the site.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)


class Middleware:
    """Keep the next middleware or the view, as Django hands it over."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response


class ContentSecurityPolicy(Middleware):
    """Tell browsers to refuse any script, style or request that is not of this site."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response


class RejectMalformedURLs(Middleware):
    """Refuse a URL with a NUL or a number of 1,000 digits: no database holds such a thing.

    Filters of lists pass on what they are given, and each would fail on it.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if MALFORMED.search(request.path_info + "?" + request.META.get("QUERY_STRING", "")):
            raise BadRequest("no such thing can be asked for")
        return self.get_response(request)


class SessionLimits(Middleware):
    """End a session some hours after its login, and extend one that is in use.

    The time without use is the session's own expiry, which each write sets again.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer; as to an anonymous user where the session is over."""
        session, now = request.session, time.time()
        if request.user.is_authenticated:
            if now - session.get(SIGNED_IN_AT, 0) >= settings.STAFF_SESSION_SECONDS:
                logout(request)
            elif now - session.get(ACTIVE_AT, 0) >= SESSION_WRITE_SECONDS:
                session[ACTIVE_AT] = now
        return self.get_response(request)


class RecordHistoryContext(Middleware):
    """Record changes as made in the admin, by the account that is signed in."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer; the account is asked for its name only where something changes."""
        # A form with a file is left unread: where that is kept is its page's to choose.
        has_reason = request.content_type == "application/x-www-form-urlencoded"
        reason = request.POST.get(REASON, "") if has_reason else ""
        with history.origin(history.Origin.ADMIN, user=request.user, reason=reason.strip()):
            return self.get_response(request)


class SayUnconfirmed(Middleware):
    """Tells staff of a change that is committed, and that not every standby has confirmed."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer; the message is on this page, or on the one that it leads to."""
        response = self.get_response(request)
        if confirmation.take_unconfirmed():
            messages.warning(
                request,
                _(
                    "Saved on the primary database, but not confirmed by every standby yet. Until "
                    "it is, a standby may answer from before the change. The log says when it is."
                ),
            )
        return response
