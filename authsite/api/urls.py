"""Route the management API, its document and its page."""

from django.urls import include, path

from authsite.api import document
from authsite.api.accounts import AccountViewSet, RoleViewSet, ServiceAccountViewSet, TokenViewSet
from devices.api.base.problems import nothing_here
from devices.api.base.views import router

router.register("accounts", AccountViewSet)
router.register("roles", RoleViewSet)
router.register("service-accounts", ServiceAccountViewSet)
router.register("tokens", TokenViewSet)

urlpatterns = [
    path("", document.page, name="api"),
    path("openapi.json", document.openapi, name="openapi"),
    path("v1/openapi.json", document.openapi),
    path("v1/", include("rpc.api.urls")),
    path("v1/", include("acl.api.urls")),
    path("v1/", include("devices.api.urls")),  # last: it answers whatever is left
    path("v1", nothing_here),
]
