"""The short way of a machine's request through WSGI.

What Django does around each request (signals, script prefix, URL resolution, the chain of
middleware) costs as much as a verification, and machines need none of it.
"""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import cast
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse

from rpc.places import Body, Places

STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class MachineFastPath:
    """A WSGI application: machines' requests go straight to their view, the others to Django.

    `rpc.middleware` is the same door where Django's handler is asked by itself.
    """

    def __init__(self, django: WSGIApplication) -> None:
        from rpc.urls import machine_view

        self.django = django
        self.machine_view = machine_view
        self.places = Places(settings.THREADS)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        view = self.machine_view(environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""))
        body = environ["wsgi.input"] = Body(environ["wsgi.input"], self.places)
        try:
            if view is None:
                return self._for_browser(environ, start_response)
            answer = view(WSGIRequest(environ))
            if body.place.errors_occurred:
                body.place.close_if_unusable_or_obsolete()
        finally:
            body.leave()
        start_response(STATUS_LINES[answer.status_code], list(answer.headers.items()))
        return [answer.content]

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


def _stream(response: StreamingHttpResponse) -> Iterator[bytes]:
    """Send a response as slowly as its reader likes: what it queries, it queries by itself."""
    try:
        yield from cast("Iterator[bytes]", response)
    finally:
        response.close()
        connection.close()
