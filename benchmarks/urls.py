"""The project's paths and `/empty`: what Django, the server and the network cost by themselves."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from authsite import urls


def empty(_request: HttpRequest) -> HttpResponse:
    """Answer nothing."""
    return HttpResponse(headers={"Content-Length": "0"})


urlpatterns = [path("empty", empty), *urls.urlpatterns]
