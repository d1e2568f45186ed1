"""The project's paths and two empty views: what Django, the server and the network cost alone.

`/empty` is an ordinary Django view, behind the project's middleware. `/bare` is the same one in the
place of the machine endpoints, before the middleware for browsers.
"""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import path

from authsite import urls
from rpc.middleware import MachineEndpoints


@login_not_required
def empty(_request: HttpRequest) -> HttpResponse:
    """Answer nothing."""
    return HttpResponse(headers={"Content-Length": "0"})


class MachineEndpointsAndBare(MachineEndpoints):
    """The project's outermost middleware, with one more path."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the one more path."""
        return empty(request) if request.path_info == "/bare" else super().__call__(request)


urlpatterns = [path("empty", empty), *urls.urlpatterns]
