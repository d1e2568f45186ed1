"""Machines go straight to their view; what is made for browsers never sees their requests.

Sessions, CSRF, the redirect to https and the check of the Host header would cost time there, and
would answer in HTML what RTIO and the Cesanta clients can only read as JSON.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase


class MachineEndpoints:
    """The outermost middleware, for what asks Django without `rpc.wsgi`: its test client."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        from rpc.urls import machine_view

        self.get_response = get_response
        self.machine_view = machine_view

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer a machine's request, or pass a browser's on."""
        view = self.machine_view(request.method or "", request.path_info)
        return self.get_response(request) if view is None else view(request)
