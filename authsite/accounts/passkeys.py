"""Passkeys: the views of django-otp-webauthn, for staff and for the host of the request."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.urls import path
from django.views.i18n import JavaScriptCatalog
from django_otp_webauthn.helpers import WebAuthnHelper
from django_otp_webauthn.views import (
    BeginCredentialAuthenticationView,
    BeginCredentialRegistrationView,
    CompleteCredentialAuthenticationView,
    CompleteCredentialRegistrationView,
)

from authsite.accounts import login, second_factor
from devices.admin.base import reauthentication

app_name = "otp_webauthn"  # the names that its scripts know its addresses by


class RequestOriginHelper(WebAuthnHelper):
    """Accept passkeys for the origin of the request only."""

    def get_allowed_origins(self) -> list[str]:
        return [f"{self.request.scheme}://{self.request.get_host()}"]


class StaffOnlyMixin:
    """Allow staff only, while second factors are on; registering one needs a recent login."""

    needs_recent_login = False

    def initial(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        user: Any = request.user
        on = second_factor.policy() is not second_factor.Policy.OFF
        if not (on and user.is_active and user.is_staff):
            raise PermissionDenied
        if self.needs_recent_login and not reauthentication.is_recent(request):
            raise PermissionDenied
        super().initial(request, *args, **kwargs)  # type: ignore[misc]


class BeginRegistration(StaffOnlyMixin, BeginCredentialRegistrationView):
    needs_recent_login = True


class CompleteRegistration(StaffOnlyMixin, CompleteCredentialRegistrationView):
    needs_recent_login = True


class BeginAuthentication(StaffOnlyMixin, BeginCredentialAuthenticationView):
    """Start the verification of a passkey."""


class CompleteAuthentication(StaffOnlyMixin, CompleteCredentialAuthenticationView):
    """Verify a passkey as the second factor of the account that gave its password."""

    def complete_auth(self, device: Any) -> None:
        super().complete_auth(device)
        login.forget_failures(self.request, self.request.user)
        if login.password_is_recent(self.request):
            reauthentication.confirm(self.request)


urlpatterns = [
    path("registration/begin/", BeginRegistration.as_view(), name="credential-registration-begin"),
    path(
        "registration/complete/",
        CompleteRegistration.as_view(),
        name="credential-registration-complete",
    ),
    path(
        "authentication/begin/",
        BeginAuthentication.as_view(),
        name="credential-authentication-begin",
    ),
    path(
        "authentication/complete/",
        CompleteAuthentication.as_view(),
        name="credential-authentication-complete",
    ),
    path(
        "jsi18n/",
        JavaScriptCatalog.as_view(packages=["django_otp_webauthn"]),
        name="js-i18n-catalog",
    ),
]
