"""`check --deploy` tells of settings that work, and of which staff's side deserves better."""

from ipaddress import ip_network
from typing import Any

import pytest
from django.core import checks

pytestmark = pytest.mark.once(on="sqlite")


def told() -> set[str]:
    found = checks.run_checks(include_deployment_checks=True, tags=[checks.Tags.security])
    return {str(message.id) for message in found}


@pytest.mark.parametrize(("policy", "is_told"), [("off", True), ("required", False)])
def test_a_password_alone_is_told(settings: Any, policy: str, is_told: bool) -> None:
    settings.STAFF_SECOND_FACTOR = policy
    assert ("authsite.I001" in told()) is is_told


@pytest.mark.parametrize(
    ("hosts", "is_told"), [(["a.example", "*"], True), ([".a.example"], False)]
)
def test_hosts_that_anybody_names_are_told(settings: Any, hosts: list[str], is_told: bool) -> None:
    settings.ALLOWED_HOSTS = hosts
    assert ("authsite.W002" in told()) is is_told


@pytest.mark.parametrize(
    ("https", "proxies", "is_told"),
    [(True, (), True), (True, (ip_network("10.0.0.1/32"),), False), (False, (), False)],
)
def test_a_redirect_that_no_proxy_ends_is_told(
    settings: Any, https: bool, proxies: Any, is_told: bool
) -> None:
    settings.HTTPS, settings.TRUSTED_PROXIES = https, proxies
    assert ("authsite.I002" in told()) is is_told


@pytest.mark.parametrize(("version", "is_told"), [((3, 34, 1), True), ((3, 35, 0), False)])
def test_an_old_sqlite_is_told(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], is_told: bool
) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", version)
    assert ("authsite.E003" in told()) is is_told


@pytest.mark.parametrize(
    ("accounts", "policy", "debug", "level"),
    [
        (["glass"], "off", False, checks.ERROR),
        (["glass"], "off", True, checks.WARNING),
        (["glass"], "optional", False, None),
        ([], "off", False, None),
    ],
)
def test_emergency_accounts_without_a_second_factor_keep_the_server_from_starting(
    settings: Any, accounts: list[str], policy: str, debug: bool, level: int | None
) -> None:
    settings.BREAK_GLASS_ACCOUNTS, settings.STAFF_SECOND_FACTOR = accounts, policy
    settings.DEBUG = debug
    found = {message.id: message.level for message in checks.run_checks()}
    assert found.get("authsite.E001") == level


@pytest.mark.parametrize(
    ("given", "empty"),
    [
        ({"OIDC_ISSUER": "https://id.example.com"}, ["OIDC_ROLES"]),
        ({"OIDC_ISSUER": "https://id.example.com", "OIDC_ROLES": {"a": ("Viewer",)}}, []),
        ({"LDAP_URL": "ldaps://ldap.example.com"}, ["LDAP_ROLES"]),
        ({"PROXY_USER_HEADER": "RemoteUser"}, ["PROXY_ROLES", "PROXY_GROUPS_HEADER"]),
        ({}, []),
    ],
)
def test_a_sign_on_that_brings_nobody_in_is_told(
    settings: Any, given: dict[str, Any], empty: list[str]
) -> None:
    for name, value in given.items():
        setattr(settings, name, value)
    found = [one.msg for one in checks.run_checks() if one.id == "authsite.W001"]
    assert [text.partition(" ")[0] for text in found] == empty
