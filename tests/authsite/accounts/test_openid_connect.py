"""Sign-on by OpenID Connect, with a provider that lies in every way that it can."""

import hmac
import json
import logging
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.db import IntegrityError, transaction
from django.test import Client
from django_otp.plugins.otp_totp.models import TOTPDevice
from joserfc import jwt
from joserfc.jwk import OctKey

from authsite.accounts import second_factor
from authsite.accounts.sign_on import calls, models, provider
from authsite.accounts.sign_on.models import ExternalIdentity, Person
from authsite.accounts.sign_on.pending_sign_on import COOKIE, PATH
from authsite.accounts.sign_on.refusals import Reason, SignOnRefused
from authsite.accounts.tokens.service_account import ServiceAccount
from devices.admin.base.reauthentication import CONFIRMED_AT
from devices.events.kinds import Kind
from devices.events.models import Event
from tests.support.commands import run
from tests.support.lying_provider import (
    KEY,
    NEXT_KEY,
    OTHER_KEY,
    LyingProvider,
    lying_provider,
    unsigned,
)

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

BEGIN, CALLBACK, CONFIRM = "/admin/sign-on/", "/admin/sign-on/callback/", "/admin/sign-on/confirm/"
SECRET = "the-client-secret"
SECRETS = (SECRET, "the-access-token", "the-code")
PASSWORD = "a long enough password"


@pytest.fixture(scope="module")
def running() -> Iterator[LyingProvider]:
    with lying_provider() as found:
        yield found


@pytest.fixture
def liar(running: LyingProvider, settings: Any) -> Iterator[LyingProvider]:
    """Return a provider that is honest until a test says otherwise."""
    running.__init__(running.url)  # type: ignore[misc]
    settings.OIDC_ISSUER = running.url
    settings.OIDC_CLIENT_ID = "authsite"
    settings.OIDC_CLIENT_SECRET = SECRET
    settings.OIDC_ROLES = {
        "registry-viewers": ("Viewer",),
        "registry-security": ("Security", "Operator"),
        "registry-admins": ("superuser",),
        "misspelt": ("Vewer",),
    }
    provider.provider.cache_clear()
    yield running
    provider.provider.cache_clear()


def sent(answer: Any) -> dict[str, str]:
    """Return what a browser is sent to the provider with."""
    return {name: value[0] for name, value in parse_qs(urlsplit(answer["Location"]).query).items()}


def depart(client: Client, liar: LyingProvider, address: str = BEGIN, **query: str) -> str:
    """Send a browser to the provider; return the state."""
    parameters = sent(client.get(address, query))
    liar.nonce = parameters["nonce"]
    return parameters["state"]


def sign_on(client: Client, liar: LyingProvider, address: str = BEGIN, **query: str) -> Any:
    state = depart(client, liar, address, **query)
    return client.get(CALLBACK, {"code": "the-code", "state": state})


def roles(name: str = "kim") -> set[str]:
    return {group.name for group in User.objects.get(username=name).groups.all()}


def is_anonymous(client: Client) -> bool:
    return bool(client.get("/admin/jsi18n/").status_code == 302)


# --- Signing on -----------------------------------------------------------------------------


def test_the_login_page_offers_it(client: Client, liar: LyingProvider, settings: Any) -> None:
    settings.OIDC_LABEL = "Example & Co"
    page = client.get("/admin/login/?next=/admin/devices/").content.decode()
    assert "Sign on with Example &amp; Co" in page
    assert 'href="/admin/sign-on/?next=/admin/devices/"' in page
    assert 'name="password"' in page
    assert liar.asked == [], "a login page asks the provider nothing"
    settings.OIDC_ISSUER = ""
    assert "Sign on with" not in client.get("/admin/login/").content.decode()
    assert client.get(BEGIN).status_code == 404
    assert client.get(CALLBACK).status_code == 404


def test_a_browser_is_sent_with_all_that_protects_it(client: Client, liar: LyingProvider) -> None:
    answer = client.get(BEGIN)
    parameters = sent(answer)
    assert answer["Location"].startswith(liar.url + "/authorize?")
    assert parameters["redirect_uri"] == "http://testserver" + CALLBACK
    assert parameters["response_type"] == "code"
    assert parameters["scope"] == "openid profile"
    assert parameters["code_challenge_method"] == "S256"
    assert len(parameters["state"]) >= 20
    assert len(parameters["nonce"]) >= 20
    cookie = answer.cookies[COOKIE]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == (PATH, True, "Lax")
    assert not Session.objects.exists(), "a stranger's click leaves no row"


def test_the_first_sign_on_makes_an_account(client: Client, liar: LyingProvider) -> None:
    liar.claims = {"given_name": "Kim", "email": "kim@example.com"}
    answer = sign_on(client, liar, next="/admin/devices/device/?q=a")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/devices/device/?q=a")
    user = User.objects.get(username="kim")
    assert (user.first_name, user.email) == ("Kim", "kim@example.com")
    assert (user.is_staff, user.is_superuser, user.has_usable_password()) == (True, False, False)
    assert roles() == {"Viewer"}
    identity = ExternalIdentity.objects.get(user=user)
    assert (identity.subject, identity.issuer) == ("subject-1", liar.url)
    assert identity.last_signed_on_at is not None
    assert client.get("/admin/").status_code == 200
    assert answer.cookies[COOKIE]["max-age"] == 0
    [form] = liar.forms
    assert form["grant_type"] == "authorization_code"
    assert form["code"] == "the-code"
    assert len(form["code_verifier"]) >= 43


def test_another_address_than_of_this_site_leads_to_the_start_page(
    client: Client, liar: LyingProvider
) -> None:
    for address in ("https://evil.example/", "//evil.example", "/" + "a" * 2000):
        assert sign_on(client, liar, next=address)["Location"] == "/admin/"


def test_roles_follow_the_claim_at_every_sign_on(client: Client, liar: LyingProvider) -> None:
    User.objects.create_superuser("emergency")
    sign_on(client, liar)
    user = User.objects.get(username="kim")
    user.groups.add(Group.objects.create(name="given by hand"))
    liar.claims = {"groups": ["registry-security", "registry-admins", "of no concern", 7]}
    sign_on(Client(), liar)
    assert roles() == {"Security", "Operator"}
    assert User.objects.get(username="kim").is_superuser
    liar.claims = {"groups": "registry-viewers"}
    sign_on(Client(), liar)
    assert roles() == {"Viewer"}
    assert not User.objects.get(username="kim").is_superuser


@pytest.mark.parametrize(("groups", "status"), [(["registry-viewers"], 302), ([], 403)])
def test_the_last_superuser_stays_one_and_gets_in_by_a_role_alone(
    client: Client, liar: LyingProvider, groups: list[str], status: int, caplog: Any
) -> None:
    liar.claims = {"groups": ["registry-admins"]}
    sign_on(client, liar)
    User.objects.create_superuser("gone", is_active=False)
    liar.claims = {"groups": groups}

    assert sign_on(Client(), liar).status_code == status

    user = User.objects.get(username="kim")
    assert (user.is_superuser, user.is_staff) == (True, status == 302)
    assert "'kim' is no superuser any more by its groups, and is left one" in caplog.text
    told = Event.objects.get(kind=Kind.ACCOUNT_SUPERUSER_KEPT)
    assert told.data["account"]["username"] == "kim"
    assert (client.get("/admin/auth/user/").status_code == 200) is user.is_staff
    User.objects.create_superuser("alex")
    sign_on(Client(), liar)
    user.refresh_from_db()
    assert not user.is_superuser, "somebody else is one now"


@pytest.mark.parametrize("groups", [[], ["others"], None, {"registry-viewers": 1}, ["misspelt"]])
def test_without_a_role_nobody_gets_in_and_what_is_missing_is_named(
    client: Client, liar: LyingProvider, groups: Any, caplog: Any
) -> None:
    other = Client()
    sign_on(other, liar)
    liar.claims = {"groups": groups}
    answer = sign_on(client, liar)
    page = answer.content.decode()
    assert answer.status_code == 403
    assert "brings no role" in page
    assert "<code>registry-viewers</code>" in page
    assert "in none of the groups" in caplog.text
    assert is_anonymous(client)
    assert roles() == set()
    assert other.get("/admin/devices/device/").status_code == 302, "nor do other sessions keep any"


def test_nobody_without_a_role_leaves_an_account(client: Client, liar: LyingProvider) -> None:
    liar.claims = {"groups": ["others"]}
    assert sign_on(client, liar).status_code == 403
    assert not User.objects.exists()


def test_the_claim_may_stand_deeper(client: Client, liar: LyingProvider, settings: Any) -> None:
    settings.OIDC_ROLES_CLAIM = "realm_access.roles"
    liar.claims = {"realm_access": {"roles": ["registry-security"]}}
    sign_on(client, liar)
    assert roles() == {"Security", "Operator"}


def test_the_claim_may_come_from_userinfo(client: Client, liar: LyingProvider) -> None:
    liar.without = ("groups", "preferred_username")
    liar.userinfo = {
        "sub": "subject-1",
        "preferred_username": "lee",
        "groups": ["registry-security"],
        "auth_time": 0,
    }
    sign_on(client, liar)
    assert roles("lee") == {"Security", "Operator"}
    assert client.session[CONFIRMED_AT] > 1, "the signed token says more than userinfo"


def test_the_subject_binds_whatever_the_name(client: Client, liar: LyingProvider) -> None:
    sign_on(client, liar)
    liar.claims = {"preferred_username": "kim-married", "email": "boss@example.com"}
    sign_on(Client(), liar)
    assert User.objects.get().username == "kim"
    liar.claims = {"sub": "subject-2", "preferred_username": "lee", "email": "kim@example.com"}
    sign_on(Client(), liar)
    assert User.objects.count() == 2


@pytest.mark.parametrize("name", ["kim", "KIM", " kim "])
def test_an_account_of_the_same_name_is_never_taken(
    client: Client, liar: LyingProvider, name: str, caplog: Any
) -> None:
    local = User.objects.create_superuser("kim", "kim@example.com", PASSWORD)
    liar.claims = {"preferred_username": name, "email": "kim@example.com", "email_verified": True}
    answer = sign_on(client, liar)
    assert answer.status_code == 403
    assert "There is an account of this name already" in answer.content.decode()
    assert "subject-1" in caplog.text
    assert is_anonymous(client)
    local.refresh_from_db()
    assert local.check_password(PASSWORD)
    assert local.is_superuser


@pytest.mark.parametrize("email", ["kim", "kim@example.com\ud800", "k@example.com" * 100])
def test_what_no_page_could_show_is_left_out(
    client: Client, liar: LyingProvider, email: str
) -> None:
    liar.claims = {"given_name": "K\0im", "family_name": "a\n\u202eb"}
    liar.without = ("groups",)
    liar.userinfo |= {"groups": ["registry-viewers", "\ud800"], "email": email}
    assert sign_on(client, liar).status_code == 302
    user = User.objects.get(username="kim")
    assert (user.first_name, user.last_name, user.email) == ("", "", "")


def test_two_first_sign_ons_at_once_make_one_account(
    client: Client, liar: LyingProvider, monkeypatch: Any
) -> None:
    made = models._new_account
    people = [Person("subject-1", name, frozenset(["registry-viewers"])) for name in ("kim", "lee")]

    def slowly(person: Person) -> User:
        if person.name == "lee":  # the other one comes first
            known(people[0])
        return made(person)

    def known(person: Person) -> User:
        return ExternalIdentity.objects.sign_on("openid", liar.url, person, settings_roles)

    settings_roles = {"registry-viewers": ("Viewer",)}
    monkeypatch.setattr(models, "_new_account", slowly)
    assert known(people[1]).username == "kim"
    assert User.objects.count() == 1


@pytest.mark.parametrize("name", ["", "a b", "<b>", "x" * 151, 7, None])
def test_a_name_that_no_account_can_have_is_refused(
    client: Client, liar: LyingProvider, name: Any
) -> None:
    liar.claims = {"preferred_username": name}
    answer = sign_on(client, liar)
    assert answer.status_code == 403
    assert "gave no name that an account can have" in answer.content.decode()
    assert not User.objects.exists()


def test_a_disabled_account_stays_out_and_its_sessions_end(
    client: Client, liar: LyingProvider
) -> None:
    sign_on(client, liar)
    User.objects.update(is_active=False)
    assert is_anonymous(client)
    answer = sign_on(client, liar)
    assert answer.status_code == 403
    assert "is disabled" in answer.content.decode()


def test_the_password_of_nobody_else_opens_the_account(client: Client, liar: LyingProvider) -> None:
    sign_on(client, liar)
    answer = Client().post("/admin/login/", {"username": "kim", "password": ""})
    assert answer.status_code == 200
    assert '<details class="own-password" open>' in answer.content.decode()


# --- Lies -----------------------------------------------------------------------------------

NOW = int(time.time())


def claims(**changed: Any) -> Callable[[LyingProvider], None]:
    return lambda liar: liar.claims.update(changed)


def without(*names: str) -> Callable[[LyingProvider], None]:
    return lambda liar: setattr(liar, "without", names)


def answers(path: str, status: int = 200, body: bytes = b"", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda liar: liar.responses.update({path: lambda: (status, named, body)})


def says(**changed: Any) -> Callable[[LyingProvider], None]:
    return lambda liar: liar.metadata.update(changed)


def signs(how: Callable[[dict[str, Any]], str]) -> Callable[[LyingProvider], None]:
    return lambda liar: setattr(liar, "sign", how)


def with_public_key(payload: dict[str, Any]) -> str:
    """Return a token signed with the provider's public key as if it were a shared secret."""
    signed = unsigned(payload, alg="HS256").rstrip(".")
    digest = hmac.digest(KEY.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{urlsafe_b64encode(digest).decode().rstrip('=')}"


def with_client_secret(payload: dict[str, Any]) -> str:
    key = OctKey.import_key(SECRET.encode() * 3)
    return jwt.encode({"alg": "HS256", "kid": "first"}, payload, key)


def with_other_key(payload: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": "first"}, payload, OTHER_KEY)


DISCOVERY = "/.well-known/openid-configuration"
LIES: dict[str, tuple[Callable[[LyingProvider], None], int, str]] = {
    "another audience": (claims(aud="somebody-else"), 502, "aud"),
    "no audience": (without("aud"), 502, "aud"),
    "two audiences, for neither": (claims(aud=["authsite", "b"]), 502, "azp"),
    "for another party": (claims(azp="somebody-else"), 502, "azp"),
    "another issuer": (claims(iss="https://evil.example"), 502, "iss"),
    "no issuer": (without("iss"), 502, "iss"),
    "another nonce": (claims(nonce="replayed"), 502, "nonce"),
    "no nonce": (without("nonce"), 502, "nonce"),
    "a claim that nonces are not supported": (
        lambda liar: (claims(nonce_supported=False)(liar), without("nonce")(liar), None)[-1],
        502,
        "nonce",
    ),
    "expired": (claims(iat=NOW - 7200, exp=NOW - 3600), 502, "ExpiredTokenError"),
    "never expires": (without("exp"), 502, "exp"),
    "an expiry that is no number": (claims(exp="tomorrow"), 502, "exp"),
    "from the future": (claims(iat=NOW + 7200, exp=NOW + 9000), 502, "iat"),
    "not valid yet": (claims(nbf=NOW + 7200), 502, "nbf"),
    "authenticated in the future": (claims(auth_time=NOW + 7200), 502, "auth_time"),
    "no subject": (without("sub"), 502, "sub"),
    "an empty subject": (claims(sub=""), 502, "subject"),
    "a subject of 256 characters": (claims(sub="x" * 256), 502, "subject"),
    "a subject that is a number": (claims(sub=1), 502, "sub"),
    "a subject that no database stores": (claims(sub="subject\0"), 502, "subject"),
    "a token for ever": (
        answers("/token", body=b'{"access_token": "a", "token_type": "b", "expires_in": 1e999}'),
        502, "wrong form",
    ),
    "a huge class": (claims(acr="x" * 50_000), 403, "weak"),
    "the hash of another access token": (claims(at_hash="AAAA"), 502, "at_hash"),
    "a key that it does not publish": (signs(with_other_key), 502, "BadSignatureError"),
    "no signature": (signs(unsigned), 502, "UnsupportedAlgorithmError"),
    "its public key as a shared secret": (
        signs(with_public_key), 502, "UnsupportedAlgorithmError",
    ),
    "the client secret as a key": (signs(with_client_secret), 502, "UnsupportedAlgorithmError"),
    "a token that is none": (signs(lambda _claims: "not.a.token"), 502, "token"),
    "a token that is a number": (
        answers("/token", body=b'{"access_token": "a", "token_type": "Bearer", "id_token": 7}'),
        502, "no ID token",
    ),
    "no token": (
        answers("/token", body=b'{"access_token": "a", "token_type": "Bearer"}'),
        502, "no ID token",
    ),
    "a refusal of the code": (
        answers("/token", 400, b'{"error": "invalid_grant", "error_description": "the-code"}'),
        502, "invalid_grant",
    ),
    "a list for a token": (answers("/token", body=b"[]"), 502, "wrong form"),
    "no JSON": (answers("/token", body=b"<html>the-access-token"), 502, "wrong form"),
    "an error of the token endpoint": (answers("/token", 500, b"the-code"), 503, "status 500"),
    "a huge answer": (answers("/token", body=b" " * (calls.MAX_BYTES + 1)), 502, "more than"),
    "a redirect of the token request": (
        answers("/token", 307, Location="http://127.0.0.1:1/"), 502, "redirect",
    ),
    "keys that are none": (answers("/jwks", body=b'{"keys": [{"kty": "RSA"}]}'), 502, ""),
    "no keys": (answers("/jwks", body=b'{"keys": []}'), 502, ""),
    "keys that are gone": (answers("/jwks", 404), 503, "status 404"),
    "userinfo about somebody else": (
        lambda liar: (
            without("groups")(liar),
            liar.userinfo.update(sub="subject-2", groups=["registry-admins"]),
            None,
        )[-1],
        502,
        "somebody else",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_signs_nobody_on(
    client: Client, liar: LyingProvider, lie: str, caplog: Any, monkeypatch: Any, settings: Any
) -> None:
    monkeypatch.setattr(provider, "KEYS_REST_SECONDS", 0)
    change, status, logged = LIES[lie]
    settings.OIDC_ACR = ["strong"] if logged == "weak" else []
    change(liar)
    caplog.set_level(logging.DEBUG, "authsite")
    answer = sign_on(client, liar)
    page = answer.content.decode()
    assert answer.status_code == status
    assert "Not signed on" in page
    assert "Back to the login page" in page
    lines = [record for record in caplog.records if "Sign-on refused" in record.getMessage()]
    assert len(lines) == 1
    assert logged in lines[0].getMessage()
    assert len(lines[0].getMessage()) < 1200
    for secret in (*SECRETS, liar.nonce):
        assert secret not in caplog.text
        assert secret not in page
    assert not User.objects.exists()
    assert is_anonymous(client)


LIES_OF_THE_CONFIGURATION: dict[str, tuple[Callable[[LyingProvider], None], int, str]] = {
    "another issuer": (says(issuer="https://evil.example"), 502, "another issuer"),
    "tokens from elsewhere": (
        says(token_endpoint="https://evil.example/token"), 502, "token_endpoint",
    ),
    "keys from elsewhere": (says(jwks_uri="http://127.0.0.1:1/jwks"), 502, "jwks_uri"),
    "userinfo from elsewhere": (
        says(userinfo_endpoint="http://169.254.169.254/"), 502, "userinfo_endpoint",
    ),
    "an address with a user": (says(jwks_uri="http://127.0.0.1@evil.example/"), 502, "jwks_uri"),
    "an address that is none": (says(token_endpoint="http://[::1"), 502, "token_endpoint"),
    "a script for an address": (
        says(authorization_endpoint="javascript:alert(1)"), 502, "authorization_endpoint",
    ),
    "half of a character": (
        lambda liar: liar.metadata.update(authorization_endpoint=liar.url + "/\ud800"),
        502, "authorization_endpoint",
    ),
    "an address without end": (
        lambda liar: liar.metadata.update(authorization_endpoint=liar.url + "/" + "a" * 2000),
        502, "authorization_endpoint",
    ),
    "no endpoint": (says(authorization_endpoint=None), 502, "authorization_endpoint"),
    "shared keys only": (
        says(id_token_signing_alg_values_supported=["HS256", "none"]), 502, "no algorithm",
    ),
    "no JSON": (answers(DISCOVERY, body=b"<html>"), 502, "not JSON"),
    "a list": (answers(DISCOVERY, body=b"[]"), 502, "another issuer"),
    "nothing": (answers(DISCOVERY, 503), 503, "status 503"),
    "somebody else": (
        answers(DISCOVERY, 302, Location="http://169.254.169.254/"), 502, "redirect",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES_OF_THE_CONFIGURATION)
def test_a_browser_is_sent_nowhere_by_a_lie(
    client: Client, liar: LyingProvider, lie: str, caplog: Any
) -> None:
    change, status, logged = LIES_OF_THE_CONFIGURATION[lie]
    change(liar)
    answer = client.get(BEGIN)
    assert answer.status_code == status
    assert "Not signed on" in answer.content.decode()
    assert logged in caplog.text
    assert liar.asked == [DISCOVERY]


def test_other_hosts_are_asked_where_the_settings_name_them(
    client: Client, liar: LyingProvider, settings: Any
) -> None:
    liar.metadata["authorization_endpoint"] = "https://login.example/authorize"
    assert client.get(BEGIN).status_code == 502
    settings.OIDC_OTHER_HOSTS = ["login.example"]
    assert client.get(BEGIN)["Location"].startswith("https://login.example/authorize?")


def test_a_provider_that_went_down_is_said_to_be_down_before_a_browser_goes_there(
    client: Client, liar: LyingProvider, monkeypatch: Any
) -> None:
    state = depart(client, liar)
    monkeypatch.setattr(provider, "ALIVE_SECONDS", 0)
    liar.responses[DISCOVERY] = lambda: (503, {}, b"")
    assert Client().get(BEGIN).status_code == 503
    assert client.get(CALLBACK, {"code": "the-code", "state": state}).status_code == 302
    monkeypatch.setattr(provider, "METADATA_SECONDS", 0)
    page = client.post("/admin/logout/").content.decode()
    assert "/end?" in page, "where it signs people out has been said before"


def test_a_provider_that_is_down_is_said_to_be_down(
    client: Client, liar: LyingProvider, settings: Any, caplog: Any
) -> None:
    settings.OIDC_ISSUER = "http://127.0.0.1:1"
    answer = client.get(BEGIN)
    assert answer.status_code == 503
    assert "does not answer" in answer.content.decode()
    assert "ConnectionError" in caplog.text
    User.objects.create_superuser("glass", password=PASSWORD)
    entered = client.post("/admin/login/", {"username": "glass", "password": PASSWORD})
    assert entered.status_code == 302


def test_an_error_of_the_provider_is_one_line_of_the_log() -> None:
    refusal = SignOnRefused(Reason.UNREACHABLE, "BadStatusLine: x\r\n2026 INFO forged\u2028too")
    assert str(refusal) == "unreachable: BadStatusLine: x 2026 INFO forged too"


@pytest.mark.parametrize("path", [DISCOVERY, "/token"])
def test_a_slow_provider_is_waited_for_so_long(
    client: Client, liar: LyingProvider, path: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(calls, "WHOLE_SECONDS", 0.2)
    is_over = threading.Event()

    def slow() -> Any:
        is_over.wait(30)
        return 200, {}, b"{}"

    def refuse() -> Any:
        return 503, {}, b""

    for answers in (refuse, slow):  # after the first, all that is drawn is ready
        liar.responses[path] = answers
        began = time.monotonic()
        answer = client.get(BEGIN) if path == DISCOVERY else sign_on(client, liar)
        assert answer.status_code == 503
    assert time.monotonic() - began < calls.READ_SECONDS - 1  # which would end it, too
    is_over.set()


def test_calls_that_hang_do_not_pile_up() -> None:
    one = calls.Calls(1)
    free = threading.Event()
    with pytest.raises(TimeoutError, match="no whole answer"):
        one.within(0.01, free.wait)
    with pytest.raises(TimeoutError, match="too many"):
        one.within(0.01, free.is_set)
    free.set()
    assert one.within(5, free.is_set)


# --- The way back ---------------------------------------------------------------------------


def test_only_the_browser_that_began_comes_back(client: Client, liar: LyingProvider) -> None:
    state = depart(client, liar)
    stranger = Client()
    forged = stranger.get(CALLBACK, {"code": "the-code", "state": state})
    assert forged.status_code == 400
    depart(stranger, liar)
    forged = stranger.get(CALLBACK, {"code": "the-code", "state": state})
    assert forged.status_code == 400
    assert "was not begun in this browser" in forged.content.decode()
    assert client.get(CALLBACK, {"code": "the-code"}).status_code == 400
    assert liar.forms == [], "no code is shown to the provider"


def test_an_answer_is_taken_once(client: Client, liar: LyingProvider) -> None:
    state = depart(client, liar)
    assert client.get(CALLBACK, {"code": "the-code", "state": state}).status_code == 302
    assert client.get(CALLBACK, {"code": "the-code", "state": state}).status_code == 400


def test_a_way_that_takes_too_long_ends(
    client: Client, liar: LyingProvider, monkeypatch: Any
) -> None:
    state = depart(client, liar)
    later = time.time() + 601
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)
    answer = client.get(CALLBACK, {"code": "the-code", "state": state})
    assert answer.status_code == 400


@pytest.mark.parametrize("error", ["access_denied", "login\nforged: line", "x" * 500])
def test_who_cancels_is_told_so(
    client: Client, liar: LyingProvider, error: str, caplog: Any
) -> None:
    state = depart(client, liar)
    answer = client.get(CALLBACK, {"error": error, "state": state})
    assert answer.status_code == 403
    assert "did not let you in" in answer.content.decode()
    assert "forged" not in caplog.text
    assert "xxxxx" not in caplog.text


def test_an_answer_of_another_provider_is_refused(client: Client, liar: LyingProvider) -> None:
    back = {"code": "the-code", "state": depart(client, liar), "iss": "https://evil.example"}
    assert client.get(CALLBACK, back).status_code == 502
    back = {"code": "the-code", "state": depart(client, liar), "iss": liar.url}
    assert client.get(CALLBACK, back).status_code == 302
    provider.provider.cache_clear()
    liar.metadata["authorization_response_iss_parameter_supported"] = True
    del back["iss"]
    assert client.get(CALLBACK, back | {"state": depart(client, liar)}).status_code == 502


# --- Keys -----------------------------------------------------------------------------------


def test_new_keys_are_looked_up(client: Client, liar: LyingProvider, monkeypatch: Any) -> None:
    sign_on(client, liar)
    monkeypatch.setattr(provider, "KEYS_REST_SECONDS", 0)
    liar.key, liar.keys = NEXT_KEY, [NEXT_KEY]
    assert sign_on(Client(), liar).status_code == 302
    liar.key, liar.keys = OTHER_KEY, [OTHER_KEY]  # one that has the name of an old one
    provider.provider()._keys = {"keys": [KEY.as_dict(private=False)]}
    assert sign_on(Client(), liar).status_code == 302


def test_unknown_keys_do_not_make_it_ask_again_and_again(
    client: Client, liar: LyingProvider, monkeypatch: Any
) -> None:
    monkeypatch.setattr(provider, "ALIVE_SECONDS", 600)
    sign_on(client, liar)
    liar.key = NEXT_KEY
    for _ in range(3):
        assert sign_on(Client(), liar).status_code == 502
    assert liar.asked.count("/jwks") == 1
    assert liar.asked.count(DISCOVERY) == 1


def test_a_key_that_cannot_be_read_spoils_no_other(client: Client, liar: LyingProvider) -> None:
    published = KEY.as_dict(private=False)
    others = [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "x"}, {"kty": 7}, None]
    body = json.dumps({"keys": [*others, published]}).encode()
    liar.responses["/jwks"] = lambda: (200, {}, body)
    assert sign_on(client, liar).status_code == 302


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"keys": null}', b"[" * 100_000])
def test_what_is_no_key_set_is_not_kept(client: Client, liar: LyingProvider, body: bytes) -> None:
    liar.responses["/jwks"] = lambda: (200, {}, body)
    assert sign_on(client, liar).status_code == 502
    del liar.responses["/jwks"]
    assert sign_on(client, liar).status_code == 302


# --- Confirming before a secret, and second factors -----------------------------------------

GUARDED = "/admin/second-factor/app/"


@pytest.fixture
def signed_on(client: Client, liar: LyingProvider, settings: Any) -> Client:
    """Return a client whose sign-on with the provider was an hour ago."""
    settings.STAFF_SECOND_FACTOR = "optional"
    liar.claims = {"auth_time": int(time.time()) - 3600}
    sign_on(client, liar)
    liar.claims = {}
    return client


def test_who_sits_there_is_asked_again_at_the_provider(
    signed_on: Client, liar: LyingProvider
) -> None:
    asked = signed_on.get(GUARDED)
    assert asked["Location"] == "/admin/confirm/?next=%2Fadmin%2Fsecond-factor%2Fapp%2F"
    page = signed_on.get(asked["Location"]).content.decode()
    assert 'name="password"' not in page
    assert 'href="/admin/sign-on/confirm/?next=/admin/second-factor/app/"' in page
    parameters = sent(signed_on.get(CONFIRM, {"next": GUARDED}))
    assert (parameters["max_age"], parameters["prompt"]) == ("0", "login")
    assert sign_on(signed_on, liar, CONFIRM, next=GUARDED)["Location"] == GUARDED
    assert signed_on.get(GUARDED).status_code == 200


def test_a_sign_on_that_is_new_counts(client: Client, liar: LyingProvider, settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = "optional"
    sign_on(client, liar)
    assert client.get(GUARDED).status_code == 200
    liar.without = ("auth_time",)
    sign_on(client, liar)
    assert client.get(GUARDED).status_code == 302, "nobody says when"


NOT_CONFIRMED: dict[str, tuple[Callable[[LyingProvider], None], int, str]] = {
    "an old proof": (claims(auth_time=NOW - 3600), 403, "did not ask you again"),
    "a moment that is no number": (claims(auth_time=float("nan")), 403, "did not ask you again"),
    "a moment before all": (claims(auth_time=-(10**400)), 403, "did not ask you again"),
    "no moment": (without("auth_time"), 403, "did not ask you again"),
    "a moment that is none": (claims(auth_time=True), 403, "did not ask you again"),
    "somebody else": (claims(sub="subject-2"), 403, "with another account"),
    "a weaker class": (claims(acr="password"), 403, "as strictly"),
    "no role any more": (claims(groups=[], acr="strong"), 403, "brings no role"),
}


@pytest.mark.parametrize("lie", NOT_CONFIRMED)
def test_what_confirms_nothing(
    signed_on: Client, liar: LyingProvider, lie: str, settings: Any
) -> None:
    change, status, said = NOT_CONFIRMED[lie]
    settings.OIDC_CONFIRM_ACR = ["strong"]
    liar.claims = {"acr": "strong"}
    change(liar)
    assert sent(signed_on.get(CONFIRM))["acr_values"] == "strong"
    answer = sign_on(signed_on, liar, CONFIRM, next=GUARDED)
    assert answer.status_code == status
    assert said in answer.content.decode()
    assert signed_on.get(GUARDED).status_code == 302
    assert is_anonymous(signed_on) is (lie == "no role any more")
    assert User.objects.count() == 1


def test_a_subject_that_got_another_account_confirms_nothing(
    signed_on: Client, liar: LyingProvider
) -> None:
    lee = User.objects.create_user("lee")
    ExternalIdentity.objects.update(user=lee)
    answer = sign_on(signed_on, liar, CONFIRM, next=GUARDED)
    assert (answer.status_code, is_anonymous(signed_on)) == (403, True)


def test_only_who_signed_on_by_it_confirms_by_it(admin_client: Client, liar: LyingProvider) -> None:
    assert admin_client.get(CONFIRM).status_code == 403
    assert Client().get(CONFIRM)["Location"].startswith("/admin/login/")


def test_a_class_can_be_demanded_of_every_sign_on(
    client: Client, liar: LyingProvider, settings: Any
) -> None:
    settings.OIDC_ACR = ["gold", "platinum"]
    assert sent(client.get(BEGIN))["acr_values"] == "gold platinum"
    assert sign_on(client, liar).status_code == 403
    liar.claims = {"acr": "platinum"}
    assert sign_on(client, liar).status_code == 302


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ({}, False),
        ({"amr": ["pwd"]}, False),
        ({"amr": ["pwd", "mfa"]}, True),
        ({"acr": "mfa"}, True),
        ({"amr": [["mfa"]]}, False),
        ({"acr": ["mfa"]}, False),
        ({"acr": {"mfa": 1}}, False),
    ],
)
def test_a_second_factor_of_the_provider_counts_if_it_says_so(
    client: Client, liar: LyingProvider, settings: Any, said: dict[str, Any], counts: bool
) -> None:
    settings.STAFF_SECOND_FACTOR = "required"
    liar.claims = said
    sign_on(client, liar)
    assert client.get("/admin/").status_code == (200 if counts else 302)
    answer = sign_on(client, liar, CONFIRM, next=GUARDED)
    assert answer.status_code == (302 if counts else 403)


def test_a_second_factor_of_ours_is_asked_for_where_the_provider_asked_none(
    client: Client, liar: LyingProvider, settings: Any
) -> None:
    settings.STAFF_SECOND_FACTOR = "optional"
    sign_on(client, liar)
    user = User.objects.get(username="kim")
    TOTPDevice.objects.create(user=user, name="app", confirmed=True)
    assert second_factor.is_enrolled(user)
    assert client.get("/admin/").status_code == 302
    answer = sign_on(client, liar, CONFIRM, next=GUARDED)
    assert answer["Location"] == "/admin/second-factor/?next=%2Fadmin%2Fsecond-factor%2Fapp%2F"
    liar.claims = {"amr": ["mfa"]}
    assert sign_on(client, liar, CONFIRM, next=GUARDED)["Location"] == GUARDED
    assert client.get("/admin/second-factor/settings/").status_code == 200


@pytest.mark.parametrize("address", [BEGIN, CONFIRM])
def test_a_key_from_before_the_second_factor_of_the_provider_opens_nothing(
    client: Client, liar: LyingProvider, settings: Any, address: str
) -> None:
    settings.STAFF_SECOND_FACTOR = "required"
    stranger = Client()
    sign_on(client, liar)
    stranger.cookies["sessionid"] = client.cookies["sessionid"].value
    csrf = client.cookies["csrftoken"].value
    liar.claims = {"amr": ["mfa"]}
    assert sign_on(client, liar, address, next=GUARDED)["Location"] == GUARDED
    assert client.get("/admin/").status_code == 200
    assert client.cookies["csrftoken"].value != csrf
    assert stranger.get("/admin/").status_code == 302


def test_who_gave_a_second_factor_to_the_provider_registers_a_passkey(
    client: Client, liar: LyingProvider, settings: Any
) -> None:
    settings.STAFF_SECOND_FACTOR = "optional"
    address = "/admin/passkeys/registration/begin/"
    sign_on(client, liar)
    TOTPDevice.objects.create(user=User.objects.get(), name="app", confirmed=True)
    assert client.post(address).status_code == 403
    liar.claims = {"amr": ["mfa"]}
    sign_on(client, liar)
    assert client.post(address).status_code == 200
    liar.claims = {"amr": ["mfa"], "auth_time": int(time.time()) - 3600}
    sign_on(client, liar)
    assert client.post(address).status_code == 403, "that was an hour ago"


# --- Signing out ----------------------------------------------------------------------------


def test_who_logs_out_is_led_to_the_provider(client: Client, liar: LyingProvider) -> None:
    sign_on(client, liar)
    page = client.post("/admin/logout/")
    address = page.context["provider_address"]
    parameters = {name: value[0] for name, value in parse_qs(urlsplit(address).query).items()}
    assert address.startswith(liar.url + "/end?")
    assert parameters["client_id"] == "authsite"
    assert parameters["post_logout_redirect_uri"] == "http://testserver/admin/sign-on/signed-out/"
    assert parameters["id_token_hint"].count(".") == 2
    assert '<meta http-equiv="refresh"' in page.content.decode()
    assert is_anonymous(client)
    assert "logged out" in client.get("/admin/sign-on/signed-out/").content.decode()


def test_a_token_with_many_groups_is_in_no_address(client: Client, liar: LyingProvider) -> None:
    liar.claims = {"groups": [*(f"group {n}" for n in range(2000)), "registry-viewers"]}
    assert sign_on(client, liar).status_code == 302
    address = client.post("/admin/logout/").context["provider_address"]
    assert "client_id=authsite" in address
    assert len(address) < 1000


def test_a_log_out_does_not_need_the_provider(
    client: Client, liar: LyingProvider, caplog: Any
) -> None:
    sign_on(client, liar)
    provider.provider.cache_clear()
    liar.responses[DISCOVERY] = lambda: (503, {}, b"")
    page = client.post("/admin/logout/").content.decode()
    assert "could not be reached" in page
    assert is_anonymous(client)
    del liar.metadata["end_session_endpoint"], liar.responses[DISCOVERY]
    provider.provider.cache_clear()
    sign_on(client, liar)
    page = client.post("/admin/logout/").content.decode()
    assert "could not be reached" not in page
    assert "refresh" not in page


EVENTS: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
LOGOUTS: dict[str, tuple[dict[str, Any], int]] = {
    "honest": ({}, 200),
    "for somebody else": ({"sub": "subject-9"}, 200),
    "another audience": ({"aud": "somebody-else"}, 400),
    "another issuer": ({"iss": "https://evil.example"}, 400),
    "an ID token": ({"nonce": "a nonce"}, 400),
    "no event": ({"events": {}}, 400),
    "another event": ({"events": {"http://example.com/": {}}}, 400),
    "events that are none": ({"events": [*EVENTS]}, 400),
    "old": ({"iat": NOW - 3600}, 400),
    "older than the world": ({"iat": -(10**400)}, 400),
    "a subject that no database stores": ({"sub": "subject\0"}, 400),
    "no subject": ({"sub": None}, 400),
    "no id": ({"jti": None}, 400),
}


@pytest.mark.parametrize("case", LOGOUTS)
def test_the_provider_ends_sessions(
    client: Client, liar: LyingProvider, case: str, monkeypatch: Any
) -> None:
    changed, status = LOGOUTS[case]
    other = Client()
    sign_on(client, liar)
    sign_on(other, liar)
    monkeypatch.setattr(provider, "KEYS_REST_SECONDS", 0)
    liar.key, liar.keys = NEXT_KEY, [NEXT_KEY]  # one that was not there at the sign-on
    token = {
        "iss": liar.url,
        "aud": "authsite",
        "iat": int(time.time()),
        "exp": int(time.time()) + 60,
        "jti": "1",
        "sub": "subject-1",
        "events": EVENTS,
    } | changed
    signed = liar.signed({name: value for name, value in token.items() if value is not None})
    answer = Client(enforce_csrf_checks=True).post(
        "/admin/sign-on/back-channel-logout/", {"logout_token": signed}
    )
    assert answer.status_code == status
    ended = case == "honest"
    assert [is_anonymous(one) for one in (client, other)] == [ended, ended]


@pytest.mark.parametrize("token", ["", "a.b.c", "x" * 100_000])
def test_a_log_out_that_is_none_ends_nothing(
    client: Client, liar: LyingProvider, token: str
) -> None:
    sign_on(client, liar)
    address = "/admin/sign-on/back-channel-logout/"
    assert Client().post(address, {"logout_token": token}).status_code == 400
    assert Client().get(address).status_code == 405
    assert not is_anonymous(client)


@pytest.mark.parametrize("method", ["get", "post"])
def test_nobody_gives_themselves_a_password_of_ours(
    client: Client, liar: LyingProvider, method: str
) -> None:
    sign_on(client, liar)
    new = {"old_password": "", "new_password1": PASSWORD, "new_password2": PASSWORD}
    page = getattr(client, method)("/admin/password_change/", new)
    assert "has no password in this registry" in page.content.decode()
    assert not User.objects.get().has_usable_password()


# --- Break-glass accounts -------------------------------------------------------------------


def test_passwords_can_be_left_to_emergency_accounts(
    client: Client, liar: LyingProvider, settings: Any, caplog: Any
) -> None:
    settings.STAFF_SECOND_FACTOR = "optional"
    for name in ("glass", "lee"):
        User.objects.create_superuser(name, password=PASSWORD)
    settings.BREAK_GLASS_ACCOUNTS = ["glass"]
    page = client.get("/admin/login/").content.decode()
    assert "Log in with an emergency account" in page
    refused = client.post("/admin/login/", {"username": "lee", "password": PASSWORD})
    assert refused.status_code == 200
    assert is_anonymous(client)
    entered = client.post("/admin/login/", {"username": "glass", "password": PASSWORD})
    assert entered.status_code == 302
    assert "break-glass account 'glass' logged in" in caplog.text
    assert is_anonymous(client), "a second factor is due, whatever the others may do without"
    assert client.get("/admin/second-factor/settings/").status_code == 200


def test_without_a_second_factor_emergency_accounts_stay_out(
    client: Client, settings: Any, caplog: Any
) -> None:
    settings.STAFF_SECOND_FACTOR, settings.BREAK_GLASS_ACCOUNTS = "off", ["glass"]
    User.objects.create_superuser("glass", password=PASSWORD)
    client.post("/admin/login/", {"username": "glass", "password": PASSWORD})
    assert is_anonymous(client)
    assert "'glass' was refused: STAFF_SECOND_FACTOR is off" in caplog.text


def test_a_password_of_before_the_rule_confirms_nothing(
    client: Client, settings: Any, liar: LyingProvider
) -> None:
    User.objects.create_superuser("lee", password=PASSWORD)
    client.post("/admin/login/", {"username": "lee", "password": PASSWORD})
    settings.BREAK_GLASS_ACCOUNTS = ["glass"]
    answer = client.post("/admin/confirm/", {"password": PASSWORD})
    assert answer.status_code == 200
    assert "The password is wrong." in answer.content.decode()


def test_identities_are_one_a_subject(liar: LyingProvider) -> None:
    for name in ("a", "b"):
        User.objects.create_user(name)
    first, second = User.objects.order_by("username")
    kept = {"source": "openid", "issuer": liar.url, "subject": "s"}
    ExternalIdentity.objects.create(user=first, **kept)
    for wrong in (kept, kept | {"source": "x"}, kept | {"subject": ""}):
        with pytest.raises(IntegrityError), transaction.atomic():
            ExternalIdentity.objects.create(user=second, **wrong)


def test_an_account_is_tied_to_a_subject_and_untied(
    client: Client, liar: LyingProvider, settings: Any
) -> None:
    settings.BREAK_GLASS_ACCOUNTS = ["glass"]
    for name in ("kim", "glass"):
        User.objects.create_superuser(name, password=PASSWORD)
    assert sign_on(client, liar).status_code == 403
    run("tie_account", "kim", "--subject", "subject-1", "--reason", "ticket 7")
    tied = Event.objects.get(kind="account.tied").data
    assert (tied["account"]["username"], tied["subject"]) == ("kim", "subject-1")
    assert tied["reason"] == "tie_account: ticket 7"
    assert sign_on(client, liar).status_code == 302
    assert roles() == {"Viewer"}
    assert not User.objects.get(username="kim").has_usable_password()
    for words, code in (
        (["nobody", "--subject", "x"], 1),
        (["glass", "--subject", "subject-1"], 1),
        (["glass", "--subject", ""], 2),
        (["glass", "--subject", "x" * 256], 2),
    ):
        run("tie_account", *words, code=code)
    sam = User.objects.get(username="glass")
    ServiceAccount.objects.create_account("line-3", answerable=sam)
    assert "never logs in" in run("tie_account", "line-3", "--subject", "subject-3", code=1)[1]
    run("tie_account", "glass", "--subject", "subject-2")
    assert User.objects.get(username="glass").check_password(PASSWORD)
    assert not is_anonymous(client)
    run("tie_account", "kim", "--untie")
    assert is_anonymous(client), "whoever it was is signed out"
    run("tie_account", "kim", "--untie", code=1)
    untied = Event.objects.get(kind="account.untied").data
    assert untied["account"]["username"] == "kim"
    assert sign_on(client, liar).status_code == 403
    settings.OIDC_ISSUER = ""
    assert "OIDC_ISSUER" in run("tie_account", "kim", "--subject", "x", code=2)[1]
    run("tie_account", "kim", "--subject", "x", "--source", "ldap")
    assert ExternalIdentity.objects.get(subject="x").issuer == ""
