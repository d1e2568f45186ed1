"""`check --deploy` tells of settings that work, and of which staff's side deserves better."""

from ipaddress import ip_network
from typing import Any

import pytest
from django.core import checks


def told() -> set[str]:
    found = checks.run_checks(include_deployment_checks=True, tags=[checks.Tags.security])
    return {str(message.id) for message in found}


@pytest.mark.parametrize(("policy", "is_told"), [("off", True), ("required", False)])
def test_a_password_alone_is_told(settings: Any, policy: str, is_told: bool) -> None:
    settings.STAFF_SECOND_FACTOR = policy
    assert ("authsite.I001" in told()) is is_told


@pytest.mark.parametrize(
    ("https", "proxies", "is_told"),
    [(True, (), True), (True, (ip_network("10.0.0.1/32"),), False), (False, (), False)],
)
def test_a_redirect_that_no_proxy_ends_is_told(
    settings: Any, https: bool, proxies: Any, is_told: bool
) -> None:
    settings.HTTPS, settings.TRUSTED_PROXIES = https, proxies
    assert ("authsite.I002" in told()) is is_told
