"""Where everything answers: machines at the paths of `rpc.urls`, staff under `/admin/`."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/passkeys/", include("authsite.accounts.passkeys")),
    path("admin/", admin.site.urls),
    path("", include("rpc.urls")),
]
