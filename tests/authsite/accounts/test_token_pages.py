"""The pages of tokens and service accounts: who may, what is shown once, what ends."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from authsite.accounts import token_text
from authsite.accounts.tokens.admin import ApiTokenAdmin
from authsite.accounts.tokens.models import ApiToken, TokenOutcome
from authsite.accounts.tokens.service_account import ServiceAccount
from tests.support.forms import inputs
from tests.support.staff import browser_of, staff

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

TOKENS, ACCOUNTS = "/admin/authsite/apitoken/", "/admin/authsite/serviceaccount/"
VIEW, CHANGE = "devices.view_device", "devices.change_device"
YES = {200, 302}


def logged_in(name: str, *permissions: str, role: str = "") -> tuple[User, Client]:
    user = staff(*permissions, name=name, role=role)
    return user, browser_of(user)


def sent(owner: User, **fields: Any) -> dict[str, Any]:
    """Return the form of a new token as a browser sends it."""
    return {
        "owner": owner.pk,
        "name": "ci",
        "not_after_0": "2099-01-31",
        "networks": "10.2.0.0/16\n2001:db8::/64",
        "scopes": [VIEW, CHANGE],
        "rules-TOTAL_FORMS": 3,
        "rules-INITIAL_FORMS": 0,
        **fields,
    }


@pytest.fixture
def service(admin_user: User) -> ServiceAccount:
    return ServiceAccount.objects.create_account(
        "factory",
        answerable=admin_user,
        roles=Group.objects.filter(name__in=["Operator", "Security"]),
    )


def test_staff_make_a_token_and_see_it_once(make_group: Any) -> None:
    kim, client = logged_in("kim", role="Operator")
    lab = make_group("lab")
    rule = {
        "rules-1-permission": f"{CHANGE}:enable",
        "rules-0-permission": CHANGE,
        "rules-0-group": lab.pk,
        "rules-0-per_hour": 20,
    }
    answer = client.post(f"{TOKENS}add/", sent(kim, **rule))
    token, text = ApiToken.objects.get(), answer.context["secret"]
    assert "devices/copy.js" in answer.content.decode(), "else its button stays hidden"
    assert text in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    assert token_text.identifier_of(text) == token.identifier
    assert ApiToken.objects.verify(text, "10.2.3.4", timezone.now()).outcome == "verified"
    assert token.rules == [
        {"permission": CHANGE, "group": lab.pk, "per_hour": 20},
        {"permission": CHANGE, "only": "enable"},
    ]
    for page in (TOKENS, f"{TOKENS}{token.pk}/change/", f"{TOKENS}{token.pk}/history/"):
        shown = client.get(page).content.decode()
        assert text not in shown
        assert token.digest not in shown
    page = client.get(f"{TOKENS}{token.pk}/change/").content.decode()
    assert "Devices: change, only in “lab”, at most 20 an hour" in page
    assert "Devices: change (only enable)" in page
    assert 'name="_save"' not in page
    lab.delete()
    assert "a group that is gone" in client.get(f"{TOKENS}{token.pk}/change/").content.decode()
    again = client.post(f"{TOKENS}add/", sent(kim))
    assert "has a token of this name" in again.content.decode()
    assert ApiToken.objects.count() == 1


def test_who_may_only_look_sees_what_the_form_of_a_service_says(service: ServiceAccount) -> None:
    _kim, client = logged_in("kim", role="Auditor")
    fields = client.get(f"{ACCOUNTS}{service.pk}/change/").content.decode().split("form-row")
    shown = {
        name: next(one for one in fields if f"field-{name}" in one) for name in ("name", "enabled")
    }
    assert "factory" in shown["name"]
    assert "icon-yes" in shown["enabled"]
    User.objects.filter(pk=service.user_id).update(is_active=False)
    assert "icon-no.svg" in client.get(f"{ACCOUNTS}{service.pk}/change/").content.decode()


def test_who_may_not_end_the_tokens_of_others_is_told_so(
    admin_user: User, service: ServiceAccount
) -> None:
    kim, client = logged_in("kim", role="Auditor")
    tokens = [
        ApiToken.objects.issue(owner=owner, name=name, scopes=[VIEW])[0]
        for owner, name in ((kim, "mine"), (admin_user, "laptop"))
    ]
    chosen = {"action": "end", "_selected_action": [token.pk for token in tokens]}
    page = client.post(TOKENS, chosen).content.decode()
    assert "may not end these tokens of others: laptop." in page
    assert 'value="End"' not in page


def test_the_page_of_a_service_leads_to_its_tokens(
    admin_client: Client, service: ServiceAccount
) -> None:
    page = admin_client.get(f"{ACCOUNTS}{service.pk}/change/").content.decode()
    form = f"{TOKENS}add/?owner={service.user_id}"
    assert f'href="{form}"' in page
    accounts = admin_client.get("/admin/auth/user/").content.decode()
    assert 'badge-plain">service<' in accounts
    assert "no role" not in accounts
    assert f'<option value="{service.user_id}" selected>' in admin_client.get(form).content.decode()
    assert "Its tokens" not in page
    admin_client.post(f"{TOKENS}add/", sent(service.user))
    page = admin_client.get(f"{ACCOUNTS}{service.pk}/change/").content.decode()
    assert f'href="{TOKENS}?q=factory"' in page


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scopes": []}, "can do nothing"),
        ({"scopes": ["acl.add_commandset"]}, "not one of the available choices"),
        ({"networks": "everywhere"}, "no network such as"),
        ({"not_after_0": "2001-01-01"}, "in the past"),
        ({"rules-0-per_hour": 5}, "What does the limit narrow?"),
        ({"rules-0-permission": CHANGE}, "a group, a rate an hour, or both"),
        ({"scopes": [VIEW], "rules-0-permission": CHANGE, "rules-0-per_hour": 5}, "not among"),
        ({"rules-TOTAL_FORMS": ""}, "ManagementForm data is missing"),
    ],
)
def test_a_form_that_is_refused_says_why(fields: dict[str, Any], message: str) -> None:
    kim, client = logged_in("kim", role="Operator")
    page = client.post(f"{TOKENS}add/", sent(kim, **fields)).content.decode()
    assert message in page
    assert not ApiToken.objects.exists()


def test_the_password_is_asked_again_before_a_token_is_made() -> None:
    kim, client = logged_in("kim", role="Operator")
    session = client.session
    session["confirmed_at"] = 0
    session.save()
    for answer in (client.get(f"{TOKENS}add/"), client.post(f"{TOKENS}add/", sent(kim))):
        assert answer["Location"].startswith("/admin/confirm/")
    assert "What you sent was not saved" in client.get(answer["Location"]).content.decode()
    assert not ApiToken.objects.exists()


# A role, and whether it sees, makes and ends tokens of a service; and keeps service accounts.
WHO: list[tuple[str, bool, bool, bool]] = [
    ("Viewer", False, False, False),
    ("Operator", False, False, False),
    ("Auditor", True, False, False),
    ("Security", True, True, True),
]


@pytest.mark.parametrize(("role", "sees", "makes", "keeps"), WHO)
def test_tokens_of_others(
    role: str, sees: bool, makes: bool, keeps: bool, service: ServiceAccount
) -> None:
    token, _text = ApiToken.objects.issue(owner=service.user, name="line 3", scopes=[VIEW])
    _user, client = logged_in("kim", role=role)
    assert ("line 3" in client.get(TOKENS).content.decode()) is sees
    assert (client.get(f"{TOKENS}{token.pk}/change/").status_code == 200) is sees
    made = client.post(f"{TOKENS}add/", sent(service.user, name="mine", scopes=[VIEW]))
    assert (made.context.get("secret") is not None) is makes
    client.post(f"{TOKENS}{token.pk}/end/", {"reason": "leaked"})
    client.post(TOKENS, {"action": "end", "_selected_action": token.pk, "confirmed": "yes"})
    token.refresh_from_db()
    assert (token.revoked_at is not None) is makes
    assert (client.get(ACCOUNTS).status_code in YES) is sees
    assert (client.get(f"{ACCOUNTS}add/").status_code in YES) is keeps


def test_an_auditor_ends_no_token_of_others_by_an_action(service: ServiceAccount) -> None:
    token, _text = ApiToken.objects.issue(owner=service.user, name="line 3", scopes=[VIEW])
    _user, client = logged_in("kim", role="Auditor")
    page = client.post(TOKENS, {"action": "end", "_selected_action": token.pk})
    assert "line 3" in page.content.decode()
    shown = page.context["own_hidden"]
    client.post(TOKENS, {**dict(shown), "_selected_action": token.pk, "reason": ""})
    token.refresh_from_db()
    assert token.revoked_at is None


def test_staff_end_their_own() -> None:
    kim, client = logged_in("kim", role="Viewer")
    token, text = ApiToken.objects.issue(owner=kim, name="ci", scopes=[VIEW])
    assert "will be refused" in client.get(f"{TOKENS}{token.pk}/end/").content.decode()
    client.post(f"{TOKENS}{token.pk}/end/", {"reason": "old laptop"})
    verdict = ApiToken.objects.verify(text, None, timezone.now())
    assert verdict.outcome is TokenOutcome.REVOKED
    page = client.get(f"{TOKENS}{token.pk}/change/").content.decode()
    assert "old laptop" in page
    assert "/end/" not in page
    assert client.get("/admin/").content.decode().count("My tokens") == 1


def test_a_form_made_by_hand_brings_no_token_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kim, client = logged_in("kim", role="Operator")
    token, _text = ApiToken.objects.issue(owner=kim, name="ci", scopes=[VIEW])
    read = ApiTokenAdmin.get_object

    def read_before_it_ends(*args: Any) -> ApiToken | None:
        row = read(*args)
        ApiToken.objects.all().revoke(by="root")
        return row

    monkeypatch.setattr(ApiTokenAdmin, "get_object", read_before_it_ends)
    assert client.post(f"{TOKENS}{token.pk}/change/", {}).status_code == 302
    assert ApiToken.objects.get().revoked_by == "root"


def test_a_superuser_deletes_an_account_with_its_tokens(admin_client: Client) -> None:
    kim = staff(name="kim", role="Viewer")
    ApiToken.objects.issue(owner=kim, name="ci", scopes=[VIEW])
    admin_client.post(f"/admin/auth/user/{kim.pk}/delete/", {"post": "yes"})
    assert not User.objects.filter(username="kim").exists()
    assert "ci" in admin_client.get("/admin/history/").content.decode()


@pytest.mark.parametrize("page", ["one", "many"])
def test_whoever_may_delete_accounts_deletes_those_of_services_and_tokens(
    service: ServiceAccount, page: str
) -> None:
    kim = staff(name="kim", role="Viewer")
    for owner in (kim, service.user):
        ApiToken.objects.issue(owner=owner, name="ci", scopes=[VIEW])
    _sam, client = logged_in("sam", "view_user", "delete_user")
    keys = [kim.pk, service.user.pk]
    if page == "many":
        form = {"action": "delete_selected", "_selected_action": keys, "post": "yes"}
        assert client.post("/admin/auth/user/", form).status_code == 302
    else:
        for key in keys:
            address = f"/admin/auth/user/{key}/delete/"
            assert "service account" not in client.get(address).context["perms_lacking"]
            assert client.post(address, {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk__in=keys).exists()
    assert not ServiceAccount.objects.exists()
    assert not ApiToken.objects.exists()


def test_who_answers_for_a_service_account_is_not_deleted(
    service: ServiceAccount, admin_user: User
) -> None:
    _sam, client = logged_in("sam", "view_user", "delete_user")
    client.post(f"/admin/auth/user/{admin_user.pk}/delete/", {"post": "yes"})
    assert ServiceAccount.objects.get().answerable == admin_user


def test_a_service_account_is_made_and_kept() -> None:
    sam, client = logged_in("sam", role="Security")
    roles = {name: Group.objects.get(name=name).pk for name in ("Operator", "Security", "Viewer")}
    form = {"name": "scanner", "answerable": sam.pk, "purpose": "audits"}
    refused = client.post(f"{ACCOUNTS}add/", {**form, "roles": [roles["Operator"]]})
    assert "sam does not have these permissions" in refused.content.decode()
    for name, message in (
        ("a b", "valid username"),
        *((taken, "of this name exists") for taken in ("sam", "SAM", "ｓａｍ")),  # noqa: RUF001
        ("ﬃ" * 150, "at most 150 characters"),
    ):
        page = client.post(f"{ACCOUNTS}add/", {**form, "name": name}).content.decode()
        assert message in page
    assert not ServiceAccount.objects.exists()
    client.post(f"{ACCOUNTS}add/", {**form, "roles": [roles["Viewer"]]})
    account = ServiceAccount.objects.get()
    assert list(account.user.groups.values_list("name", flat=True)) == ["Viewer"]
    assert "scanner" in client.get(ACCOUNTS).content.decode()
    _token, text = ApiToken.objects.issue(owner=account.user, name="x", scopes=[VIEW])
    address = f"{ACCOUNTS}{account.pk}/change/"
    assert "scanner" in client.get(address).content.decode()
    given = {"purpose": "audits, nightly", "roles": [roles["Viewer"], roles["Security"]]}
    assert client.post(address, inputs(client.get(address)) | given).status_code == 302
    account.refresh_from_db()
    assert account.purpose == "audits, nightly"
    assert account.user.groups.count() == 2
    assert ApiToken.objects.verify(text, None, timezone.now()).outcome == "verified"
    kept = inputs(client.get(address))
    del kept["enabled"]
    assert client.post(address, kept).status_code == 302
    assert ApiToken.objects.verify(text, None, timezone.now()).outcome == "revoked"


def test_nobody_enables_a_service_that_may_do_more_than_they_may(
    service: ServiceAccount, admin_client: Client
) -> None:
    _sam, client = logged_in("sam", role="Security")
    address = f"{ACCOUNTS}{service.pk}/change/"
    kept = inputs(client.get(address))
    del kept["enabled"]
    assert client.post(address, kept).status_code == 302, "everybody may take away"
    enabled = inputs(client.get(address)) | {"enabled": "on"}
    refused = client.post(address, enabled)
    assert "sam does not have these permissions" in refused.content.decode()
    service.user.refresh_from_db()
    assert not service.user.is_active
    assert admin_client.post(address, enabled).status_code == 302
    service.user.refresh_from_db()
    assert service.user.is_active
    purposeful = inputs(client.get(address)) | {"purpose": "audits"}
    assert client.post(address, purposeful).status_code == 302, "what is enabled may stay so"


def test_nobody_brings_a_service_back_that_may_do_more_than_they_may(
    service: ServiceAccount, admin_user: User, admin_client: Client
) -> None:
    sam, client = logged_in("sam", role="Security")
    left = staff(name="left")
    boss = staff(name="boss")
    address = f"{ACCOUNTS}{service.pk}/change/"
    handed = inputs(client.get(address)) | {"answerable": left.pk}
    assert client.post(address, handed).status_code == 302, "it is accepted already"
    User.objects.filter(pk=left.pk).update(is_active=False)
    taken = inputs(client.get(address)) | {"answerable": sam.pk}
    refused = client.post(address, taken)
    assert "sam does not have these permissions" in refused.content.decode()
    assert "Only active staff can answer" not in refused.content.decode()
    service.refresh_from_db()
    assert service.answerable == left
    off = {name: value for name, value in taken.items() if name not in {"enabled", "roles"}}
    assert client.post(address, off).status_code == 302, "everybody may take away"
    service.user.refresh_from_db()
    assert (service.user.is_active, service.user.groups.count()) == (False, 0)
    ServiceAccount.objects.update(answerable=left)
    User.objects.filter(pk=service.user_id).update(is_active=True)
    taken = inputs(admin_client.get(address)) | {"answerable": boss.pk}
    assert admin_client.post(address, taken).status_code == 302
    service.refresh_from_db()
    assert service.answerable == boss


def test_lists_cost_as_many_statements_for_many_rows(
    service: ServiceAccount, admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        ApiToken.objects.issue(owner=service.user, name=f"token {number}", scopes=[VIEW])
    with django_assert_max_num_queries(12):
        admin_client.get(TOKENS)
    with django_assert_max_num_queries(12):
        admin_client.get(ACCOUNTS)
