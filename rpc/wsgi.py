"""The WSGI application, with a fast path for machines.

What Django does around each request (signals, script prefix, URL resolution, the chain of
middleware) costs as much as a verification, and machines need none of it: sessions, CSRF, the
redirect to https and the check of the Host header would answer in HTML what RTIO and the Cesanta
clients can only read as JSON.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from wsgiref.types import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.db import DEFAULT_DB_ALIAS, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from devices.database.answers import ANSWERS
from devices.database.slots import SLOTS, NoSlotError, Slots, released

if TYPE_CHECKING:
    from rpc.views import MachineView

COMMAND_PREFIX = "/v1/"  # each command has a path of its own below it
BROWSERS = frozenset({"GET", "HEAD"})
BOUNDARY = re.compile(r""";[ \t]*boundary=("[^"]+"|[^;"\s]+)""", re.IGNORECASE)
STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

# Seconds that a request waits for a slot. RTIO waits 5 s in all, a browser's user for longer.
MACHINE_WAIT = 1.0
STAFF_WAIT = 5.0
STAFF_DEADLINE = 120.0  # of one statement
MAX_READ_AHEAD = 64 * 1024  # bytes of a browser's body
# What ends a machine's statement on PostgreSQL, in milliseconds, before its deadline does.
SESSION: Mapping[str, str | int] = {
    "lock_timeout": 1000,
    "statement_timeout": 1250,
    "plan_cache_mode": "force_generic_plan",
}


def machine_views() -> "Callable[[str, str], MachineView | None]":
    """Return the function that finds the view of a machine's request by its method and path.

    A GET of `/` comes from a browser, and has none.
    """
    from rpc.urls import MACHINE_PATHS, command_path  # the views need the apps to be loaded

    def view_of(method: str, path: str) -> "MachineView | None":
        view = MACHINE_PATHS.get(path)
        if view is None:
            return command_path if path.startswith(COMMAND_PREFIX) else None
        return None if path == "/" and method in BROWSERS else view

    return view_of


class MachineFastPath:
    """A WSGI application: machines' requests go straight to their view, the others to Django."""

    def __init__(self, django: WSGIApplication) -> None:
        self.django = django
        self._view_of = machine_views()
        session = None if settings.DATABASE_POOLER else SESSION
        aliases = [alias for alias in (DEFAULT_DB_ALIAS, ANSWERS) if alias in settings.DATABASES]
        self.machines = Slots(
            settings.THREADS, max_wait=MACHINE_WAIT, session=session, aliases=aliases
        )
        self.staff = Slots(
            max(1, settings.THREADS // 2), max_wait=STAFF_WAIT, deadline=STAFF_DEADLINE
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        view = self._view_of(environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""))
        if view is None:
            _keep_plain_type(environ)
            _read_ahead(environ)
            try:
                with self.staff:
                    return self._for_browser(environ, start_response)
            except NoSlotError:
                page = too_busy(WSGIRequest(environ))
            start_response(STATUS_LINES[page.status_code], list(page.headers.items()))
            return [page.content]
        environ[SLOTS] = self.machines
        reply = view.respond(environ)
        start_response(STATUS_LINES[reply.status], reply.headers)
        return [reply.body]

    def _for_browser(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        response = cast(
            "HttpResponse | StreamingHttpResponse", self.django(environ, start_response)
        )
        if isinstance(response, StreamingHttpResponse):
            return _stream(response)
        response.close()  # it has signals that look after the connection
        return [response.content]


class MachineEndpoints:
    """The same path as a middleware, for what asks Django's handler by itself: its test client."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self._view_of = machine_views()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        view = self._view_of(request.method or "", request.path_info)
        return self.get_response(request) if view is None else view.dispatch(request)


class Body(io.IOBase):
    """A browser's `wsgi.input`: whoever waits for it has no slot meanwhile."""

    def __init__(self, stream: InputStream, announced: int = 0) -> None:
        """Read a stream that a request announces so many bytes of."""
        self._stream = stream
        self._left = announced

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer only where the body ends.

        Raises ConnectionError where it ends before what was announced: Django takes what came of a
        form for all of it, and would save a part.
        """
        with released():
            part = self._stream.read(size)
        self._left -= len(part)
        if len(part) < size and self._left > 0:
            raise ConnectionError("the body was not sent to its end")
        return part


def _keep_plain_type(environ: WSGIEnvironment) -> None:
    """Leave nothing of a Content-Type but the type, and where parts of a form end.

    Django reads queries and forms in the charset that it names, and fails outside of every handler
    where that is none of texts (`rot13`), or on parameters that nobody sends. All are UTF-8.
    """
    kind, semicolon, parameters = (environ.get("CONTENT_TYPE") or "").partition(";")
    if semicolon:
        boundary = BOUNDARY.search(";" + parameters)
        environ["CONTENT_TYPE"] = kind.strip() + (boundary[0] if boundary else "")


def _read_ahead(environ: WSGIEnvironment) -> None:
    """Read a form before a slot is held; an upload is read while its slot is left to others."""
    length = environ.get("CONTENT_LENGTH") or "0"
    announced = int(length) if length.isdecimal() else 0
    stream = environ["wsgi.input"]
    if announced <= MAX_READ_AHEAD:
        read = stream.read(announced)
        stream = io.BytesIO(read)
        if len(read) == announced:
            environ["wsgi.input"] = stream
            return
    environ["wsgi.input"] = Body(stream, announced)


def _stream(response: StreamingHttpResponse) -> Iterator[bytes]:
    """Send a response as slowly as its reader likes: what it queries, it queries by itself."""
    try:
        yield from cast("Iterator[bytes]", response)
    finally:
        response.close()
        connection.close()


def too_busy(request: HttpRequest) -> HttpResponse:
    """Return the page for staff when all their slots stay taken; it asks the database nothing."""
    from devices.api.base import problems  # which needs the apps to be loaded

    return problems.unavailable(request, "503.html")
