"""Answer health checks and metrics, and give each other request an id.

Health is answered before a slot is taken, never redirects, and asks nobody for a credential.
"""

from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.conf import settings

from authsite.operations import metrics
from authsite.operations.health import Readiness, State
from devices.telemetry import request_id
from rpc.authentication import RequestIds, is_within, source_address

HEADER = "X-Request-Id"
READING = frozenset({"GET", "HEAD"})
METRICS = "/metrics"
TEXT = "text/plain; charset=utf-8"

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
Page = Callable[[WSGIEnvironment], tuple[HTTPStatus, bytes]]


class Operations:
    """A WSGI application around the one that answers all that is not about operating it."""

    def __init__(self, application: WSGIApplication, readiness: Readiness) -> None:
        self._application = application
        self._readiness = readiness
        self._pages: dict[str, Page] = {"/livez": self._live, "/readyz": self._ready}
        if settings.METRICS_NETWORKS:
            self._pages[METRICS] = self._metrics
        self.ids = RequestIds()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, under an id that its answer and its log lines name."""
        if page := self._pages.get(environ["PATH_INFO"]):
            request_id.set("")
            return _answer(page, environ, start_response)
        current = self.ids.of(environ)
        request_id.set(current)
        return self._application(environ, partial(_start, start_response, current))

    @staticmethod
    def _live(_environ: WSGIEnvironment) -> tuple[HTTPStatus, bytes]:
        """Say that this process runs: it takes no slot and asks no database."""
        return HTTPStatus.OK, b"ok\n"

    def _ready(self, _environ: WSGIEnvironment) -> tuple[HTTPStatus, bytes]:
        """Say whether this process should be sent requests."""
        state = self._readiness.state()
        unavailable = state is State.UNAVAILABLE
        status = HTTPStatus.SERVICE_UNAVAILABLE if unavailable else HTTPStatus.OK
        return status, f"{state}\n".encode()

    @staticmethod
    def _metrics(environ: WSGIEnvironment) -> tuple[HTTPStatus, bytes]:
        """Tell METRICS_NETWORKS what is counted; others that there is no such page."""
        if is_within(source_address(environ) or "", settings.METRICS_NETWORKS):
            return HTTPStatus.OK, metrics.exposition()
        return HTTPStatus.NOT_FOUND, b"not found\n"


def _start(
    start_response: StartResponse,
    current: str,
    status: str,
    headers: list[tuple[str, str]],
    exc_info: ExcInfo | None = None,
) -> Any:
    return start_response(status, [*headers, (HEADER, current)], exc_info)


def _answer(page: Page, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    headers = [("Cache-Control", "no-store")]
    if environ["REQUEST_METHOD"] in READING:
        status, body = page(environ)
    else:
        status, body = HTTPStatus.METHOD_NOT_ALLOWED, b"method not allowed\n"
        headers.append(("Allow", "GET, HEAD"))
    is_exposition = environ["PATH_INFO"] == METRICS and status is HTTPStatus.OK
    headers.append(("Content-Type", metrics.MEDIA_TYPE if is_exposition else TEXT))
    headers.append(("Content-Length", str(len(body))))
    start_response(f"{status.value} {status.phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
