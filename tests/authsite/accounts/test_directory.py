"""Passwords of a directory (LDAP), against a real slapd; skipped where there is none."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from authsite.accounts.sign_on.models import ExternalIdentity
from tests.support.commands import python
from tests.support.slapd import ADMIN, BASE, PASSWORD, Directory, directory

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

LOGIN = "/admin/login/"
KIM, LEE = "the password of kim", "the password of lee"
LDIF = f"""
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,{BASE}
objectClass: organizationalUnit
ou: people

dn: ou=groups,{BASE}
objectClass: organizationalUnit
ou: groups

dn: uid=kim,ou=people,{BASE}
objectClass: inetOrgPerson
uid: kim
cn: Kim
sn: Smith
givenName: Kim
mail: kim@example.com
userPassword: {KIM}

dn: uid=lee,ou=people,{BASE}
objectClass: inetOrgPerson
uid: lee
cn: Lee
sn: Jones
userPassword: {LEE}

dn: cn=viewers,ou=groups,{BASE}
objectClass: groupOfNames
cn: viewers
member: uid=kim,ou=people,{BASE}

dn: cn=Inner Circle,ou=groups,{BASE}
objectClass: groupOfNames
cn: Inner Circle
member: uid=kim,ou=people,{BASE}

dn: cn=security,ou=groups,{BASE}
objectClass: groupOfNames
cn: security
member: cn=Inner Circle,ou=groups,{BASE}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    with directory(tmp_path_factory.mktemp("slapd"), LDIF) as found:
        yield found


@pytest.fixture
def slapd(running: Directory, settings: Any) -> Directory:
    backends = list(settings.AUTHENTICATION_BACKENDS)
    backends.insert(1, "authsite.accounts.sign_on.directory.DirectoryBackend")
    settings.AUTHENTICATION_BACKENDS = backends
    settings.LDAP_URL = running.url
    settings.LDAP_CA_FILE = str(running.authority)
    settings.LDAP_BIND_DN, settings.LDAP_BIND_PASSWORD = ADMIN, PASSWORD
    settings.LDAP_USER_BASE = f"ou=people,{BASE}"
    settings.LDAP_GROUP_BASE = f"ou=groups,{BASE}"
    settings.LDAP_ROLES = {
        f"cn=viewers,ou=groups,{BASE.upper()}": ("Viewer",),
        "operators": ("Operator",),
        "security": ("Security",),
    }
    return running


def log_in(client: Client, name: str = "kim", password: str = KIM) -> Any:
    return client.post(LOGIN, {"username": name, "password": password})


def roles(name: str = "kim") -> set[str]:
    return {group.name for group in User.objects.get(username=name).groups.all()}


def is_anonymous(client: Client) -> bool:
    return bool(client.get("/admin/jsi18n/").status_code == 302)


def test_the_first_login_makes_an_account_with_the_roles_of_its_groups(
    client: Client, slapd: Directory
) -> None:
    assert log_in(client).status_code == 302
    assert not is_anonymous(client)
    user = User.objects.get(username="kim")
    assert (user.first_name, user.last_name, user.email) == ("Kim", "Smith", "kim@example.com")
    assert not user.has_usable_password()
    assert roles() == {"Viewer"}
    identity = ExternalIdentity.objects.get(user=user)
    assert identity.source == "ldap"
    assert identity.subject.count("-") == 4, "the entryUUID, which outlives a change of name"
    User.objects.update(is_active=False)
    assert is_anonymous(client)


def test_roles_follow_the_groups_at_every_login(client: Client, slapd: Directory) -> None:
    log_in(client)
    change = "dn: cn=viewers,ou=groups,{}\nchangetype: modify\nreplace: member\nmember: uid={},{}\n"
    people = f"ou=people,{BASE}"
    slapd.modify(change.format(BASE, "lee", people))
    try:
        page = log_in(Client())
        assert page.status_code == 403
        assert "brings no role" in page.content.decode()
        assert roles() == set()
        assert client.get("/admin/jsi18n/").status_code == 302, "no session keeps any"
        assert not AccessAttempt.objects.exists(), "the password was right"
    finally:
        slapd.modify(change.format(BASE, "kim", people))


def test_groups_in_groups_count_where_they_are_asked_for(
    client: Client, slapd: Directory, settings: Any
) -> None:
    settings.LDAP_NESTED_GROUPS = True
    log_in(client)
    assert roles() == {"Viewer", "Security"}


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("kim", "wrong"),
        ("kim", ""),
        ("nobody", KIM),
        ("*", KIM),
        ("k*", KIM),
        ("kim)(uid=*", KIM),
        ("*)(objectClass=*", KIM),
        (f"kim,ou=people,{BASE}", KIM),
        ("kim\\", KIM),
        ("кim", KIM),
        ("x" * 300, KIM),
        ("kim\0", KIM),
        ("kim", KIM + "\0"),
    ],
)
def test_nobody_else_gets_in(client: Client, slapd: Directory, name: str, password: str) -> None:
    assert log_in(client, name, password).status_code == 200
    assert is_anonymous(client)
    assert not User.objects.exists()


@pytest.mark.parametrize("is_known", [False, True])
def test_five_wrong_passwords_lock_a_name_out_however_it_is_spelt(
    client: Client, slapd: Directory, is_known: bool
) -> None:
    if is_known:
        log_in(Client())
        User.objects.update(username="Kim")
    for name in ("kim", "KIM", "Kim", "kIM", "ｋｉｍ"):  # noqa: RUF001
        answer = log_in(client, name, "wrong")
    assert answer.status_code == 429
    assert log_in(client).status_code == 429
    assert AccessAttempt.objects.get().username == ("Kim" if is_known else "kim")


def test_a_local_account_of_the_name_is_never_taken(client: Client, slapd: Directory) -> None:
    User.objects.create_superuser("Kim", password="a password of ours")
    assert log_in(client).status_code == 200
    assert log_in(client, "Kim", KIM).status_code == 200
    assert is_anonymous(client)
    assert log_in(client, "Kim", "a password of ours").status_code == 302


def test_the_password_is_asked_again_before_a_secret(
    client: Client, slapd: Directory, settings: Any
) -> None:
    settings.STAFF_SECOND_FACTOR = "optional"
    log_in(client)
    session = client.session
    session["confirmed_at"] -= 3600
    session.save()
    guarded = "/admin/second-factor/app/"
    confirm = client.get(guarded)["Location"]
    assert client.post(confirm, {"password": "wrong"}).status_code == 200
    assert client.post(confirm, {"password": KIM})["Location"] == guarded
    assert client.get(guarded).status_code == 200


def test_who_has_another_name_there_confirms_with_it(client: Client, slapd: Directory) -> None:
    log_in(client)
    rename = "dn: uid={},ou=people,{}\nchangetype: modrdn\nnewrdn: uid={}\ndeleteoldrdn: 1\n"
    member = "dn: cn=viewers,ou=groups,{}\nchangetype: modify\nreplace: member\nmember: uid={},{}\n"
    try:
        slapd.modify(rename.format("kim", BASE, "kimberly"))
        slapd.modify(member.format(BASE, "kimberly", f"ou=people,{BASE}"))
        assert log_in(client, "kimberly").status_code == 302
        assert User.objects.get().username == "kim", "which stays as it was"
        confirmed = client.post("/admin/confirm/?next=/admin/", {"password": KIM})
        assert confirmed.status_code == 302
        assert not AccessAttempt.objects.exists()
    finally:
        slapd.modify(rename.format("kimberly", BASE, "kim"))
        slapd.modify(member.format(BASE, "kim", f"ou=people,{BASE}"))


def test_nobody_keeps_a_way_in_after_the_directory_threw_them_out(
    client: Client, slapd: Directory
) -> None:
    log_in(client)
    new = {
        "old_password": KIM,
        "new_password1": "a lasting one 1",
        "new_password2": "a lasting one 1",
    }
    page = client.post("/admin/password_change/", new)
    assert "has no password in this registry" in page.content.decode()
    assert not User.objects.get().has_usable_password()


def test_no_name_of_a_group_passes_for_a_dn(client: Client, slapd: Directory) -> None:
    named = f"cn=viewers,ou=groups,{BASE}"
    escaped = named.replace("=", "\\3D").replace(",", "\\2C")
    group = f"dn: cn={escaped},ou=groups,{BASE}\nchangetype: "
    slapd.modify(
        f"{group}add\nobjectClass: groupOfNames\ncn: {named}\nmember: uid=lee,ou=people,{BASE}\n"
    )
    try:
        assert log_in(client, "lee", LEE).status_code == 403
    finally:
        slapd.modify(f"{group}delete\n")


@pytest.mark.parametrize(
    ("setting", "value", "status", "said"),
    [
        ("LDAP_ID_ATTRIBUTE", "nothing", 403, "by what your account is recognized"),
        ("LDAP_NAME_ATTRIBUTE", "nothing", 403, "gave no name"),
        ("LDAP_CA_FILE", "/nowhere.pem", 503, "does not answer"),
        ("LDAP_USER_BASE", "no name", 503, "does not answer"),
        ("LDAP_GROUP_BASE", "no name", 503, "does not answer"),
        ("LDAP_USER_FILTER", "(|(uid=%(user)s)(sn=*))", 200, "password is wrong"),
    ],
)
def test_a_setting_that_is_wrong_lets_nobody_in(
    client: Client,
    slapd: Directory,
    settings: Any,
    setting: str,
    value: str,
    status: int,
    said: str,
) -> None:
    setattr(settings, setting, value)
    answer = log_in(client)
    assert answer.status_code == status
    assert said in answer.content.decode()
    assert not User.objects.exists()


@pytest.mark.parametrize("way", ["StartTLS", "LDAPS"])
def test_the_directory_is_known_by_its_certificate(
    client: Client, slapd: Directory, settings: Any, way: str, caplog: Any
) -> None:
    settings.LDAP_URL = slapd.url if way == "StartTLS" else slapd.tls_url
    settings.LDAP_START_TLS = True
    assert log_in(client).status_code == 302
    settings.LDAP_CA_FILE = ""
    refused = log_in(Client())
    assert refused.status_code == 503
    assert "does not answer" in refused.content.decode()
    assert "the directory: " in caplog.text
    assert KIM not in caplog.text


def test_passwords_never_travel_in_clear(client: Client, slapd: Directory, settings: Any) -> None:
    settings.LDAP_START_TLS = False
    assert log_in(client).status_code == 302, "on this machine they may"
    settings.LDAP_URL = "ldap://ldap.example.com"
    with pytest.raises(ImproperlyConfigured, match="in clear"):
        log_in(Client())


def test_a_directory_that_is_down_is_said_to_be_down(
    client: Client, slapd: Directory, settings: Any, caplog: Any
) -> None:
    User.objects.create_superuser("glass", password="a password of ours")
    settings.LDAP_URL = "ldaps://127.0.0.1:1"
    for _ in range(6):
        refused = log_in(client)
        assert refused.status_code == 503
    assert "SERVER_DOWN" in caplog.text
    assert not AccessAttempt.objects.exists(), "no failure of the password"
    assert log_in(client, "glass", "a password of ours").status_code == 302


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_directory_that_is_silent_is_waited_for_so_long(
    scheme: str, client: Client, slapd: Directory, settings: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("authsite.accounts.sign_on.directory.ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("authsite.accounts.sign_on.calls.WHOLE_SECONDS", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.LDAP_URL = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        settings.LDAP_START_TLS = False
        began = time.monotonic()
        assert log_in(client).status_code == 503
        assert time.monotonic() - began < 3


def test_of_several_directories_the_next_one_is_asked(
    client: Client, slapd: Directory, settings: Any
) -> None:
    """libldap itself does so only where it is not connected to the first one."""
    settings.LDAP_URL = f"ldap://127.0.0.1:{slapd.tls_port} {slapd.url}"  # which hangs up
    assert log_in(client, password="wrong").status_code == 200
    assert log_in(client).status_code == 302


def test_the_directory_that_does_not_take_our_own_password_is_an_outage(
    client: Client, slapd: Directory, settings: Any, caplog: Any
) -> None:
    settings.LDAP_BIND_PASSWORD = "wrong"
    assert log_in(client).status_code == 503
    assert "INVALID_CREDENTIALS" in caplog.text


def test_a_directory_that_is_set_and_not_installed_stops_the_start(tmp_path: Path) -> None:
    code = (
        "import importlib.util as u; found = u.find_spec; "
        "u.find_spec = lambda name, *rest: None if 'ldap' in name else found(name, *rest); "
        "from authsite import settings"
    )
    environment = {
        "LDAP_URL": "ldaps://ldap.example.com",
        "LDAP_USER_BASE": BASE,
        "LDAP_GROUP_BASE": BASE,
        "SECRET_KEY": "x",
        "PEPPERS": "a:" + "A" * 44,
    }
    done = python("-c", code, env=environment)
    assert "is not installed: docs/sign-on.md" in done.stderr
