"""Passkeys: django-otp-webauthn's ceremonies, for the host that the browser asked."""

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
from devices import reauthentication

app_name = "otp_webauthn"  # the names that its scripts know its addresses by


class SameOrigin(WebAuthnHelper):
    """Accepts what the browser did for the very origin that this request goes to."""

    def get_allowed_origins(self) -> list[str]:
        """Return that origin."""
        return [f"{self.request.scheme}://{self.request.get_host()}"]


class ForStaff:
    """Lets staff in while second factors are on; to register one they have just logged in."""

    registers = False

    def initial(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """Refuse everybody else."""
        user: Any = request.user
        on = second_factor.demand() is not second_factor.Demand.OFF
        if not (on and user.is_active and user.is_staff):
            raise PermissionDenied
        if self.registers and not reauthentication.is_recent(request):
            raise PermissionDenied
        super().initial(request, *args, **kwargs)  # type: ignore[misc]


class BeginRegistration(ForStaff, BeginCredentialRegistrationView):
    """Starts to register a passkey."""

    registers = True


class CompleteRegistration(ForStaff, CompleteCredentialRegistrationView):
    """Registers it."""

    registers = True


class BeginAuthentication(ForStaff, BeginCredentialAuthenticationView):
    """Starts to ask for a passkey."""


class CompleteAuthentication(ForStaff, CompleteCredentialAuthenticationView):
    """Accepts it as the second factor of the account that gave its password."""

    def complete_auth(self, device: Any) -> None:
        """Note that the second factor was given."""
        super().complete_auth(device)
        if login.password_was_given(self.request):
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
