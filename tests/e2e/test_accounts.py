"""Logins in a real browser: lock-out, an app for codes, a passkey, the password again."""

import re
from base64 import b32decode
from collections.abc import Iterator

import pytest
from django_otp.oath import totp
from playwright.sync_api import Browser, Page, expect

from tests.support.servers import Server, demo_server

pytestmark = pytest.mark.once(on="processes")

PATIENCE = 10_000  # milliseconds
LONG_AGO = """
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
for row in Session.objects.all():
    session = SessionStore(row.session_key)
    if "confirmed_at" in session:
        session["confirmed_at"] -= 3600
        session["password_at"] -= 3600
        session.save()
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server whose staff may have a second factor."""
    folder = tmp_path_factory.mktemp("guarded")
    with demo_server(folder, STAFF_SECOND_FACTOR="optional") as server:
        yield server


@pytest.fixture
def page(browser: Browser, guarded: Server) -> Iterator[Page]:
    """Return a browser's page at the login, under a name that passkeys work for."""
    url = guarded.url.replace("127.0.0.1", "localhost")
    with browser.new_context(base_url=url, viewport={"width": 390, "height": 844}) as context:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/admin/")
        yield page
    assert complaints == []


@pytest.fixture
def staff(guarded: Server) -> Iterator[str]:
    """Return the name of an account without a second factor; it has none afterwards, either."""
    yield guarded.staff.name
    guarded.manage("shell", "--no-imports", "-c", FORGET)


ADDED = """
from devices.events.models import Event
event = Event.objects.filter(kind="account.second_factor_added").latest("pk")
print(event.data["factor"], event.data["account"]["username"])
"""
FORGET = """
from django.contrib.auth.models import User
from django.core.management import call_command
from authsite.accounts import second_factor

call_command("axes_reset")
for user in User.objects.all():
    second_factor.remove_all(user)
"""


def log_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("Username:").fill(name)
    page.get_by_label("Password:").fill(password)
    page.get_by_label("Password:").press("Enter")


def log_out(page: Page) -> None:
    page.goto("/admin/")
    page.locator("#account-menu summary").click()
    page.get_by_role("button", name="Log out").click()
    page.goto("/admin/")


def code(key: str, steps: int = 0) -> str:
    """Return what an app with this key shows, now or some steps from now."""
    return f"{totp(b32decode(key.replace(' ', '')), t0=-30 * steps):06d}"


def set_up_app(page: Page) -> str:
    """Set an app up from the start page; return its key."""
    page.locator("#account-menu summary").click()
    page.get_by_role("link", name="Second factor").click()
    page.get_by_role("link", name="Set up an app").click()
    key = page.locator(".typed-key").inner_text()
    expect(page.locator(".qr svg")).to_be_visible()
    page.get_by_label("Code:").fill(code(key))
    page.get_by_role("button", name="Set up").click()
    return key


def test_who_guesses_is_locked_out_and_told_how_long(
    page: Page, guarded: Server, staff: str
) -> None:
    for _ in range(5):
        log_in(page, staff, "guess")
    expect(page.locator(".errornote")).to_contain_text("Try again in 15 minutes.")
    page.get_by_role("link", name="Back to the login page").click()
    log_in(page, staff, guarded.staff.password)
    expect(page.get_by_role("heading", name="Too many failed logins")).to_be_visible()
    guarded.manage("axes_reset_username", staff)
    page.goto("/admin/")
    log_in(page, staff, guarded.staff.password)
    page.wait_for_url(re.compile(r"/admin/$"))


def test_an_app_for_codes_is_set_up_and_asked_for(page: Page, guarded: Server, staff: str) -> None:
    log_in(page, staff, guarded.staff.password)
    key = set_up_app(page)
    codes = page.locator(".recovery-codes code")
    expect(codes).to_have_count(10)
    recovery = codes.first.inner_text()
    page.reload()
    expect(page.locator(".recovery-codes")).to_have_count(0)

    log_out(page)
    log_in(page, staff, guarded.staff.password)
    expect(page.get_by_role("heading", name="Second step")).to_be_visible()
    expect(page.get_by_label("Code:")).to_be_focused()
    page.keyboard.type(code(key, steps=1))
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/admin/$"))

    log_out(page)
    log_in(page, staff, guarded.staff.password)
    page.get_by_label("Code:").fill(recovery)
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url(re.compile(r"/admin/$"))


def test_the_password_is_asked_again_after_a_while(page: Page, guarded: Server, staff: str) -> None:
    log_in(page, staff, guarded.staff.password)
    page.wait_for_url(re.compile(r"/admin/$"))
    guarded.manage("shell", "--no-imports", "-c", LONG_AGO)
    page.goto("/admin/second-factor/app/")
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    page.keyboard.type(guarded.staff.password)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/admin/second-factor/app/$"))
    expect(page.locator(".qr svg")).to_be_visible()


def test_a_passkey_is_registered_and_used(page: Page, guarded: Server, staff: str) -> None:
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    log_in(page, staff, guarded.staff.password)
    page.locator("#account-menu summary").click()
    page.get_by_role("link", name="Second factor").click()
    page.get_by_role("button", name="Register a passkey").click()
    expect(page.get_by_role("button", name="Remove passkey 1")).to_be_visible()
    added = guarded.manage("shell", "--no-imports", "-c", ADDED)
    assert added.strip() == f"passkey {staff}"

    log_out(page)
    log_in(page, staff, guarded.staff.password)
    expect(page.get_by_role("heading", name="Second step")).to_be_visible()
    expect(page.get_by_label("Code:")).to_have_count(0)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(re.compile(r"/admin/$"))
