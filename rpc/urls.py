"""Route what machines call, before anything that is made for browsers."""

from collections.abc import Mapping

from django.contrib.auth.decorators import login_not_required
from django.urls import path
from django.views.generic import RedirectView

from rpc.rtio.views import HubConfiger, JwtIssuer
from rpc.views import CommandEndpoint, CommandPath, DeviceVerifier, MachineView

verifier = DeviceVerifier()
hub_configer = HubConfiger()
jwt_issuer = JwtIssuer()
commands = CommandEndpoint()
commands_in_arrays = CommandEndpoint(as_array=True)
command_path = CommandPath()

# Both spellings answer: a redirect would reach neither protocol's client. Each command has a path
# of its own, too, which `command_path` answers.
MACHINE_PATHS: Mapping[str, MachineView] = {
    "/deviceverifier": verifier,
    "/deviceverifier/": verifier,
    "/hubconfiger": hub_configer,
    "/hubconfiger/": hub_configer,
    "/jwtissuer": jwt_issuer,
    "/jwtissuer/": jwt_issuer,
    "/": commands,
    "/rpc": commands,
    "/rpc/": commands,
    "/rpc/array": commands_in_arrays,
    "/rpc/array/": commands_in_arrays,
}


urlpatterns = [
    path("", login_not_required(RedirectView.as_view(pattern_name="admin:index"))),
]
