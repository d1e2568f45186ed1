"""The OpenAPI document, and the page that shows it to people."""

import json
import re
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from authsite.middleware import POLICY
from devices.api.base.idempotency import HEADER as IDEMPOTENCY_KEY, REPLAYED
from devices.api.base.pagination import PAGE_SIZE
from devices.api.base.parsing import MAX_BYTES
from devices.api.base.problems import MEDIA_TYPE
from devices.api.base.views import ACCEPT_BROKEN, REASON, UNCONFIRMED, VALIDATE_ONLY

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]


@pytest.mark.parametrize("path", ["/api/openapi.json", "/api/v1/openapi.json"])
def test_the_document_is_served_to_anybody(client: Client, path: str) -> None:
    response = client.get(path)
    assert response["Content-Type"] == "application/json"
    document = response.json()
    assert document["openapi"].startswith("3.1.")
    assert {"/deviceverifier", "/", "/rpc", "/v1/Auth.Authenticate"} <= set(document["paths"])


def test_operations_have_names_and_tags_of_their_own(client: Client) -> None:
    document = client.get("/api/openapi.json").json()
    operations = [
        operation
        for item in document["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    names = [operation["operationId"] for operation in operations]
    assert sorted(set(names)) == sorted(names)
    assert all(operation["summary"] for operation in operations)
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert {tag for operation in operations for tag in operation["tags"]} == set(tags)


def test_its_parameters_are_those_of_the_code(client: Client) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    change, listed = (paths["/api/v1/devices"][method] for method in ("post", "get"))
    taken = {one["name"]: one["in"] for one in change["parameters"]}
    in_query = dict.fromkeys((VALIDATE_ONLY, ACCEPT_BROKEN), "query")
    assert taken == in_query | dict.fromkeys((IDEMPOTENCY_KEY, REASON), "header")
    assert {REPLAYED, UNCONFIRMED} <= set(change["responses"]["201"]["headers"])
    pages = {one["name"]: one["schema"] for one in listed["parameters"]}
    assert pages["limit"] == PAGE_SIZE
    assert "cursor" in pages


def test_each_operation_describes_the_parameters_that_it_takes(
    client: Client, django_user_model: type[User]
) -> None:
    asks = APIClient()
    asks.force_authenticate(django_user_model.objects.create_superuser("admin"))
    for path, item in client.get("/api/openapi.json").json()["paths"].items():
        if not path.startswith("/api/v1/"):
            continue
        for method, operation in item.items():
            parameters = operation.get("parameters", ())
            described = {one["name"] for one in parameters if one["in"] == "query"}
            ask = getattr(asks, method)
            told = ask(path.replace("{id}", "1"), query_params={"none": "1"}).json()["errors"]
            taken = {*re.findall(r"\w+", told[0]["detail"].partition("There are: ")[2])}
            # Which operations can break an assertion, is described; all take that it is accepted.
            assert taken - {ACCEPT_BROKEN} == described - {ACCEPT_BROKEN}, path
            assert described <= taken, path


def test_jobs_describe_that_they_may_break_an_assertion(client: Client) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    for name in ("import-devices", "delete-devices"):
        parameters = paths[f"/api/v1/jobs/{name}"]["post"]["parameters"]
        assert ACCEPT_BROKEN in {one["name"] for one in parameters}


def test_its_problems_are_those_of_the_code(client: Client) -> None:
    problems = client.get("/api/openapi.json").json()["components"]["responses"]
    assert f"(most take {MAX_BYTES} bytes)" in problems["Problem413"]["description"]
    own = [one for name, one in problems.items() if name.startswith("Problem")]
    assert all([*one["content"]] == [MEDIA_TYPE] for one in own)


def test_the_document_can_be_written_to_a_file(client: Client) -> None:
    written = StringIO()
    call_command("spectacular", format="openapi-json", validate=True, stdout=written)
    assert json.loads(written.getvalue()) == client.get("/api/openapi.json").json()


def test_the_page_needs_nothing_inline_and_no_other_host(client: Client) -> None:
    response = client.get("/api/")
    page = response.content.decode()
    assert response.headers["Content-Security-Policy"] == POLICY
    assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son[a-z]+=", page)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    files = re.findall(r'(?:src|href)="/static/([^"]+)"', page)
    assert len(files) == 5
    assert all(finders.find(file) for file in files)


@pytest.mark.parametrize("path", ["/api/", "/api/openapi.json"])
def test_it_is_only_read(client: Client, path: str) -> None:
    assert client.head(path).status_code == 200
    assert client.post(path).status_code == 405
