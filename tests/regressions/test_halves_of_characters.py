r"""A body with `"\udc00"`, the second half of a surrogate pair, was answered with 500.

Only first halves were looked for; an answer that quotes the second cannot be written as UTF-8.

A public report of this kind: https://github.com/encode/django-rest-framework/issues/7026.
"""

import pytest
from rest_framework.test import APIClient

from tests.devices.api.conftest import api, client_of

__all__ = ["api", "client_of"]  # fixtures that live elsewhere


@pytest.mark.django_db
@pytest.mark.parametrize("half", [r"\ud800", r"\udbff", r"\udc00", r"\uDFFF", r"\udc00\ud800"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("devices", '{"HALF": 1}'),
        ("devices", '{"identifier": "a", "kind": "HALF"}'),
        ("devices", '{"identifier": "a", "attributes": {"HALF": "HALF"}}'),
        ("devices", '{"HALF": 1, "HALF": 2}'),
        ("what-if", '{"change": "create", "rule": {"HALF": 1}}'),
        ("accounts", '{"username": "a", "roles": ["HALF"]}'),
    ],
)
def test_half_of_a_surrogate_pair_is_refused(
    half: str, path: str, body: str, api: APIClient
) -> None:
    text = body.replace("HALF", half)
    answer = api.post(f"/api/v1/{path}", text, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (400, "parse-error")


@pytest.mark.django_db
def test_whole_pairs_are_taken(api: APIClient) -> None:
    text = r'{"identifier": "a", "name": "\ud83d\ude00"}'
    answer = api.post("/api/v1/devices", text, content_type="application/json")
    assert (answer.status_code, answer.json()["name"]) == (201, "\U0001f600")
