"""How staff get in: hashing, lock-out, sessions, the password again, second factors."""

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.hashers import PBKDF2PasswordHasher, identify_hasher
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_otp_webauthn.models import WebAuthnCredential
from django_otp_webauthn.views import (
    CompleteCredentialAuthenticationView,
    CompleteCredentialRegistrationView,
)

from authsite.accounts import login, second_factor
from devices.admin.base.reauthentication import CONFIRMED_AT, recently_authenticated
from devices.events.models import Event
from tests.support.staff import browser_of, staff

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
PASSWORD = "a long enough password"
LOGIN = "/admin/login/"


@pytest.fixture
def kim() -> User:
    return User.objects.create_superuser("kim", password=PASSWORD)


@pytest.fixture
def optional(settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = "optional"


@pytest.fixture
def required(settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = "required"


def sign_in(client: Client, password: str = PASSWORD, name: str = "kim", **extra: Any) -> Any:
    return client.post(LOGIN, {"username": name, "password": password}, **extra)


def age(client: Client, **moments: float) -> None:
    """Set moments of a session back by so many seconds."""
    session = client.session
    for name, seconds in moments.items():
        session[name] -= seconds
    session.save()


def app(user: User) -> TOTPDevice:
    return TOTPDevice.objects.create(user=user, name="app", confirmed=True)


def code_of(device: TOTPDevice, steps: int = 0) -> str:
    codes = TOTP(device.bin_key, t0=-30 * steps)
    codes.time = time.time()  # which a test may hold
    return f"{codes.token():06d}"


# --- Passwords ------------------------------------------------------------------------------


def test_passwords_are_kept_as_argon2id_at_a_bounded_cost(settings: Any) -> None:
    from authsite import settings as production

    settings.PASSWORD_HASHERS = production.PASSWORD_HASHERS
    user = User(username="kim")
    user.set_password(PASSWORD)
    assert user.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")


def test_an_older_hash_is_made_anew_at_the_next_login(client: Client, settings: Any) -> None:
    from authsite import settings as production

    settings.PASSWORD_HASHERS = production.PASSWORD_HASHERS
    old = PBKDF2PasswordHasher().encode(PASSWORD, "salt", iterations=1000)
    user = User.objects.create(username="kim", password=old, is_staff=True)
    assert sign_in(client).status_code == 302
    user.refresh_from_db()
    assert identify_hasher(user.password).algorithm == "argon2"


# --- Lock-out; each place that counts: tests/regressions/test_guesses_at_staff_passwords.py ---


def fail(client: Client, times: int, **extra: Any) -> Any:
    return [sign_in(client, "wrong", **extra) for _ in range(times)][-1]


def test_five_failures_lock_a_name_out_for_one_address(client: Client, kim: User) -> None:
    fail(client, 4)
    locked = fail(client, 1)
    assert locked.status_code == 429
    assert locked.headers["Retry-After"] == "900"
    assert "Try again in 15 minutes" in locked.content.decode()
    assert sign_in(client).status_code == 429
    assert sign_in(client, REMOTE_ADDR="192.0.2.7").status_code == 302


@pytest.mark.parametrize("length", [150, 151, 256, 10_000])
def test_a_name_of_any_length_is_a_wrong_one(client: Client, length: int) -> None:
    answer = sign_in(client, name="x" * length)
    assert answer.status_code == 200
    assert "The username or the password is wrong." in answer.content.decode()
    assert AccessAttempt.objects.exists() is (length == 150)


def test_a_wait_that_was_promised_ends(client: Client, kim: User, settings: Any) -> None:
    fail(client, 5)
    AccessAttempt.objects.update(attempt_time=login_time_ago(minutes=14))
    assert sign_in(client).status_code == 429
    AccessAttempt.objects.update(attempt_time=login_time_ago(minutes=16))
    assert sign_in(client).status_code == 302


def login_time_ago(**span: float) -> Any:
    from django.utils import timezone

    return timezone.now() - timedelta(**span)


def test_a_success_forgets_the_failures(client: Client, kim: User) -> None:
    fail(client, 4)
    assert sign_in(client).status_code == 302
    fail(Client(), 4)
    assert sign_in(Client()).status_code == 302


def test_staff_with_a_shell_free_who_is_locked_out(client: Client, kim: User) -> None:
    fail(client, 5)
    call_command("axes_reset_username", "kim")
    assert sign_in(client).status_code == 302


def test_nothing_that_was_typed_is_kept_but_the_name(client: Client, kim: User) -> None:
    sign_in(client, "a password nobody may read")
    row = AccessAttempt.objects.get()
    assert "nobody may read" not in repr(row.__dict__)
    assert row.username == "kim"


PROXY, FORWARDED = "10.0.0.0/8", "HTTP_X_FORWARDED_FOR"


@pytest.mark.parametrize(
    ("meta", "proxies", "counted", "whole"),
    [
        ({"REMOTE_ADDR": "192.0.2.1"}, "", "192.0.2.1", "192.0.2.1"),
        ({"REMOTE_ADDR": "::ffff:192.0.2.1"}, "", "192.0.2.1", "192.0.2.1"),
        ({"REMOTE_ADDR": "2001:db8:1:2:3::4"}, "", "2001:db8:1:2::", "2001:db8:1:2:3::4"),
        ({"REMOTE_ADDR": "10.0.0.1", FORWARDED: "192.0.2.9"}, PROXY, "192.0.2.9", "192.0.2.9"),
        ({"REMOTE_ADDR": "10.0.0.1", FORWARDED: "unknown"}, PROXY, "10.0.0.1", None),
        ({"REMOTE_ADDR": "10.0.0.1", FORWARDED: "fe80::1%\u202ex"}, PROXY, "fe80::", "fe80::1"),
        ({"REMOTE_ADDR": "192.0.2.1", FORWARDED: "192.0.2.9"}, "", "192.0.2.1", None),
        ({"REMOTE_ADDR": ""}, "", None, None),
    ],
    ids=["plain", "mapped", "ipv6", "proxy", "junk", "zone", "forged", "socket"],
)
def test_the_address_that_failures_are_counted_for_and_the_one_that_is_shown(
    meta: dict[str, str], proxies: str, counted: str | None, whole: str | None, settings: Any
) -> None:
    from ipaddress import ip_network

    settings.TRUSTED_PROXIES = tuple(ip_network(word) for word in proxies.split())
    request = HttpRequest()
    request.META = meta
    assert (login.client_address(request), login.whole_address(request)) == (counted, whole)


def test_the_machine_endpoints_never_ask_for_a_lock_out(
    client: Client, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        client.post("/deviceverifier", "{", content_type="application/json")
    assert not AccessAttempt.objects.exists()


# --- Sessions -------------------------------------------------------------------------------


def test_a_session_ends_twelve_hours_after_its_login(client: Client, kim: User) -> None:
    sign_in(client)
    age(client, signed_in_at=12 * 3600 - 60)
    assert client.get("/admin/").status_code == 200
    age(client, signed_in_at=61)
    assert client.get("/admin/").headers["Location"].startswith(LOGIN)
    sent = client.post("/admin/devices/device/add/", {"identifier": "x"}, follow=True)
    assert "What you sent was not saved" in sent.content.decode()
    for _ in range(30):  # nobody reads it; what does not fit in a cookie would make a session
        client.post("/admin/devices/device/add/", {"identifier": "x"})
    assert client.get("/admin/login/").content.decode().count("What you sent was not saved") == 1
    assert not Session.objects.exists()
    assert "Logged out" in client.post("/admin/logout/").content.decode()


@pytest.mark.usefixtures("prolonged_sessions")
def test_a_session_is_prolonged_once_a_minute_while_it_is_used(client: Client, kim: User) -> None:
    sign_in(client)
    client.get("/admin/")
    noted = client.session["active_at"]
    client.get("/admin/")
    assert client.session["active_at"] == noted
    age(client, active_at=61)
    answer = client.get("/admin/")
    assert client.session["active_at"] > noted - 61
    assert answer.cookies["sessionid"]["max-age"] == 3600


# --- The password again ---------------------------------------------------------------------


@recently_authenticated
def guarded(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the secret")


def visit(client: Client) -> Any:
    request = RequestFactory().get("/admin/some/page/?a=b")
    request.session = client.session
    return guarded(request)


def test_a_guarded_page_opens_right_after_the_login(client: Client, kim: User) -> None:
    sign_in(client)
    assert visit(client).content == b"the secret"


@pytest.mark.parametrize("moment", [-15 * 60, 60], ids=["long ago", "to come"])
def test_a_guarded_page_asks_for_the_password_again(
    client: Client, kim: User, moment: float
) -> None:
    sign_in(client)
    age(client, confirmed_at=-moment)
    sent = visit(client).headers["Location"]
    assert sent == "/admin/confirm/?next=%2Fadmin%2Fsome%2Fpage%2F%3Fa%3Db"
    wrong = client.post(sent, {"password": "wrong"})
    assert "The password is wrong" in wrong.content.decode()
    assert visit(client).status_code == 302
    assert client.post(sent, {"password": PASSWORD}).headers["Location"] == "/admin/some/page/?a=b"
    assert visit(client).content == b"the secret"


def test_a_guarded_page_stays_shut_where_nobody_confirmed_anything(client: Client) -> None:
    assert visit(client).status_code == 302


def test_no_page_leads_to_another_site(client: Client, kim: User) -> None:
    sign_in(client)
    answer = client.post("/admin/confirm/?next=//evil.example/", {"password": PASSWORD})
    assert answer.headers["Location"] == "/admin/"


# --- The second factor ----------------------------------------------------------------------


def test_switched_off_there_is_no_second_factor(client: Client, kim: User) -> None:
    app(kim)
    sign_in(client)
    page = client.get("/admin/")
    assert page.status_code == 200
    assert "Second factor" not in page.content.decode()
    assert client.get("/admin/second-factor/settings/").status_code == 403
    assert client.post(reverse("otp_webauthn:credential-registration-begin")).status_code == 403


@pytest.mark.usefixtures("optional")
def test_who_has_none_works_on_where_it_is_optional(
    client: Client, kim: User, django_assert_num_queries: Any
) -> None:
    sign_in(client)
    client.get("/admin/password_change/")
    with django_assert_num_queries(3):  # the session, the account, its second factors
        assert client.get("/admin/password_change/").status_code == 200


@pytest.mark.usefixtures("required")
def test_who_has_none_is_sent_to_set_one_up_where_it_is_required(client: Client, kim: User) -> None:
    sign_in(client)
    page = client.get("/admin/devices/device/", follow=True)
    assert page.redirect_chain[-1][0].startswith("/admin/second-factor/settings/")
    assert "Set one up to go on" in page.text
    assert 'action="/admin/logout/"' in page.text
    assert client.post("/admin/logout/").status_code == 200


@pytest.mark.usefixtures("required")
def test_setting_up_an_app(client: Client, kim: User) -> None:
    sign_in(client)
    page = client.get("/admin/second-factor/app/").content.decode()
    device = TOTPDevice.objects.get()
    assert not device.confirmed
    assert "<svg" in page
    assert second_factor.typed_key(device) in page
    wrong = client.post("/admin/second-factor/app/", {"code": "000000x"}).text
    assert "This code is wrong" in wrong
    assert "000000x" not in wrong  # the field is empty
    wrongly = {"throttling_failure_count": 20, "throttling_failure_timestamp": timezone.now()}
    TOTPDevice.objects.update(**wrongly)
    waits = client.post("/admin/second-factor/app/", {"code": code_of(device)}).text
    assert "in 8739 minutes" in waits
    second_factor.end_waits(kim)
    shown = client.post("/admin/second-factor/app/", {"code": code_of(device)}).content.decode()
    codes = re.findall(r"<code>([a-z2-9]{5}-[a-z2-9]{5})</code>", shown)
    assert len(set(codes)) == second_factor.RECOVERY_CODES
    assert client.get("/admin/").status_code == 200
    assert not StaticToken.objects.filter(token__in=codes).exists()
    again = client.get("/admin/second-factor/settings/").content.decode()
    assert codes[0] not in again
    assert "10 codes are left" in again


@pytest.mark.usefixtures("optional")
def test_what_another_session_was_shown_sets_nothing_up(client: Client, kim: User) -> None:
    other = Client()
    sign_in(other)
    other.get("/admin/second-factor/app/")
    seen = TOTPDevice.objects.get()
    sign_in(client)
    page = client.get("/admin/second-factor/app/").content.decode()
    assert second_factor.typed_key(seen) not in page
    client.post("/admin/second-factor/app/", {"code": code_of(seen)})
    assert not TOTPDevice.objects.filter(confirmed=True).exists()
    again = client.get("/admin/second-factor/app/").content.decode()
    assert second_factor.typed_key(TOTPDevice.objects.get()) in page, "a page that is shown twice"
    assert second_factor.typed_key(TOTPDevice.objects.get()) in again


@pytest.mark.usefixtures("optional")
def test_who_has_an_app_gives_its_code(client: Client, kim: User) -> None:
    device = app(kim)
    sign_in(client)
    step = client.get("/admin/devices/device/?q=a", follow=True)
    address, _status = step.redirect_chain[-1]
    assert address == "/admin/second-factor/?next=%2Fadmin%2Fdevices%2Fdevice%2F%3Fq%3Da"
    assert "devices/devicegroup" not in step.content.decode()
    answer = client.post(address, {"code": code_of(device)})
    assert answer.headers["Location"] == "/admin/devices/device/?q=a"
    assert client.get(answer.headers["Location"]).status_code == 200


def key_of(client: Client) -> str:
    """Return the session key that the browser of a client holds."""
    return client.cookies["sessionid"].value


def csrf_of(client: Client) -> str:
    """Return the secret that the browser of a client proves with that its forms are ours."""
    return client.cookies["csrftoken"].value


@pytest.mark.usefixtures("required")
@pytest.mark.parametrize("enrols", [True, False])
def test_a_key_from_before_the_second_factor_opens_nothing(kim: User, enrols: bool) -> None:
    stranger, staff = Client(), Client()  # one knows the password, and plants the session's key
    device = None if enrols else app(kim)
    sign_in(stranger)
    staff.cookies["sessionid"] = key_of(stranger)
    staff.cookies["csrftoken"] = csrf_of(stranger)
    if device is None:
        staff.get("/admin/second-factor/app/")
        code = code_of(TOTPDevice.objects.get())
        staff.post("/admin/second-factor/app/", {"code": code})
    else:
        staff.post("/admin/second-factor/", {"code": code_of(device)})
    assert staff.get("/admin/").status_code == 200
    assert key_of(staff) != key_of(stranger)
    assert csrf_of(staff) != csrf_of(stranger)
    assert stranger.get("/admin/").status_code == 302


@pytest.mark.usefixtures("optional")
def test_a_passkey_that_is_registered_gives_the_session_a_new_key(
    client: Client, kim: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = CompleteCredentialRegistrationView  # what a browser proves to it: tests/e2e
    monkeypatch.setattr(registered, "post", lambda *_given: JsonResponse({}))
    sign_in(client)
    before, csrf = key_of(client), csrf_of(client)
    address = "/admin/passkeys/registration/complete/"
    assert client.post(address, "{}", content_type="application/json").status_code == 200
    assert key_of(client) != before
    assert csrf_of(client) != csrf
    assert client.get("/admin/").status_code == 200


@pytest.mark.usefixtures("optional")
def test_a_passkey_that_is_refused_leaves_the_session_its_key(client: Client, kim: User) -> None:
    sign_in(client)
    before, csrf = key_of(client), csrf_of(client)
    address = "/admin/passkeys/registration/complete/"
    assert client.post(address, "{}", content_type="application/json").status_code == 400
    assert (key_of(client), csrf_of(client)) == (before, csrf)
    assert client.get("/admin/").status_code == 200


@pytest.mark.usefixtures("required")
def test_a_passkey_that_is_given_gives_the_session_a_new_key(
    client: Client, kim: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    passkey = passkey_of(kim)

    def post(view: Any, *_given: object) -> JsonResponse:
        view.complete_auth(passkey)
        return JsonResponse({})

    verified = CompleteCredentialAuthenticationView  # what a browser proves to it: tests/e2e
    monkeypatch.setattr(verified, "post", post)
    sign_in(client)
    before, csrf = key_of(client), csrf_of(client)
    address = "/admin/passkeys/authentication/complete/"
    assert client.post(address, "{}", content_type="application/json").status_code == 200
    assert key_of(client) != before
    assert csrf_of(client) != csrf
    assert client.get("/admin/").status_code == 200
    given, csrf = key_of(client), csrf_of(client)
    assert client.post(address, "{}", content_type="application/json").status_code == 200
    assert key_of(client) != given
    assert csrf_of(client) == csrf, "forms that lie open are still accepted"


@pytest.mark.usefixtures("optional")
def test_a_code_works_once(client: Client, kim: User) -> None:
    device = app(kim)
    code = code_of(device)
    assert second_factor.verify_code(kim, code) == device
    assert second_factor.verify_code(kim, code) is None


@pytest.mark.usefixtures("optional")
def test_an_app_that_no_code_has_confirmed_is_no_second_factor(kim: User) -> None:
    app(kim)
    TOTPDevice.objects.update(confirmed=False)
    assert second_factor.verify_code(kim, code_of(TOTPDevice.objects.get())) is None


@pytest.mark.usefixtures("optional")
def test_wrong_codes_make_the_next_ones_wait(client: Client, kim: User) -> None:
    device = app(kim)
    sign_in(client)
    for _ in range(3):
        page = client.post("/admin/second-factor/", {"code": "000000"}).content.decode()
        assert "Wait until" in page
    client.post("/admin/second-factor/", {"code": code_of(device)})
    assert client.get("/admin/").status_code == 302


@pytest.mark.usefixtures("optional")
def test_a_recovery_code_works_once_and_however_it_is_written(client: Client, kim: User) -> None:
    app(kim)
    first, second, *_rest = second_factor.issue_recovery_codes(kim)
    assert second_factor.verify_code(kim, first.upper().replace("-", " ")) is not None
    assert second_factor.verify_code(kim, first) is None
    recovery = second_factor.recovery_device(kim)
    assert recovery is not None
    recovery.throttle_reset()
    assert second_factor.verify_code(kim, second) is not None


def test_recovery_codes_of_earlier_releases_still_work(kim: User, settings: Any) -> None:
    settings.SECRET_KEY = "the key of that release"
    codes = StaticDevice.objects.create(user=kim)
    codes.token_set.create(token="9d7916c387ec273e")
    assert second_factor.verify_code(kim, "abcde-fghjk") == codes


@pytest.mark.usefixtures("optional")
def test_nobody_removes_a_factor_before_giving_it(client: Client, kim: User) -> None:
    app(kim)
    sign_in(client)
    for address in ("settings", "app", "codes", "remove"):
        page = f"/admin/second-factor/{address}/"
        answer = client.post(page, {"factor": "app"})
        assert answer.status_code == 403, address
    assert TOTPDevice.objects.filter(confirmed=True).exists()


@pytest.mark.usefixtures("optional")
@pytest.mark.parametrize("factor", ["9" * 5000, "9" * 30, "²", "-1", ""])
def test_a_factor_that_nobody_has_removes_none(client: Client, kim: User, factor: str) -> None:
    device = app(kim)
    sign_in(client)
    client.post("/admin/second-factor/", {"code": code_of(device)})
    said = client.post("/admin/second-factor/remove/", {"factor": factor}, follow=True)
    assert "There is no such factor any more." in said.text
    assert second_factor.has_codes(kim)


@pytest.mark.usefixtures("optional")
@pytest.mark.parametrize("ceremony", ["registration", "authentication"])
def test_a_passkey_that_is_no_json_is_a_bad_request(
    client: Client, kim: User, ceremony: str
) -> None:
    sign_in(client)
    for step in ("begin", "complete"):
        address = reverse(f"otp_webauthn:credential-{ceremony}-{step}")
        for body in (b"\xff", b"[" * 100_000, b"1" * 5000, b"{"):
            answer = client.post(address, body, content_type="application/json")
            assert answer.status_code == 400, body[:10]


@pytest.mark.usefixtures("optional", "now")
def test_changing_factors_asks_for_password_and_factor_again(client: Client, kim: User) -> None:
    device = app(kim)
    sign_in(client)
    client.post("/admin/second-factor/", {"code": code_of(device)})
    age(client, confirmed_at=1000, password_at=1000)
    page = "/admin/second-factor/app/"
    sent = client.get(page).headers["Location"]
    step = client.post(sent, {"password": PASSWORD}).headers["Location"]
    assert step == "/admin/second-factor/?next=%2Fadmin%2Fsecond-factor%2Fapp%2F"
    assert client.get(page).status_code == 302  # the password alone is not enough
    assert client.post(step, {"code": code_of(device, 1)}).headers["Location"] == page
    assert client.get(page).status_code == 200


@pytest.mark.usefixtures("optional")
def test_a_code_alone_does_not_confirm(client: Client, kim: User) -> None:
    device = app(kim)
    sign_in(client)
    age(client, confirmed_at=1000, password_at=1000)
    client.post("/admin/second-factor/", {"code": code_of(device)})
    assert time.time() - client.session[CONFIRMED_AT] > 900


@pytest.mark.usefixtures("optional")
def test_removing_the_last_factor_takes_the_recovery_codes_along(client: Client, kim: User) -> None:
    device = app(kim)
    second_factor.issue_recovery_codes(kim)
    sign_in(client)
    client.post("/admin/second-factor/", {"code": code_of(device)})
    for name in ("remove", "codes"):  # once the password was asked for again
        answer = client.get(f"/admin/second-factor/{name}/")
        assert answer.headers["Location"] == "/admin/second-factor/settings/"
    client.post("/admin/second-factor/remove/", {"factor": "app"})
    assert not TOTPDevice.objects.exists()
    assert not StaticToken.objects.exists()


def passkey_of(user: User) -> WebAuthnCredential:
    passkey: WebAuthnCredential = WebAuthnCredential.objects.create(
        user=user, credential_id=b"1", public_key=b"2", aaguid="0" * 32, sign_count=0
    )
    return passkey


def test_recovery_codes_stay_while_a_factor_is_left(kim: User) -> None:
    app(kim)
    passkey = passkey_of(kim)
    second_factor.issue_recovery_codes(kim)
    second_factor.remove(kim, "app")
    assert StaticToken.objects.exists()
    second_factor.remove(kim, str(passkey.pk))
    assert not StaticToken.objects.exists()


def set_up_another_app(user: User) -> None:
    session = Client().session
    pending = second_factor.begin_enrolment(user, session)
    assert second_factor.finish_enrolment(user, session, code_of(pending)) == pending


def test_a_new_app_replaces_the_one_before(kim: User) -> None:
    before = app(kim)
    set_up_another_app(kim)
    (after,) = TOTPDevice.objects.all()
    assert after != before
    assert after.confirmed


@pytest.mark.usefixtures("optional")
@pytest.mark.parametrize(
    "change",
    [
        set_up_another_app,
        second_factor.issue_recovery_codes,
        second_factor.end_waits,
        second_factor.remove_all,
        lambda user: second_factor.remove(user, "app"),
    ],
    ids=["another app", "codes", "waits", "all", "app"],
)
def test_a_change_of_factors_concerns_one_account_alone(
    kim: User, change: Callable[[User], object]
) -> None:
    lee = User.objects.create_user("lee")
    code = second_factor.issue_recovery_codes(lee)[0]
    pending = TOTPDevice.objects.create(user=lee, name="pending", confirmed=False)
    waiting = app(lee)
    waiting.throttle_increment()
    app(kim)
    change(kim)
    waiting.refresh_from_db()
    assert waiting.throttling_failure_count == 1
    assert TOTPDevice.objects.filter(pk=pending.pk).exists()
    assert second_factor.verify_code(kim, code) is None
    assert second_factor.verify_code(lee, code) is not None


@pytest.mark.usefixtures("optional", "now")
def test_new_recovery_codes_replace_those_before(client: Client, kim: User) -> None:
    page = "/admin/second-factor/codes/"
    sign_in(client)
    assert client.post(page).status_code == 403, "there is nothing to recover"
    device = app(kim)
    before = second_factor.issue_recovery_codes(kim)
    client.post("/admin/second-factor/", {"code": code_of(device)})
    shown = client.post(page).content.decode()
    after = re.findall(r"<code>([a-z2-9]{5}-[a-z2-9]{5})</code>", shown)
    assert len({*before, *after}) == 2 * second_factor.RECOVERY_CODES
    assert second_factor.verify_code(kim, before[0]) is None
    StaticDevice.objects.get().throttle_reset()
    assert second_factor.verify_code(kim, after[0]) is not None


@pytest.mark.usefixtures("optional")
def test_nobody_removes_the_passkey_of_another(kim: User) -> None:
    lee = User.objects.create_user("lee")
    passkey = passkey_of(lee)
    second_factor.remove(kim, str(passkey.pk))
    assert WebAuthnCredential.objects.exists()
    second_factor.remove(lee, str(passkey.pk))
    assert not WebAuthnCredential.objects.exists()


@pytest.mark.usefixtures("required")
def test_a_login_without_staff_rights_gets_nowhere(client: Client) -> None:
    User.objects.create_user("lee", password=PASSWORD)
    client.force_login(User.objects.get(username="lee"))
    assert client.get("/admin/second-factor/").status_code == 403
    assert client.post(reverse("otp_webauthn:credential-registration-begin")).status_code == 403


ACCOUNTS = "/admin/auth/user/"


@pytest.mark.usefixtures("optional")
def test_a_superuser_takes_a_lost_factor_off(admin_client: Client, kim: User) -> None:
    app(kim)
    sent = {"action": "remove_second_factors", "_selected_action": [kim.pk]}
    page = admin_client.post(ACCOUNTS, sent)
    assert "kim" in page.content.decode()
    assert second_factor.has_codes(kim)
    admin_client.post(ACCOUNTS, {**sent, "confirmed": "yes", "shown": "of others"})
    assert second_factor.has_codes(kim)
    admin_client.post(ACCOUNTS, {**sent, **dict(page.context["own_hidden"])})
    assert not second_factor.has_codes(kim)
    age(admin_client, confirmed_at=1000)
    assert admin_client.post(ACCOUNTS, sent).headers["Location"].startswith("/admin/confirm/")


@pytest.mark.parametrize("page", ["add/", "{}/password/"])
def test_a_stolen_session_of_a_superuser_sets_no_password(
    client: Client, kim: User, page: str
) -> None:
    sign_in(client)
    address = ACCOUNTS + page.format(kim.pk)
    assert client.get(address).status_code == 200
    age(client, confirmed_at=1000)
    new = {"username": "lee", "usable_password": "true", "password1": "another long one"}
    sent = {**new, "password2": new["password1"], "set-password": "1"}
    for answer in (client.get(address), client.post(address, sent)):
        assert answer.headers["Location"].startswith("/admin/confirm/")
    kim.refresh_from_db()
    assert kim.check_password(PASSWORD)
    assert User.objects.count() == 1


def test_staff_log_an_account_out_everywhere(
    client: Client, admin_client: Client, admin_user: User, kim: User
) -> None:
    other = Client()
    sign_in(client)
    sign_in(other)
    stranger = browser_of(User.objects.create_superuser("lee"))
    chosen = {"action": "log_out", "_selected_action": [kim.pk, admin_user.pk]}
    page = admin_client.post(ACCOUNTS, chosen)
    assert client.get("/admin/").status_code == 200
    answer = admin_client.post(
        ACCOUNTS, {**chosen, **dict(page.context["own_hidden"])}, follow=True
    )
    assert "2 sessions ended." in answer.content.decode(), "one's own goes on"
    opened = [one.get("/admin/").status_code for one in (client, other, stranger, admin_client)]
    assert opened == [302, 302, 200, 200]


@pytest.mark.usefixtures("optional")
def test_to_unlock_an_account_ends_the_wait_after_wrong_codes(
    client: Client, admin_client: Client, kim: User
) -> None:
    device = app(kim)
    TOTPDevice.objects.update(
        throttling_failure_count=20, throttling_failure_timestamp=timezone.now()
    )
    sign_in(client)
    page = "/admin/second-factor/"
    refused = client.post(page, {"code": code_of(device)})
    assert "in 8739 minutes" in refused.content.decode()
    unlocked = {"action": "unlock_accounts", "_selected_action": [kim.pk]}
    assert (
        "1 account unlocked" in admin_client.post(ACCOUNTS, unlocked, follow=True).content.decode()
    )
    assert client.post(page, {"code": code_of(device)}).status_code == 302


@pytest.mark.usefixtures("optional")
def test_nobody_else_does(kim: User) -> None:
    page = browser_of(staff("view_user", "change_user", name="lee")).get(ACCOUNTS)
    assert "remove_second_factors" not in page.content.decode()


def test_no_page_shows_what_apps_make_codes_with(admin_client: Client, kim: User) -> None:
    app(kim)
    for name in ("otp_totp/totpdevice", "otp_static/staticdevice"):
        assert admin_client.get(f"/admin/{name}/").status_code == 404


def test_a_lost_factor_is_taken_off_from_the_shell(kim: User, capsys: Any) -> None:
    app(kim)
    second_factor.issue_recovery_codes(kim)
    call_command("reset_second_factor", "kim", "--reason", "lost")
    event = Event.objects.get(kind="account.second_factor_removed")
    assert event.data["account"]["username"] == "kim"
    assert event.data["reason"] == "reset_second_factor: lost"
    assert "2" in capsys.readouterr().out
    assert not second_factor.has_codes(kim)
    with pytest.raises(SystemExit):
        call_command("reset_second_factor", "kim")
    assert Event.objects.filter(kind=event.kind).count() == 1, "nothing was removed"
