"""No error page, report or process shows a secret, with DEBUG on either.

CWE-526, CWE-489. The page of an exception listed the settings, the variables of each frame and
the request's META, into which the server had merged the whole environment: PEPPERS and the
database's password among them.
"""

import os
from typing import Any

import pytest
from django.conf import settings as project
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client, RequestFactory
from django.views.debug import ExceptionReporter, get_exception_reporter_class

from authsite.accounts.token_text import generate
from tests.support.commands import python

pytestmark = pytest.mark.once(on="sqlite")

PEPPER = "bmV3ZXN0IHBlcHBlciBmb3IgdGVzdHMsIDMyIGJ5dGVz"
SECRETS: dict[str, Any] = {
    "SECRET_KEY": "the-signing-key-of-sessions",
    "PEPPERS": f"a:{PEPPER}",
    "DATABASE_URL": "postgres://authsite:the-database-password@db/authsite",
    "CACHE_URL": "rediscache://:the-cache-password@cache:6379/0",
    "SOME_VENDOR_VARIABLE": "the-vendor-s-credential",
}
STAFF_PASSWORD = "the-staff-password"
DEVICE_SECRET = "the-device-secret"  # far from where it is used: reports show lines of code
HIDDEN = (
    *("the-signing-key", PEPPER, "the-database-password", "the-cache-password"),
    *("the-vendor-s", DEVICE_SECRET, STAFF_PASSWORD, "newest pepper"),
)


@pytest.fixture
def unsafe(settings: Any) -> Any:
    """Run with DEBUG on, and with secrets wherever a deployment has them."""
    settings.DEBUG = True
    settings.SECRET_KEY = SECRETS["SECRET_KEY"]
    return settings


@pytest.mark.django_db
@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_the_page_of_an_exception_shows_no_secret(
    unsafe: Any, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        conn_params = {"host": "db", "password": SECRETS["DATABASE_URL"]}
        secret = DEVICE_SECRET
        pepper = next(iter(project.PEPPERS.values()))
        raise OperationalError("no route to host", len(conn_params), len(secret), len(pepper) > 0)

    monkeypatch.setattr("authsite.accounts.login.reset", fail)
    monkeypatch.setattr("axes.handlers.proxy.AxesProxyHandler.is_allowed", fail)
    client = Client(raise_request_exception=False)
    sent = {"username": "kim", "password": STAFF_PASSWORD}
    answer = client.post("/admin/login/", sent, headers={"Accept": accept}, **SECRETS)
    page = answer.content.decode()
    assert answer.status_code == 500
    assert "no route to host" in page
    assert [one for one in HIDDEN if one in page] == []


def test_a_report_names_fields_and_variables_without_their_values(unsafe: Any) -> None:
    secret = DEVICE_SECRET
    request = RequestFactory().post("/admin/", {"devicesecret": secret}, **SECRETS)
    request.user = User(username="kim")
    try:
        request.GET["missing"]
    except KeyError as error:
        reporter = ExceptionReporter(request, type(error), error, error.__traceback__)
    for report in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert "devicesecret" in report
        assert [one for one in HIDDEN if one in report] == []


def test_a_report_holds_no_token(unsafe: Any) -> None:
    text = generate()[1]
    bearer: dict[str, Any] = {
        "HTTP_AUTHORIZATION": f"Bearer {text}",
        "HTTP_X_TOKEN_BY_MISTAKE": text,
    }
    request = RequestFactory().get(f"/api/v1/devices?q={text}", **bearer)
    request.META["HTTP_REFERER"] = f"https://example.com/?{text}"
    request.user = User(username="kim")
    try:
        request.GET["missing"]
    except KeyError as error:
        reporter_class: Any = get_exception_reporter_class(request)
        reporter = reporter_class(request, type(error), error, error.__traceback__)
    for report in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert text[:20] in report
        assert text[21:] not in report


def test_a_server_process_has_no_secret_in_its_environment() -> None:
    check = (
        "import os, authsite.wsgi\n"
        "from django.conf import settings\n"
        "assert settings.PEPPERS and settings.SECRET_KEY\n"
        "print(sorted(set(os.environ) & {'SECRET_KEY', 'PEPPERS', 'DATABASE_URL', 'CACHE_URL'}))"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "SECRET_KEY": SECRETS["SECRET_KEY"],
        "PEPPERS": SECRETS["PEPPERS"],
        "DATABASE_URL": "sqlite://:memory:",
        "CACHE_URL": "locmemcache://",
    }
    done = python("-c", check, env=environment)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_no_log_line_tells_what_a_statement_was_given(settings: Any) -> None:
    assert settings.LOGGING["loggers"]["django.db.backends"]["level"] == "INFO"
