"""Machines go straight to their view; what is made for browsers never sees their requests.

Sessions, CSRF, the redirect to https and the check of the Host header would cost time there, and
would answer in HTML what RTIO and the Cesanta clients can only read as JSON.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

BROWSERS = frozenset({"GET", "HEAD"})


class MachineEndpoints:
    """The outermost middleware: hands the machine paths to their views."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        from rpc.urls import COMMAND_PREFIX, MACHINE_PATHS, command_path

        self.get_response = get_response
        self.views = MACHINE_PATHS
        self.command_path = command_path
        self.command_prefix = COMMAND_PREFIX

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer a machine's request; a browser's GET of `/` is a person looking for the admin."""
        path = request.path_info
        view = self.views.get(path)
        if view is None and path.startswith(self.command_prefix):
            view = self.command_path
        if view is None or (path == "/" and request.method in BROWSERS):
            return self.get_response(request)
        return view(request)
