"""The short way of a machine's request through WSGI.

What Django does around each request (signals, script prefix, URL resolution, the chain of
middleware) costs as much as a verification, and machines need none of it.
"""

from collections.abc import Iterable
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.core.handlers.wsgi import WSGIRequest
from django.db import connection

from rpc.senders import Body

STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class MachinesFirst:
    """A WSGI application: machines' requests go straight to their view, the others to Django.

    `rpc.middleware` is the same door where Django's handler is asked by itself.
    """

    def __init__(self, django: WSGIApplication) -> None:
        from rpc.urls import machine_view

        self.django = django
        self.machine_view = machine_view

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        environ["wsgi.input"] = Body(environ["wsgi.input"])
        view = self.machine_view(environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""))
        if view is None:
            return self.django(environ, start_response)
        response = view(WSGIRequest(environ))
        if connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()
        start_response(STATUS_LINES[response.status_code], list(response.headers.items()))
        return [response.content]
