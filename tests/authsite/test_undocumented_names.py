"""Names that libraries do not document, and that this project uses: they are still there."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from axes.apps import AppConfig
from django.contrib.auth.management import create_permissions
from django.utils.http import url_has_allowed_host_and_scheme

from tests.support.library_names import NAMES, ROOT, Name, page, private_names

pytestmark = pytest.mark.once(on="sqlite")

USED: list[tuple[Callable[..., Any], set[str]]] = [
    (create_permissions, {"app_config", "verbosity", "apps"}),  # authsite/roles.py
    (url_has_allowed_host_and_scheme, {"url", "allowed_hosts", "require_https"}),  # accounts/views
    (AppConfig, {"app_name", "app_module"}),  # authsite/apps.py
]


@pytest.mark.parametrize(("name", "parameters"), USED, ids=lambda one: getattr(one, "__name__", ""))
def test_a_name_takes_what_it_is_given(name: Callable[..., Any], parameters: set[str]) -> None:
    assert parameters <= set(inspect.signature(name).parameters)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.name)
def test_a_listed_name_is_there_and_used(name: Name) -> None:
    name.find()
    assert name.last in (ROOT / name.file).read_text("utf-8")


def test_each_private_name_is_listed() -> None:
    listed = {(name.last, name.file) for name in NAMES}
    assert set(private_names()) <= listed


def test_the_page_lists_them() -> None:
    assert (ROOT / "docs" / "library-names.md").read_text("utf-8") == page()
