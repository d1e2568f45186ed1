"""Middleware for browsers: content security, malformed URLs, length of sessions, history."""

import logging
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import logout
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.messages.storage.cookie import CookieStorage
from django.core.exceptions import BadRequest, MiddlewareNotUsed
from django.db import connection
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.utils.translation import gettext as _

from authsite.accounts.login import ACTIVE_AT, SIGNED_IN_AT
from devices import history
from devices.admin.base.pages import (
    REASON,
    drop_messages,
    say_not_saved,
    site_page,
    typed_reason,
)
from devices.api.base.problems import is_api
from devices.database import confirmation
from devices.database.conflicts import conflict_text
from devices.history.context import ReasonTooLong, check_reason
from devices.values.forms import check_form

SESSION_WRITE_SECONDS = 60  # a busy session is written once in so many, not at each request
SECRET = re.compile("secret|password", re.IGNORECASE)  # names of fields that are never sent back
MALFORMED = re.compile(r"%00|\x00|[0-9]{1000}")  # in a path or a query

# Nothing inline, nothing from elsewhere. `data:` is for the icon of the site.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)

log = logging.getLogger(__name__)


class Middleware:
    """Keep the next middleware or the view, as Django hands it over."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)


class ContentSecurityPolicy(Middleware):
    """Tell browsers to refuse any script, style or request that is not of this site."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response


class RejectMalformed(Middleware):
    """Refuse a URL with a NUL or a number of 1,000 digits: no database holds such a thing.

    Filters of lists pass on what they are given, and each would fail on it. Refuse, too, a form
    that is cut off, or whose parts have headers that Python fails on, before its token is looked
    for.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if MALFORMED.search(request.path_info + "?" + request.META.get("QUERY_STRING", "")):
            raise BadRequest("no such thing can be asked for")
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], *_given: Any
    ) -> HttpResponseBase | None:
        """Read a form, but for a page that chooses where a file in it is kept."""
        if not getattr(view, "csrf_exempt", False):
            check_form(request)
        return None


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


class RequireLogin(LoginRequiredMiddleware):
    """Lead to the login whoever is not logged in; say that a form that was sent is not saved."""

    def handle_no_permission(
        self, request: HttpRequest, view_func: Callable[..., Any]
    ) -> HttpResponseRedirect:
        # It is said in place of what waits: more than the cookie holds would make a session's row.
        request.COOKIES.pop(CookieStorage.cookie_name, None)
        say_not_saved(request)
        return super().handle_no_permission(request, view_func)


class RecordHistoryContext(Middleware):
    """Record changes as made in the admin, by the account that is signed in.

    A reason that is too long comes back on a page of its own, with all that was sent but secrets.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer; name and reason are looked up only where something changes.

        By then a page has read its form: where a file in it is kept is the page's to choose.
        """
        with history.origin(
            history.Origin.ADMIN, user=request.user, reason=partial(typed_reason, request)
        ):
            return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], *_given: Any
    ) -> HttpResponseBase | None:
        """Ask for a shorter reason before anything is done.

        Django calls this once it has found, in the form, the token that says that one of our pages
        sent it. A page that looks for the token itself has not read its form yet.
        """
        if request.user.is_authenticated and not getattr(view, "csrf_exempt", False):
            try:
                check_reason(typed_reason(request))
            except ReasonTooLong as error:
                return self._ask_again(request, error)
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """Ask for a shorter reason where a page put its own words before it."""
        return self._ask_again(request, error) if isinstance(error, ReasonTooLong) else None

    @staticmethod
    def _ask_again(request: HttpRequest, error: ReasonTooLong) -> HttpResponseBase:
        sent = [
            (name, value)
            for name, values in request.POST.lists()
            if name not in {REASON, "csrfmiddlewaretoken"} and not SECRET.search(name)
            for value in values
            if "PRIVATE KEY" not in value
        ]
        return site_page(
            admin.site,
            request,
            "admin/reason_too_long.html",
            title=_("The reason is too long"),
            fault=" ".join(error.messages),
            sent=sent,
            why=typed_reason(request),
        )


class SayConflicts(Middleware):
    """Tells staff of a change that failed since others changed the same at that moment."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """Show the page again that asked for it: as it is now."""
        text = conflict_text(error)
        if request.method != "POST" or is_api(request) or text is None:
            return None
        log.warning("a change met another one at %s: %r", request.path, error)
        drop_messages(request)
        messages.error(request, text)
        return HttpResponseRedirect(request.get_full_path())


class SayUnconfirmed(Middleware):
    """Tells staff of a change that is committed, and that not every standby has confirmed."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if connection.vendor != "postgresql":  # no other database has standbys
            raise MiddlewareNotUsed
        super().__init__(get_response)

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
