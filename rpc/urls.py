"""The paths that machines call. `rpc.middleware` takes them before anything made for browsers."""

from collections.abc import Callable, Mapping

from django.contrib.auth.decorators import login_not_required
from django.http import HttpResponseBase
from django.urls import path
from django.views.generic import RedirectView

from rpc.views import CommandEndpoint, CommandPath, DeviceVerifier

verifier = DeviceVerifier.as_view()
commands = CommandEndpoint.as_view()
command_path = CommandPath.as_view()

COMMAND_PREFIX = "/v1/"  # each command has a path of its own below it

# Both spellings answer: a redirect would reach neither protocol's client.
MACHINE_PATHS: Mapping[str, Callable[..., HttpResponseBase]] = {
    "/deviceverifier": verifier,
    "/deviceverifier/": verifier,
    "/": commands,
    "/rpc": commands,
    "/rpc/": commands,
}

urlpatterns = [
    path("", login_not_required(RedirectView.as_view(pattern_name="admin:index"))),
]
