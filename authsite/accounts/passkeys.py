"""Passkeys: the views of django-otp-webauthn, for staff and for the host of the request."""

import json
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
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
from authsite.accounts.events import record_about
from devices.admin.base import reauthentication
from devices.events.kinds import Kind

app_name = "otp_webauthn"  # the names that its scripts know its addresses by


class RequestOriginHelper(WebAuthnHelper):
    """Accept passkeys for the origin of the request only."""

    def get_allowed_origins(self) -> list[str]:
        return [f"{self.request.scheme}://{self.request.get_host()}"]


class StaffOnlyMixin:
    """Allow staff only, while second factors are on; registering one needs a recent login."""

    needs_recent_login = False

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer; the views of the package fail on JSON that cannot be read."""
        try:
            if request.content_type == "application/json":
                json.loads(request.body or b"{}")
        except (ValueError, RecursionError):
            return HttpResponse(status=HTTPStatus.BAD_REQUEST)
        answer: HttpResponseBase = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        return answer

    def initial(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        user: Any = request.user
        if not (second_factor.is_on() and user.is_active and user.is_staff):
            raise PermissionDenied
        if self.needs_recent_login and not reauthentication.is_recent(request):
            raise PermissionDenied
        super().initial(request, *args, **kwargs)  # type: ignore[misc]


class RegistrationMixin(StaffOnlyMixin):
    """Register a passkey where the account has given its second factor, or has none to give."""

    needs_recent_login = True

    def user_is_mfa_enrolled(self, user: Any) -> bool:
        """Whether it is still to be given; a provider may have asked for one."""
        request: Any = self.request  # type: ignore[attr-defined]
        return second_factor.is_enrolled(user) and not second_factor.is_given(request)


class BeginRegistration(RegistrationMixin, BeginCredentialRegistrationView):
    pass


class CompleteRegistration(RegistrationMixin, CompleteCredentialRegistrationView):
    """Register a passkey, which counts as given: the session goes on under a new key."""

    def post(self, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with transaction.atomic():
            answer: HttpResponseBase = super().post(*args, **kwargs)
            # What is refused raises an error above.
            user: Any = self.request.user
            record_about(Kind.ACCOUNT_SECOND_FACTOR_ADDED, user, factor=second_factor.PASSKEY)
        login.renew_session(self.request)
        return answer


class BeginAuthentication(StaffOnlyMixin, BeginCredentialAuthenticationView):
    """Start the verification of a passkey."""


class CompleteAuthentication(StaffOnlyMixin, CompleteCredentialAuthenticationView):
    """Verify a passkey as the second factor of the account that gave its password."""

    def complete_auth(self, device: Any) -> None:
        login.record_second_factor(self.request, device)


VIEWS: dict[str, tuple[Any, str]] = {
    "registration/begin/": (BeginRegistration, "credential-registration-begin"),
    "registration/complete/": (CompleteRegistration, "credential-registration-complete"),
    "authentication/begin/": (BeginAuthentication, "credential-authentication-begin"),
    "authentication/complete/": (CompleteAuthentication, "credential-authentication-complete"),
}
texts = JavaScriptCatalog.as_view(packages=["django_otp_webauthn"])
urlpatterns = [
    *(path(route, view.as_view(), name=name) for route, (view, name) in VIEWS.items()),
    path("jsi18n/", texts, name="js-i18n-catalog"),
]
