"""Signing on by OpenID Connect, confirming by it, and signing out."""

import logging
import time
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth import REDIRECT_FIELD_NAME, logout
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from authsite.accounts import login, second_factor
from authsite.accounts.sign_on import claims as said, pending_sign_on, sessions
from authsite.accounts.sign_on.models import ExternalIdentity
from authsite.accounts.sign_on.pending_sign_on import PendingSignOn, Purpose
from authsite.accounts.sign_on.refusals import ERROR_CODE, Reason, SignOnRefused, refusal_page
from devices.admin.base import reauthentication
from devices.admin.base.pages import site_page

if TYPE_CHECKING:
    from authsite.accounts.sign_on.provider import Provider

logger = logging.getLogger("authsite.sign_on")

MAX_LOGOUT_TOKEN = 16 * 1024  # characters
MAX_HINT = 4096  # characters of an ID token; servers take 8 KB in the address of a page

View = Callable[[HttpRequest], HttpResponse]


def provider() -> "Provider":
    """Return the provider; the libraries of its protocol are loaded as it is first asked."""
    from authsite.accounts.sign_on import provider

    return provider.provider()


def _guarded(view: View) -> View:
    """Serve a view where OpenID Connect is set up, and turn refusals into their page."""

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if not settings.OIDC_ISSUER:
            raise Http404
        try:
            return view(request)
        except SignOnRefused as refusal:
            response = refused(request, refusal)
            pending_sign_on.forget(response)
            return response

    return never_cache(guarded)


def refused(request: HttpRequest, refusal: SignOnRefused) -> TemplateResponse:
    """Return the page of a refusal, and tell the operator of it."""
    logger.warning("Sign-on refused, from %s: %s", login.client_address(request), refusal)
    return refusal_page(request, refusal)


def wanted_page(request: HttpRequest) -> str:
    """Return where staff wanted to go, if that is on this site."""
    wanted = request.POST.get(REDIRECT_FIELD_NAME) or request.GET.get(REDIRECT_FIELD_NAME, "")
    # Undocumented; the check that Django's own login view makes.
    safe = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if safe else reverse("admin:index")


def _callback(request: HttpRequest) -> str:
    return request.build_absolute_uri(reverse("sign_on:callback"))


@login_not_required
@require_GET
@_guarded
def begin(request: HttpRequest) -> HttpResponse:
    """Send a browser to the provider to sign on."""
    return _depart(request, Purpose.SIGN_ON, settings.OIDC_ACR)


@require_GET
@_guarded
def confirm(request: HttpRequest) -> HttpResponse:
    """Send a browser to the provider, where the person authenticates again."""
    if sessions.source(request) is not sessions.Source.OPENID_CONNECT:
        raise PermissionDenied
    # `max_age` asks for a new proof and makes `auth_time` due; not all providers heed it alone.
    return _depart(request, Purpose.CONFIRM, settings.OIDC_CONFIRM_ACR, max_age="0", prompt="login")


def _depart(
    request: HttpRequest, purpose: Purpose, classes: list[str], **parameters: str
) -> HttpResponse:
    if classes:
        parameters["acr_values"] = " ".join(classes)
    way = provider().authorization_url(_callback(request), **parameters)
    response = HttpResponseRedirect(way["url"])
    wanted = wanted_page(request)
    pending = PendingSignOn(
        purpose=purpose.value,
        state=way["state"],
        nonce=way["nonce"],
        code_verifier=way["code_verifier"],
        next=wanted if len(wanted) <= pending_sign_on.MAX_NEXT else reverse("admin:index"),
        began=time.time(),
    )
    pending_sign_on.remember(response, pending)
    return response


@login_not_required
@require_GET
@_guarded
def callback(request: HttpRequest) -> HttpResponse:
    """Take a browser back from the provider."""
    pending = pending_sign_on.recall(request, request.GET.get("state", ""))
    _demand_issuer(request)
    if "error" in request.GET:
        code = request.GET["error"]
        raise SignOnRefused(
            Reason.DECLINED, code if ERROR_CODE.match(code) else "an error of a strange form"
        )
    claims, id_token = provider().exchange_code(
        _callback(request),
        code=request.GET.get("code", ""),
        state=pending.state,
        nonce=pending.nonce,
        code_verifier=pending.code_verifier,
    )
    response = _finish(request, pending, claims, id_token)
    pending_sign_on.forget(response)
    return response


def _demand_issuer(request: HttpRequest) -> None:
    """Refuse an answer of another provider (RFC 9207)."""
    named = request.GET.get("iss")
    if named is None and provider().load_server_metadata()["names_itself"]:
        raise SignOnRefused(Reason.UNUSABLE_ANSWER, "the answer does not name its issuer")
    if named is not None and named != settings.OIDC_ISSUER:
        raise SignOnRefused(Reason.UNUSABLE_ANSWER, "the answer names another issuer")


def _finish(
    request: HttpRequest, pending: PendingSignOn, claims: dict[str, Any], id_token: str
) -> HttpResponse:
    confirms = pending.purpose == Purpose.CONFIRM
    proved_at = said.proved_at(claims)
    said.demand_class(claims, settings.OIDC_CONFIRM_ACR if confirms else settings.OIDC_ACR)
    if confirms:
        said.demand_fresh(proved_at, pending.began)
        if not request.user.is_authenticated:
            raise SignOnRefused(Reason.NOT_BEGUN_HERE, "the session has ended meanwhile")
        if request.session.get(sessions.SUBJECT) != claims["sub"]:
            raise SignOnRefused(
                Reason.OTHER_PERSON, f"{request.user.get_username()!r} confirmed as another subject"
            )
    try:
        user = ExternalIdentity.objects.sign_on(
            ExternalIdentity.Source.OPENID_CONNECT,
            settings.OIDC_ISSUER,
            said.person(claims),
            settings.OIDC_ROLES,
        )
    except SignOnRefused:
        if confirms:
            logout(request)
        raise
    given = said.has_second_factor(claims)
    if confirms and user != request.user:  # the subject was tied to another account meanwhile
        logout(request)
        raise SignOnRefused(Reason.OTHER_PERSON, f"the subject is now {user.get_username()!r}")
    if confirms:
        return _confirmed(request, user, pending.next, has_second_factor=given)
    sessions.begin(
        request,
        user,
        sessions.Source.OPENID_CONNECT,
        subject=claims["sub"],
        proved_at=proved_at,
        has_second_factor=given,
    )
    if len(id_token) <= MAX_HINT:
        request.session[sessions.ID_TOKEN] = id_token
    logger.info("%r signed on by OpenID Connect", user.get_username())
    return HttpResponseRedirect(pending.next)


def _confirmed(
    request: HttpRequest, user: Any, address: str, *, has_second_factor: bool
) -> HttpResponse:
    """Note that the person did; ask for our second factor where the provider asked for none."""
    login.record_password(request)
    if has_second_factor:
        request.session[second_factor.BY_PROVIDER] = True
        login.renew_session(request)
    elif second_factor.is_enrolled(user):
        query = {REDIRECT_FIELD_NAME: address}
        return HttpResponseRedirect(reverse("admin:second_factor", query=query))
    elif second_factor.policy() is second_factor.Policy.REQUIRED:
        raise SignOnRefused(Reason.WEAK, "no second factor was asked for: OIDC_SECOND_FACTOR")
    reauthentication.confirm(request)
    return HttpResponseRedirect(address)


# --- Signing out ----------------------------------------------------------------------------


def signed_out_page(request: HttpRequest, id_token: str | None = None) -> TemplateResponse:
    """Return the page after a log-out; with an ID token, or "", it leads on to the provider's.

    Without a token in hand ("") a provider may ask whether to log out there.

    It leads on by itself: a redirect in answer to a form would be against the policy that forms
    go to this site only.
    """
    address, failed = None, False
    if id_token is not None:
        back = request.build_absolute_uri(reverse("sign_on:signed_out"))
        try:
            address = provider().sign_out_address(id_token, back)
        except SignOnRefused as refusal:
            logger.warning("Nobody was signed out at the provider: %s", refusal)
            failed = True
    return site_page(
        admin.site,
        request,
        "admin/sign_on/signed_out.html",
        title=_("Logged out"),
        provider_address=address,
        provider_failed=failed,
        headers={"Cache-Control": "no-store"},
    )


@login_not_required
@require_GET
@_guarded
def signed_out(request: HttpRequest) -> HttpResponse:
    """Say that nobody is signed in any more, here or at the provider."""
    return signed_out_page(request)


@csrf_exempt
@login_not_required
@require_POST
def back_channel_logout(request: HttpRequest) -> HttpResponse:
    """End the sessions of whom the provider signed out (OpenID Connect Back-Channel Logout 1.0).

    A new unusable password ends every session of an account, and whatever else depends on it.
    """
    if not settings.OIDC_ISSUER:
        raise Http404
    headers = {"Cache-Control": "no-store"}
    try:
        subject = provider().signed_out_subject(
            request.POST.get("logout_token", "")[:MAX_LOGOUT_TOKEN]
        )
    except SignOnRefused as refusal:
        logger.warning("A log-out of the provider was not understood: %s", refusal)
        return HttpResponse(status=HTTPStatus.BAD_REQUEST, headers=headers)
    ExternalIdentity.objects.end_sessions(
        ExternalIdentity.Source.OPENID_CONNECT, settings.OIDC_ISSUER, subject
    )
    return HttpResponse(headers=headers)
