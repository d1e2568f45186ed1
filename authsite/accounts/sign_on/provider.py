"""The provider of OpenID Connect: what it publishes, and what its tokens prove.

The protocol is Authlib's; here stand this project's own bounds, and what OpenID Connect Core 1.0
leaves to a relying party.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.django_client import DjangoOAuth2App
from django.conf import settings
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from authsite.accounts.sign_on.calls import BoundedSession, UnusableAnswerError, belongs_to_provider
from authsite.accounts.sign_on.models import is_subject
from authsite.accounts.sign_on.refusals import ERROR_CODE, MAX_SKEW, Reason, SignOnRefused

METADATA_SECONDS = 600  # how long what it publishes is believed without asking again
ALIVE_SECONDS = 1  # likewise where a browser is about to be sent there
KEYS_REST_SECONDS = 10  # between two looks at its keys, whatever tokens come
# A key that both sides know (HS256), or none at all, proves nothing here.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
              "EdDSA", "Ed25519")  # fmt: skip
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
MORE_ENDPOINTS = ("userinfo_endpoint", "end_session_endpoint")
MISREAD = (ValueError, TypeError, KeyError, AttributeError)  # of JSON of an unexpected form
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

Claims = dict[str, Any]


@contextmanager
def _as_refusal() -> Iterator[None]:
    """Turn what a call to the provider may raise into a refusal, without its details.

    A token endpoint may repeat in its error what it was sent.
    """
    try:
        yield
    except UnusableAnswerError as error:
        raise SignOnRefused(Reason.UNUSABLE_ANSWER, str(error)) from None
    except requests.exceptions.JSONDecodeError:
        raise SignOnRefused(Reason.UNUSABLE_ANSWER, "an answer that is not JSON") from None
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "?"
        raise SignOnRefused(Reason.UNREACHABLE, f"it answered with status {status}") from None
    except requests.RequestException as error:
        detail = f"{type(error).__name__}: {error}"[:300]
        raise SignOnRefused(Reason.UNREACHABLE, detail) from None
    except OAuthError as error:
        code = str(error.error)
        detail = code if ERROR_CODE.match(code) else "an error of a strange form"
        raise SignOnRefused(Reason.UNUSABLE_ANSWER, f"the token endpoint said {detail}") from None
    except JoseError as error:
        claim = getattr(error, "claim", "")
        detail = f"{type(error).__name__} {claim}".strip()
        raise SignOnRefused(Reason.UNUSABLE_ANSWER, f"the token: {detail}") from None
    except (*MISREAD, ArithmeticError, RuntimeError) as error:
        detail = f"an answer of a wrong form ({type(error).__name__})"
        raise SignOnRefused(Reason.UNUSABLE_ANSWER, detail) from None


class Provider(DjangoOAuth2App):
    """The one provider of OIDC_ISSUER. Every method raises SignOnRefused where it cannot answer."""

    client_cls = BoundedSession

    def __init__(self) -> None:
        super().__init__(
            framework=None,
            name="provider",
            client_id=settings.OIDC_CLIENT_ID,
            client_secret=settings.OIDC_CLIENT_SECRET or None,
            client_kwargs={"scope": settings.OIDC_SCOPES, "code_challenge_method": "S256"},
        )
        self._metadata: dict[str, Any] = {}
        self._metadata_at = 0.0
        self._keys: Any = None
        self._keys_at = 0.0

    # --- What it publishes ----------------------------------------------------------------

    def load_server_metadata(self) -> dict[str, Any]:
        """Return the provider's configuration, asked for at most every METADATA_SECONDS.

        Where it cannot be asked for again, what is known is used further: a provider that is down
        has said nothing else.
        """
        try:
            return self._renewed_metadata(METADATA_SECONDS)
        except SignOnRefused:
            if not self._metadata:
                raise
            return self._metadata

    def _renewed_metadata(self, max_age: float) -> dict[str, Any]:
        now = time.monotonic()
        if not self._metadata or now - self._metadata_at > max_age:
            with _as_refusal():
                self._metadata, self._metadata_at = self._fetch_metadata(), now
        return self._metadata

    def _fetch_metadata(self) -> dict[str, Any]:
        address = settings.OIDC_ISSUER.rstrip("/") + "/.well-known/openid-configuration"
        with BoundedSession() as session:
            response = session.request("GET", address, withhold_token=True)
            response.raise_for_status()
            found = response.json()
        if not isinstance(found, dict) or found.get("issuer") != settings.OIDC_ISSUER:
            raise UnusableAnswerError("its configuration names another issuer")
        for name in ENDPOINTS + MORE_ENDPOINTS:
            if not belongs_to_provider(found.get(name)) and (name in ENDPOINTS or name in found):
                raise UnusableAnswerError(
                    f"{name} is missing, or at a host that OIDC_OTHER_HOSTS does not name"
                )
        offered = found.get("id_token_signing_alg_values_supported") or ["RS256"]
        algorithms = [name for name in ALGORITHMS if name in offered]
        if not algorithms:
            raise UnusableAnswerError("it signs with no algorithm that is accepted")
        methods = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        method = next(
            (one for one in ("client_secret_basic", "client_secret_post") if one in methods), None
        )
        return {
            **{name: found[name] for name in (*ENDPOINTS, *MORE_ENDPOINTS) if name in found},
            "issuer": found["issuer"],
            "id_token_signing_alg_values_supported": algorithms,
            "token_endpoint_auth_method": method if self.client_secret else "none",
            "names_itself": found.get("authorization_response_iss_parameter_supported") is True,
        }

    def fetch_jwk_set(self, force: bool = False) -> Any:
        """Return the provider's keys; `force` looks again, at most every KEYS_REST_SECONDS.

        Those that cannot be read are left out (RFC 7517, 5).
        """
        now = time.monotonic()
        age = now - self._keys_at
        if self._keys is None or age > METADATA_SECONDS or (force and age > KEYS_REST_SECONDS):
            address = self.load_server_metadata()["jwks_uri"]
            with BoundedSession() as session:
                response = session.request("GET", address, withhold_token=True)
                response.raise_for_status()
                self._keys, self._keys_at = {"keys": _readable(response.json())}, now
        return self._keys

    # --- Sign-on --------------------------------------------------------------------------

    def authorization_url(self, redirect_uri: str, **parameters: str) -> dict[str, Any]:
        """Return the `url` to send a browser to, and its `state`, `nonce` and `code_verifier`.

        Raises SignOnRefused where the provider is down: the browser would show an error of its own.
        """
        self._renewed_metadata(ALIVE_SECONDS)
        with _as_refusal():
            return dict(self.create_authorization_url(redirect_uri, **parameters))

    def exchange_code(
        self, redirect_uri: str, *, code: str, state: str, nonce: str, code_verifier: str
    ) -> tuple[Claims, str]:
        """Exchange an authorization code; return the claims, checked, and the ID token.

        Claims that only the userinfo endpoint gives are among them.
        """
        with _as_refusal():
            token = self.fetch_access_token(
                redirect_uri, code=code, state=state, code_verifier=code_verifier
            )
            id_token = token.get("id_token")
            if not isinstance(id_token, str):
                raise UnusableAnswerError("its answer has no ID token")
            claims = self._claims(token, nonce)
            wanted = {settings.OIDC_ROLES_CLAIM.partition(".")[0], settings.OIDC_NAME_CLAIM}
            if wanted - claims.keys() and "userinfo_endpoint" in self.load_server_metadata():
                more = dict(self.userinfo(token=token))
                if more.get("sub") != claims["sub"]:
                    raise UnusableAnswerError("its userinfo is about somebody else")
                claims = {**more, **claims}
            return claims, id_token

    def _claims(self, token: dict[str, Any], nonce: str) -> Claims:
        def parsed() -> Claims:
            found = self.parse_id_token(
                token,
                nonce=nonce,
                claims_options={
                    "iss": {"essential": True, "value": settings.OIDC_ISSUER},
                    "aud": {"essential": True, "value": self.client_id},
                },
                leeway=MAX_SKEW,
            )
            return dict(found)

        claims = self._with_current_keys(parsed)
        _demand_subject(claims)
        return claims

    def _with_current_keys(self, read: Callable[[], Claims]) -> Claims:
        """Return what a token says; after a bad signature the keys are looked at again.

        Authlib looks again by itself where the key of an ID token is unknown.
        """
        try:
            return read()
        except (BadSignatureError, InvalidKeyIdError, ValueError):
            before = self._keys_at
            self.fetch_jwk_set(force=True)
            if self._keys_at == before:
                raise
            return read()

    # --- The end of a session -------------------------------------------------------------

    def sign_out_address(self, id_token: str, back: str) -> str | None:
        """Return where a browser is sent to be signed out there as well, if that is offered."""
        if "end_session_endpoint" not in self.load_server_metadata():
            return None
        with _as_refusal():
            found = self.create_logout_url(back, id_token, client_id=self.client_id)
            return str(found["url"])

    def signed_out_subject(self, logout_token: str) -> str:
        """Return whose sessions a logout token ends (OpenID Connect Back-Channel Logout 1.0, 2.6).

        Only tokens that name the subject are taken.
        """
        algorithms = self.load_server_metadata()["id_token_signing_alg_values_supported"]
        registry = JWSRegistry(algorithms=algorithms, strict_check_header=False)

        def decoded() -> Claims:
            keys = KeySet.import_key_set(self.fetch_jwk_set())
            return dict(jwt.decode(logout_token, keys, registry=registry).claims)

        with _as_refusal():
            claims = self._with_current_keys(decoded)
            JWTClaimsRegistry(
                None,
                MAX_SKEW,
                iss={"essential": True, "value": settings.OIDC_ISSUER},
                aud={"essential": True, "value": self.client_id},
                iat={"essential": True},
                jti={"essential": True},
                sub={"essential": True},
                events={"essential": True},
            ).validate(claims)
            _demand_subject(claims)
            events = claims["events"]
            if "nonce" in claims or not isinstance(events, dict) or LOGOUT_EVENT not in events:
                raise UnusableAnswerError("it is no logout token")
            if time.time() - claims["iat"] > 2 * MAX_SKEW:
                raise UnusableAnswerError("the logout token is old")
            return str(claims["sub"])


def _readable(published: Any) -> list[Any]:
    """Return those keys of a key set that can be read; raises UnusableAnswerError for no set."""
    keys = published.get("keys") if isinstance(published, dict) else None
    if not isinstance(keys, list):
        raise UnusableAnswerError("its keys are no key set")
    readable = []
    for key in keys:
        try:
            KeySet.import_key_set({"keys": [key]})
        except (JoseError, *MISREAD):
            continue
        readable.append(key)
    return readable


def _demand_subject(claims: Claims) -> None:
    """Raise UnusableAnswerError where the subject is no text that can bind an account."""
    if not isinstance(claims["sub"], str) or not is_subject(claims["sub"]):
        raise UnusableAnswerError("its subject is no text of a length that is allowed")


@cache
def provider() -> Provider:
    """Return the provider that the settings name; one a process, for what it has published."""
    return Provider()
