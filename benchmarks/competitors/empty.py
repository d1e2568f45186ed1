"""An empty Django view, with its settings: what a server and Django cost without this project."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

SECRET_KEY = "of a benchmark"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__


def empty(_request: HttpRequest) -> HttpResponse:
    """Answer what is always the same."""
    return HttpResponse(b'{"id":0,"code":"OK"}', headers={"Content-Length": "20"})


urlpatterns = [path("empty", empty)]
