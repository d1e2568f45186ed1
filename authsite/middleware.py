"""What the admin does around each of its requests."""

import re
import time
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import SESSION_KEY, logout
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponseBase

from authsite.accounts.login import ACTIVE_AT, SIGNED_IN_AT
from devices import history

REASON = "_change_reason"  # beside the buttons that save: templates/admin/change_reason.html
NOTED_EVERY = 60  # seconds: a busy session is written once in so many, not at each request
UNHEARD_OF = re.compile(r"%00|\x00|[0-9]{1000}")  # in an address


class RejectMalformedURLs:
    """Refuses an address that asks for what no database holds: a NUL, a number of 1,000 digits.

    Filters of lists hand on what they are given, and each would fail on it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer with 400, or pass the request on."""
        if UNHEARD_OF.search(request.path_info + "?" + request.META.get("QUERY_STRING", "")):
            raise BadRequest("no such thing can be asked for")
        return self.get_response(request)


class SessionLimits:
    """Ends a session that is old, and lets one that is used go on.

    The time without use is counted by the session's own expiry, which each write sets anew.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer; as nobody where the session is over."""
        session, now = request.session, time.time()
        if SESSION_KEY in session:
            if now - session.get(SIGNED_IN_AT, 0) >= settings.STAFF_SESSION_SECONDS:
                logout(request)
            elif now - session.get(ACTIVE_AT, 0) >= NOTED_EVERY:
                session[ACTIVE_AT] = now
        return self.get_response(request)


class RecordHistoryContext:
    """Has changes recorded as made in the admin, by the account that is signed in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer; the account is asked for its name only where something changes."""
        # A form with a file is left unread: where that is kept is its page's to choose.
        has_reason = request.content_type == "application/x-www-form-urlencoded"
        reason = request.POST.get(REASON, "") if has_reason else ""
        with history.origin(history.Origin.ADMIN, user=request.user, reason=reason.strip()):
            return self.get_response(request)
