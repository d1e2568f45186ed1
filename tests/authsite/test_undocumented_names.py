"""Names that their packages do not document, and that this project uses: they are still there."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from axes.apps import AppConfig
from django.contrib.auth.management import create_permissions
from django.utils.http import url_has_allowed_host_and_scheme

pytestmark = pytest.mark.once(on="sqlite")

USED: list[tuple[Callable[..., Any], set[str]]] = [
    (create_permissions, {"app_config", "verbosity", "apps"}),  # authsite/roles.py
    (url_has_allowed_host_and_scheme, {"url", "allowed_hosts", "require_https"}),  # accounts/views
    (AppConfig, {"app_name", "app_module"}),  # authsite/apps.py
]


@pytest.mark.parametrize(("name", "parameters"), USED, ids=lambda one: getattr(one, "__name__", ""))
def test_a_name_takes_what_it_is_given(name: Callable[..., Any], parameters: set[str]) -> None:
    assert parameters <= set(inspect.signature(name).parameters)
