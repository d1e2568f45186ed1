"""Where everything answers: machines at the paths of `rpc.urls`, staff and their programs."""

from django.contrib import admin
from django.urls import include, path

from authsite.accounts.language import choose_language

urlpatterns = [
    path("admin/language/", choose_language, name="choose_language"),
    path("admin/passkeys/", include("authsite.accounts.passkeys")),
    path("admin/sign-on/", include("authsite.accounts.sign_on.urls")),
    path("admin/", admin.site.urls),
    path("api/", include("authsite.api.urls")),
    path("", include("rpc.urls")),
]

# Of pages as Django's own; under /api/v1/ as problem details.
handler400 = "devices.api.base.problems.bad_request"
handler403 = "devices.api.base.problems.permission_denied"
handler404 = "devices.api.base.problems.page_not_found"
handler500 = "devices.api.base.problems.server_error"
