"""Route the management API, its document and its page."""

from django.urls import include, path

from authsite.api import document

urlpatterns = [
    path("", document.page, name="api"),
    path("openapi.json", document.openapi, name="openapi"),
    path("v1/openapi.json", document.openapi),
    path("v1/", include("rpc.api.urls")),
    path("v1/", include("acl.api.urls")),
    path("v1/", include("devices.api.urls")),  # last: it answers whatever is left
]
