"""Accounts, roles and tokens over the API: joiners, leavers; nobody raises their own rights."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient

from authsite.accounts.tokens.models import ApiToken
from authsite.accounts.tokens.rules import Rule
from authsite.accounts.tokens.service_account import ServiceAccount, names_of
from devices.events.models import Event
from tests.devices.api.conftest import Client, account, api, client_of
from tests.support.staff import staff

__all__ = ["api", "client_of"]  # fixtures that live elsewhere

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
ACCOUNTS = "/api/v1/accounts"


def person(name: str, role: str = "", **fields: Any) -> User:
    return staff(name=name, role=role, password="a pass phrase", **fields)


def ask(client: APIClient, method: str, path: str, body: Any = None, **headers: str) -> Any:
    headers = headers or {"If-Match": "*"}
    return getattr(client, method)(path, body, format="json", headers=headers)


@pytest.fixture
def security(client_of: Client) -> APIClient:
    return client_of(person("sec", "Security"))


def test_somebody_joins_and_leaves(security: APIClient) -> None:
    made = ask(security, "post", ACCOUNTS, {"username": "lee", "roles": ["Viewer"]})
    assert made.status_code == 201, made.data
    said = made.json()
    assert (said["kind"], said["enabled"], said["superuser"]) == ("staff", True, False)
    assert "password" not in said
    lee = User.objects.get(username="lee")
    assert (lee.is_staff, lee.has_usable_password()) == (True, False)
    _token, text = ApiToken.objects.issue(owner=lee, name="ci", scopes=["devices.view_device"])
    changed = ask(
        security, "patch", f"{ACCOUNTS}/{lee.pk}", {"roles": []}, **{"If-Match": said["etag"]}
    )
    assert (changed.status_code, changed.json()["roles"]) == (200, [])
    lee.refresh_from_db()
    assert not lee.is_staff
    stale = ask(
        security, "patch", f"{ACCOUNTS}/{lee.pk}", {"email": "x@y.z"}, **{"If-Match": said["etag"]}
    )
    assert stale.status_code == 412
    left = ask(security, "post", f"{ACCOUNTS}/{lee.pk}/disable", {"reason": "left the company"})
    assert (left.status_code, left.json()["enabled"]) == (200, False)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    assert client.get("/api/v1/devices").status_code == 401
    assert ApiToken.objects.get().revoked_at is not None
    event = Event.objects.get(kind="account.disabled")
    assert (event.data["by"], event.data["reason"]) == ("sec", "left the company")
    assert LogEntry.objects.filter(object_id=str(lee.pk)).count() == 3


def test_lists_and_looks_up(security: APIClient) -> None:
    person("lee", "Viewer")
    person("max", "Operator", is_active=False)
    ServiceAccount.objects.create_account("line", answerable=User.objects.get(username="sec"))

    def names(query: str) -> list[str]:
        return [one["username"] for one in security.get(f"{ACCOUNTS}?{query}").json()["results"]]

    assert names("role=Viewer") == ["lee"]
    assert names("kind=service") == ["line"]
    assert names("enabled=false") == ["max"]
    assert names("username=lee") == ["lee"]
    roles = {one["name"]: one for one in security.get("/api/v1/roles").json()["results"]}
    assert "devices.view_device" in roles["Viewer"]["permissions"]


def test_a_service_account_is_made_and_handed_on(security: APIClient) -> None:
    answerable = person("lee", "Viewer")
    body = {"name": "line", "answerable": answerable.pk, "purpose": "lamps", "roles": ["Viewer"]}
    made = ask(security, "post", "/api/v1/service-accounts", body)
    assert made.status_code == 201, made.data
    other = person("max", "Viewer")
    path = f"/api/v1/service-accounts/{made.json()['id']}"
    assert ask(security, "patch", path, {"answerable": other.pk}).status_code == 200
    assert ServiceAccount.objects.get().answerable == other
    kept = ask(security, "patch", path, {"roles": ["Security"]})
    assert kept.status_code == 400
    disabled = ask(security, "post", f"{ACCOUNTS}/{made.json()['account']}/disable", {})
    assert disabled.json()["kind"] == "service"


def test_no_request_brings_a_service_back_that_may_do_more(security: APIClient) -> None:
    lee, sec = person("lee", "Operator"), User.objects.get(username="sec")
    roles = Group.objects.filter(name="Operator")
    service = ServiceAccount.objects.create_account("line", answerable=lee, roles=roles)
    path = f"/api/v1/service-accounts/{service.pk}"
    assert ask(security, "patch", path, {"answerable": lee.pk}).status_code == 200
    User.objects.filter(pk=lee.pk).update(is_active=False)
    refused = ask(security, "patch", path, {"answerable": sec.pk})
    assert refused.status_code == 400
    (error,) = refused.json()["errors"]
    assert error["pointer"] == "#/answerable"
    assert "sec does not have these permissions" in error["detail"]
    service.user.groups.set(Group.objects.filter(name="Viewer"))
    assert ask(security, "patch", path, {"answerable": sec.pk}).status_code == 200
    service.refresh_from_db()
    assert service.answerable == sec


@pytest.mark.parametrize("left", [{"is_active": False}, {"is_staff": False}], ids=str)
def test_a_service_comes_back_with_who_answers_for_it_only_by_who_may_do_as_much(
    security: APIClient, left: dict[str, Any]
) -> None:
    lee = person("lee")
    roles = Group.objects.filter(name="Operator")
    service = ServiceAccount.objects.create_account("line", answerable=lee, roles=roles)
    User.objects.filter(pk=lee.pk).update(**left)

    def let_back() -> Any:
        if "is_active" in left:
            return ask(security, "post", f"{ACCOUNTS}/{lee.pk}/enable", {})
        return ask(security, "patch", f"{ACCOUNTS}/{lee.pk}", {"roles": ["Viewer"]})

    refused = let_back()
    assert refused.status_code == 400, refused.data
    assert "sec does not have these permissions" in str(refused.json())
    service.user.groups.clear()
    assert let_back().status_code == 200


def test_a_token_is_seen_and_ended(security: APIClient) -> None:
    lee = person("lee", "Viewer")
    token, text = ApiToken.objects.issue(owner=lee, name="ci", scopes=["devices.view_device"])
    listed = security.get(f"/api/v1/tokens?owner={lee.pk}")
    assert listed.json()["results"][0]["identifier"] == token.identifier
    assert text[-38:] not in listed.content.decode()
    assert token.digest not in listed.content.decode()
    ended = ask(security, "post", f"/api/v1/tokens/{token.pk}/end", {"reason": "leaked"})
    assert ended.json()["revoked_reason"] == "leaked"
    assert Event.objects.filter(kind="token.revoked").count() == 1


def test_faults_in_a_list_of_roles_have_their_positions(security: APIClient) -> None:
    body = {"username": "x", "roles": ["Viewer", "King", "Viewer", 7]}
    refused = ask(security, "post", ACCOUNTS, body)
    assert [(one["pointer"], one["code"]) for one in refused.json()["errors"]] == [
        ("#/roles/1", "does_not_exist"),
        ("#/roles/3", "invalid"),
    ]
    for roles in ("Viewer", ["Viewer"] * 1001):
        refused = ask(security, "post", ACCOUNTS, {"username": "x", "roles": roles})
        assert refused.json()["errors"][0]["pointer"] == "#/roles"
    made = ask(security, "post", ACCOUNTS, {"username": "x", "roles": ["Viewer", "Viewer"]})
    assert (made.status_code, made.json()["roles"]) == (201, ["Viewer"])


def test_who_gets_another_name_keeps_their_roles(security: APIClient) -> None:
    lee = person("lee", "Viewer")
    named = ask(security, "patch", f"{ACCOUNTS}/{lee.pk}", {"first_name": "Lee"})
    said = named.json()
    assert (named.status_code, said["first_name"], said["roles"]) == (200, "Lee", ["Viewer"])
    lee.refresh_from_db()
    assert lee.is_staff
    logged = LogEntry.objects.latest("pk").change_message
    assert logged == "Changed over the API; roles: Viewer."


# --- Nobody raises rights -------------------------------------------------------------------

# Who asks (a role), how, of whom, with which body, and what is answered.
ATTEMPTS: list[tuple[str, str, str, Any, int]] = [
    ("a role with more", "post", "", {"username": "x", "roles": ["Operator"]}, 400),
    ("no such role", "post", "", {"username": "x", "roles": ["King"]}, 400),
    ("a role by number", "post", "", {"username": "x", "roles": [1]}, 400),
    ("a role in a list", "post", "", {"username": "x", "roles": [["Viewer"]]}, 400),
    ("a superuser", "post", "", {"username": "x", "roles": [], "superuser": True}, 400),
    ("as Django calls it", "post", "", {"username": "x", "roles": [], "is_superuser": True}, 400),
    ("a password", "post", "", {"username": "x", "roles": [], "password": "y"}, 400),
    ("permissions", "post", "", {"username": "x", "roles": [], "user_permissions": [1]}, 400),
    ("a name in capitals", "post", "", {"username": "ROOT", "roles": []}, 400),
    ("a name with NUL", "post", "", {"username": "x\u0000", "roles": []}, 400),
    ("itself more", "patch", "sec", {"roles": ["Security", "Operator"]}, 400),
    ("another more", "patch", "lee", {"roles": ["Operator"]}, 400),
    ("another less", "patch", "oper", {"roles": []}, 200),
    ("another name", "patch", "lee", {"username": "root2"}, 400),
    ("itself active", "patch", "off", {"enabled": True}, 400),
    ("somebody with more again", "post", "off/enable", {}, 400),
    ("somebody with less again", "post", "weak/enable", {}, 200),
    ("a superuser's name", "patch", "root", {"email": "mine@example.com"}, 400),
    ("a superuser read", "get", "root", None, 200),
    ("a superuser out", "post", "root/disable", {}, 400),
    ("a superuser in", "post", "root/enable", {}, 400),
    ("a superuser without roles", "patch", "root", {"roles": []}, 400),
    ("deleted", "delete", "lee", None, 405),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "method", "where", "body", "status"), ATTEMPTS, ids=[one[0] for one in ATTEMPTS]
)
def test_nobody_gives_what_they_lack(
    security: APIClient, name: str, method: str, where: str, body: Any, status: int
) -> None:
    root = User.objects.create_superuser("root")
    for who, role in (("lee", "Viewer"), ("oper", "Operator")):
        person(who, role)
    person("off", "Operator", is_active=False)
    person("weak", "Viewer", is_active=False)
    who, _slash, deed = where.partition("/")
    path = ACCOUNTS
    if who:
        path = f"{ACCOUNTS}/{User.objects.get(username=who).pk}" + (f"/{deed}" if deed else "")
    before = set(User.objects.values_list("username", "is_superuser", "is_active", "email"))
    answer = ask(security, method, path, body)
    assert answer.status_code == status, answer.content
    if status >= 400:
        now = set(User.objects.values_list("username", "is_superuser", "is_active", "email"))
        assert now == before
        assert not Event.objects.filter(kind="role.given", data__role="King").exists()
    root.refresh_from_db()
    assert (root.is_superuser, root.is_active, root.email) == (True, True, "")


def test_a_token_gives_no_role_beyond_its_scopes(client_of: Client) -> None:
    owner = person("sec", "Security")
    lee = person("lee")
    viewer = sorted(names_of(Group.objects.get(name="Viewer").permissions.all()))
    accounts = ["authsite.view_account", "authsite.change_account"]
    for scopes, status in ((accounts, 400), ([*accounts, *viewer], 200)):
        _token, text = ApiToken.objects.issue(owner=owner, name=str(status), scopes=scopes)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
        answer = ask(client, "patch", f"{ACCOUNTS}/{lee.pk}", {"roles": ["Viewer"]})
        assert answer.status_code == status, answer.content
    assert ask(client, "post", ACCOUNTS, {"username": "x", "roles": []}).status_code == 403


@pytest.mark.parametrize("limit", ["devices.view_device in lab", "devices.view_device 9 an hour"])
def test_a_token_gives_nothing_that_it_may_do_only_within_a_limit(
    make_group: Any, limit: str
) -> None:
    make_group("lab")
    owner, lee = person("sec", "Security"), person("lee")
    gone = person("gone", "Viewer", is_active=False)
    viewer = names_of(Group.objects.get(name="Viewer").permissions.all())
    service = ServiceAccount.objects.create_account(
        "line", answerable=owner, roles=Group.objects.filter(name="Viewer")
    )
    ServiceAccount.objects.update(answerable=gone)
    scopes = [f"authsite.{verb}_{model}" for verb in ("view", "add", "change")
              for model in ("account", "serviceaccount")]  # fmt: skip
    asked: list[tuple[str, str, Any, int]] = [
        ("patch", f"accounts/{lee.pk}", {"roles": ["Viewer"]}, 200),
        ("post", "accounts", {"username": "x", "roles": ["Viewer"]}, 201),
        ("post", f"accounts/{gone.pk}/enable", {}, 200),
        ("patch", f"service-accounts/{service.pk}", {"answerable": owner.pk}, 200),
        ("post", "service-accounts",
         {"name": "y", "answerable": owner.pk, "roles": ["Viewer"]}, 201),
    ]  # fmt: skip
    for name, rules in (("limited", [Rule.parse(limit)]), ("whole", [])):
        _token, text = ApiToken.objects.issue(
            owner=owner, name=name, scopes=[*scopes, *viewer], rules=rules
        )
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
        for method, path, body, status in asked:
            answer = ask(client, method, f"/api/v1/{path}", body)
            assert answer.status_code == (400 if rules else status), answer.content
    assert LogEntry.objects.filter(object_id=str(gone.pk)).latest("pk").change_message == (
        "Enabled over the API. [whole]"
    )


def test_the_first_account_gives_every_role(api: APIClient) -> None:
    body = {"username": "x", "roles": ["Viewer", "Operator", "Security", "Auditor"]}
    assert ask(api, "post", ACCOUNTS, body).status_code == 201


def test_what_is_only_tried_changes_nothing(security: APIClient) -> None:
    body = {"username": "x", "roles": ["Viewer"]}
    assert ask(security, "post", f"{ACCOUNTS}?validate_only=true", body).status_code == 200
    assert not User.objects.filter(username="x").exists()
    assert not LogEntry.objects.exists()


def test_a_service_account_with_an_unknown_answerable(security: APIClient) -> None:
    disabled = account("gone")
    body = {"name": "line", "answerable": disabled.pk, "roles": []}
    assert ask(security, "post", "/api/v1/service-accounts", body).status_code == 400


@pytest.mark.parametrize("field", ["username", "first_name", "last_name"])
def test_a_name_that_would_mislead_is_refused(security: APIClient, field: str) -> None:
    body = {"username": "lee", "roles": [], field: "l\u202eee"}
    refused = ask(security, "post", ACCOUNTS, body)
    assert {one["pointer"] for one in refused.json()["errors"]} == {f"#/{field}"}
    assert "U+202E" in refused.content.decode()


@pytest.mark.parametrize("name", ["sec", "SEC", "ｓｅｃ", "ﬃ" * 150])  # noqa: RUF001
def test_an_account_with_the_name_of_another_or_too_long(security: APIClient, name: str) -> None:
    body = {"name": name, "answerable": User.objects.get(username="sec").pk, "roles": []}
    refused = ask(security, "post", ACCOUNTS, {"username": name, "roles": []})
    assert [one["pointer"] for one in refused.json()["errors"]] == ["#/username"]
    refused = ask(security, "post", "/api/v1/service-accounts", body)
    assert [one["pointer"] for one in refused.json()["errors"]] == ["#/name"]
