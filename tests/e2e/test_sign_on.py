"""Sign-on in a real browser at a real provider of OpenID Connect, and without it."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from authsite.accounts.sign_on.provider import ALIVE_SECONDS
from tests.e2e.test_accessibility import faults
from tests.e2e.test_accounts import LONG_AGO
from tests.support.openid_provider import CLIENT, OpenIdProvider, openid_provider
from tests.support.servers import Server, demo_server

pytestmark = pytest.mark.once(on="processes")

PATIENCE = 10_000  # milliseconds
ROLES = "registry-viewers=Viewer;registry-operators=Operator;registry-security=Security"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenIdProvider]:
    with openid_provider(tmp_path_factory.mktemp("provider")) as found:
        yield found


@pytest.fixture(scope="module")
def registry(
    provider: OpenIdProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with demo_server(
        tmp_path_factory.mktemp("signed-on"),
        OIDC_ISSUER=provider.url,
        OIDC_ROLES=ROLES,
        OIDC_LABEL="Company",
        OIDC_CONFIRM_ACR="strong",
        STAFF_SECOND_FACTOR="optional",
        BREAK_GLASS_ACCOUNTS="admin",
        **CLIENT,
    ) as server:
        provider.people()
        provider.start(server.url)
        yield server


@pytest.fixture
def page(browser: Browser, registry: Server) -> Iterator[Page]:
    """Return a page of a browser of its own, at the login."""
    with browser.new_context(base_url=registry.url) as context:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text) if "Security Policy" in message.text else None
            ),
        )
        page.goto("/admin/")
        yield page
    assert complaints == []


def sign_on(page: Page, name: str) -> None:
    page.get_by_role("link", name="Sign on with Company").click()
    at_company(page, name)
    page.wait_for_url(re.compile(r"/admin/$"))


def at_company(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", name="Company", exact=True)).to_be_visible()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Sign in").click()


def test_a_role_is_what_the_provider_says_at_each_sign_on(
    page: Page, provider: OpenIdProvider, registry: Server
) -> None:
    provider.people(kim={"groups": ["registry-viewers"]})
    assert faults(page) == []
    sign_on(page, "kim")
    expect(page.locator("#user-tools")).to_contain_text("kim")
    page.goto("/admin/devices/device/")
    expect(page.get_by_role("link", name="Add device")).to_have_count(0)

    page.locator("#account-menu summary").click()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Yes, sign me out").click()
    page.wait_for_url(re.compile(r"/admin/sign-on/signed-out/"))
    assert "The provider ended the sessions of 'kim'" in registry.log, "by its back channel"

    provider.people(kim={"groups": ["registry-operators"]})
    page.goto("/admin/devices/device/")
    page.get_by_role("link", name="Sign on with Company").click()
    at_company(page, "kim")
    page.wait_for_url(re.compile(r"/admin/devices/device/$"))
    expect(page.get_by_role("link", name="Add device")).to_be_visible()

    provider.people(kim={"groups": ["sales"]})
    page.goto("/admin/sign-on/")
    expect(page.get_by_text("brings no role in this registry")).to_be_visible()
    expect(page.get_by_text("registry-operators", exact=True)).to_be_visible()
    assert faults(page) == []
    page.goto("/admin/devices/device/")
    expect(page).to_have_title(re.compile("Log in"))


def test_who_wants_a_secret_shows_who_they_are_at_the_provider(
    page: Page, provider: OpenIdProvider, registry: Server
) -> None:
    provider.people(lee={"groups": ["registry-security"], "acr": "strong"})
    sign_on(page, "lee")
    registry.manage("shell", "--no-imports", "-c", LONG_AGO)
    page.goto("/admin/devices/device/1/issue-key/")
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    assert faults(page) == []
    page.get_by_role("link", name="Confirm with Company").click()
    at_company(page, "lee")
    page.wait_for_url(re.compile(r"/admin/devices/device/1/issue-key/$"))

    registry.manage("shell", "--no-imports", "-c", LONG_AGO)
    provider.people(lee={"groups": ["registry-security"]})
    page.goto("/admin/devices/device/1/issue-key/")
    page.get_by_role("link", name="Confirm with Company").click()
    at_company(page, "lee")
    expect(page.get_by_text("did not check you as strictly")).to_be_visible()


def test_without_the_provider_an_emergency_account_gets_in(
    page: Page, provider: OpenIdProvider, registry: Server
) -> None:
    provider.stop()
    page.wait_for_timeout(ALIVE_SECONDS * 1000)
    page.get_by_role("link", name="Sign on with Company").click()
    expect(page.get_by_text("Your company's sign-on does not answer.")).to_be_visible()
    page.goto("/admin/login/")
    page.get_by_text("Log in with an emergency account").click()
    page.get_by_label("Username:").fill(registry.staff.name)
    page.get_by_label("Password:").fill(registry.staff.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    assert "break-glass account 'admin' logged in" in registry.log
