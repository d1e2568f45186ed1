"""Reading the environment: strict, and helpful where something is missing."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from authsite.env import Environment, starts_tls

pytestmark = pytest.mark.once(on="sqlite")

PEPPER = "bmV3ZXN0IHBlcHBlciBmb3IgdGVzdHMsIDMyIGJ5dGVz"
PROJECT = Path(__file__).parent.parent.parent

MakeEnv = Callable[..., Environment]


@pytest.fixture
def make_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakeEnv:
    def make(**variables: str) -> Environment:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Environment(tmp_path / "no.env")

    return make


def test_a_missing_key_says_how_to_make_it(make_env: MakeEnv) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"X_KEY is not set\. Make one with: y"):
        make_env().text("X_KEY", how="Make one with: y")
    with pytest.raises(ImproperlyConfigured, match="X_KEY"):
        make_env(X_KEY="  ").text("X_KEY")


def test_a_value_that_begins_with_a_dollar_is_itself(make_env: MakeEnv) -> None:
    env = make_env(X_KEY="$HOME", X_OTHER="$")
    assert env.text("X_KEY") == "$HOME"
    assert env.text("X_OTHER") == "$"


def test_a_file_may_hold_the_value(make_env: MakeEnv, tmp_path: Path) -> None:
    held = tmp_path / "secret"
    held.write_text("from a file\n")
    assert make_env(X_KEY_FILE=str(held), X_KEY="ignored").text("X_KEY") == "from a file"
    with pytest.raises(ImproperlyConfigured, match=r"X_GONE_FILE cannot be read: .*/gone: No such"):
        make_env(X_GONE_FILE=str(tmp_path / "gone")).text("X_GONE", "default")


@pytest.mark.parametrize(
    ("value", "flag"),
    [("on", True), ("TRUE", True), ("1", True), ("yes", True), ("off", False), ("0", False)],
)
def test_a_flag_is_read(make_env: MakeEnv, value: str, flag: bool) -> None:
    assert make_env(X_FLAG=value).flag("X_FLAG", default=not flag) is flag


def test_a_header_has_a_header_s_name(make_env: MakeEnv) -> None:
    assert make_env().header("X_HEADER", "Default-Name") == "Default-Name"
    assert make_env(X_HEADER="ClientCert").header("X_HEADER", "") == "ClientCert"
    for wrong in ("Client_Cert", "Client Cert", "ClientCert:", "-", "É"):
        with pytest.raises(ImproperlyConfigured, match="X_HEADER must be the name of a header"):
            make_env(X_HEADER=wrong).header("X_HEADER", "")


def test_a_flag_that_is_neither_stops_the_start(make_env: MakeEnv) -> None:
    with pytest.raises(ImproperlyConfigured, match="maybe"):
        make_env(X_FLAG="maybe").flag("X_FLAG", default=False)


@pytest.mark.parametrize("value", ["-1", "1.5", "many", "٣", "0"])
def test_a_number_that_is_none_stops_the_start(make_env: MakeEnv, value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="at least 1"):
        make_env(X_NUMBER=value).number("X_NUMBER", 5, minimum=1, maximum=9)


def test_networks_are_read_and_mistakes_named(make_env: MakeEnv) -> None:
    env = make_env(X_NETS=" 10.0.0.0/8, ::1/128,", X_BAD="10.0.0.1/8")
    assert env.networks("X_NETS") == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert env.networks("X_NONE") == ()
    with pytest.raises(ImproperlyConfigured, match=r"X_BAD.*host bits"):
        env.networks("X_BAD")


def test_peppers_keep_their_order_and_their_bytes(make_env: MakeEnv) -> None:
    peppers = make_env(X_PEPPERS=f"new:{PEPPER},old:{PEPPER}").peppers("X_PEPPERS")
    assert list(peppers) == ["new", "old"]
    assert peppers["new"] == b"newest pepper for tests, 32 bytes"


@pytest.mark.parametrize(
    "value",
    ["", "nocolon", f":{PEPPER}", "id:", "id:c2hvcnQ=", "id:!!!", f"a b:{PEPPER}", f"x:{PEPPER},"],
)
def test_a_pepper_that_is_none_stops_the_start_and_is_not_repeated(
    make_env: MakeEnv, value: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match="Make one with") as caught:
        make_env(X_PEPPERS=value).peppers("X_PEPPERS")
    assert PEPPER not in str(caught.value)


def test_a_pepper_stands_once(make_env: MakeEnv) -> None:
    with pytest.raises(ImproperlyConfigured, match="twice"):
        make_env(X_PEPPERS=f"a:{PEPPER},a:{PEPPER}").peppers("X_PEPPERS")


def test_a_level_or_a_cache_that_is_none_stops_the_start(make_env: MakeEnv) -> None:
    env = make_env(X_LEVEL="loud", X_CACHE="foo://x", X_DB="mysql://a/b")
    for read, name in ((env.level, "X_LEVEL"), (env.cache, "X_CACHE"), (env.database, "X_DB")):
        with pytest.raises(ImproperlyConfigured, match=name):
            read(name, default="")
    assert env.level("X_NONE", "info") == "INFO"


def test_a_database_url_that_is_none_stops_the_start(make_env: MakeEnv) -> None:
    with pytest.raises(ImproperlyConfigured, match="X_URL"):
        make_env(X_URL="nonsense").database("X_URL", default="sqlite://:memory:")


def test_a_database_url_may_name_several_hosts(make_env: MakeEnv) -> None:
    url = "postgres://u:p%40w@a.internal:5433,b,[::1]:5434/registry?target_session_attrs=read-write"
    config = make_env(X_URL=url).database("X_URL", default="")
    assert config["HOST"] == "a.internal,b,::1"
    assert config["PORT"] == "5433,5432,5434"
    assert (config["USER"], config["PASSWORD"], config["NAME"]) == ("u", "p@w", "registry")
    assert config["OPTIONS"] == {"target_session_attrs": "read-write"}


@pytest.mark.parametrize(
    "url",
    ["postgres://u@a,/n", "postgres://u@a:x,b/n", "postgres://u@a b,c/n", "sqlite://a,b/n"],
)
def test_hosts_that_are_none_stop_the_start(make_env: MakeEnv, url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="X_URL"):
        make_env(X_URL=url).database("X_URL", default="")


@pytest.mark.parametrize("missing", ["SECRET_KEY", "PEPPERS"])
def test_the_start_stops_without_a_key_and_says_how_to_make_it(
    missing: str, tmp_path: Path
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "SECRET_KEY": "x" * 50,
        "PEPPERS": f"a:{PEPPER}",
        f"{missing}": "",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    started = subprocess.run(
        [sys.executable, PROJECT / "manage.py", "check"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if (PROJECT / ".env").exists():
        pytest.skip("this checkout has an .env, which supplies what is missing")
    assert started.returncode == 2
    assert "Traceback" not in started.stderr
    assert f"{missing} is not set" in started.stderr
    assert "Make one with" in started.stderr


@pytest.mark.parametrize(("text", "value"), [("", "off"), ("ON", "on")])
def test_a_choice_is_one_of_those_offered(text: str, value: str, make_env: MakeEnv) -> None:
    assert make_env(CHOICE=text).choice("CHOICE", ["off", "on"]) == value
    with pytest.raises(ImproperlyConfigured, match="off, on"):
        make_env(CHOICE="perhaps").choice("CHOICE", ["off", "on"])


def test_roles_are_listed_by_what_brings_them(make_env: MakeEnv) -> None:
    listed = "viewers=Viewer; cn=ops,ou=groups,dc=example=Operator ;viewers=Auditor;;"
    assert make_env(X_ROLES=listed).roles("X_ROLES") == {
        "viewers": ("Viewer", "Auditor"),
        "cn=ops,ou=groups,dc=example": ("Operator",),
    }
    assert make_env().roles("X_NONE") == {}
    for wrong in ("Viewer", "=Viewer", "viewers=", "a=b;c"):
        with pytest.raises(ImproperlyConfigured, match="VALUE=ROLE"):
            make_env(X_ROLES=wrong).roles("X_ROLES")


def test_a_web_address_is_https_or_of_this_machine(make_env: MakeEnv) -> None:
    for right in ("https://id.example.com/realm/", "http://localhost:8080", "http://[::1]:1"):
        assert make_env(X_URL=right).web_address("X_URL") == right
    assert make_env().web_address("X_NONE") == ""
    for wrong in (
        "id.example.com",
        "http://id.example.com",
        "ftp://localhost",
        "https://",
        "https://a/?q",
        "https://a/#f",
        "https://user@a/",
        "https://[",
        "https://a:port",
    ):
        with pytest.raises(ImproperlyConfigured, match="must be an address"):
            make_env(X_URL=wrong).web_address("X_URL")


def test_a_directory_is_asked_by_tls_or_on_this_machine() -> None:
    for addresses, wanted, starts in (
        ("ldaps://a", True, False),
        ("ldaps://a ldaps://b:636", False, False),
        ("ldap://a", True, True),
        ("ldap://localhost:389", False, False),
        ("ldapi:///", True, False),
    ):
        assert starts_tls(addresses, wanted=wanted) is starts
    for addresses in ("a", "https://a", "ldap://", "ldaps://a ldap://b", "ldaps://a:port", " "):
        with pytest.raises(ImproperlyConfigured, match="LDAP_URL must be"):
            starts_tls(addresses, wanted=True)
    for addresses in ("ldap://a", "ldap://localhost ldap://a"):
        with pytest.raises(ImproperlyConfigured, match="in clear"):
            starts_tls(addresses, wanted=False)


def test_a_filter_holds_the_name_that_is_looked_for(make_env: MakeEnv) -> None:
    right = "(&(objectClass=person)(uid=%(user)s))"
    assert make_env(X_FILTER=right).directory_filter("X_FILTER", "") == right
    for wrong in ("(uid=kim)", "(uid=%s)", "(uid=%(name)s)", "(uid=%(user)s", "(uid=%(user)d)"):
        with pytest.raises(ImproperlyConfigured, match="X_FILTER must be a filter"):
            make_env(X_FILTER=wrong).directory_filter("X_FILTER", "")


def test_a_file_that_is_named_can_be_read(make_env: MakeEnv, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    right = str(tmp_path / "ca.pem")
    assert make_env(X_FILE_NAME=right).readable_file("X_FILE_NAME") == right
    assert make_env().readable_file("X_NONE") == ""
    for wrong in (str(tmp_path), str(tmp_path / "none.pem")):
        with pytest.raises(ImproperlyConfigured, match="X_FILE_NAME cannot be read"):
            make_env(X_FILE_NAME=wrong).readable_file("X_FILE_NAME")


def test_a_header_that_is_believed_has_one_spelling(make_env: MakeEnv) -> None:
    assert make_env(X_HEADER="RemoteUser").plain_header("X_HEADER") == "RemoteUser"
    assert make_env().plain_header("X_NONE") == ""
    for wrong in ("Remote-User", "Remote_User", "Remote User"):
        with pytest.raises(ImproperlyConfigured, match="X_HEADER must be"):
            make_env(X_HEADER=wrong).plain_header("X_HEADER")


@pytest.mark.parametrize(
    "line",
    [
        "STAFF_SECOND_FACTOR = hunter2",
        " HTTPS=hunter2",
        "BACKEND-NETWORKS=hunter2",
        "HTTPS= 'hunter2'",
        'export HTTPS=\t"hunter2"',
        "x",
    ],
)
def test_a_line_of_the_file_that_would_be_ignored_stops_the_start(
    line: str, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text(f"# mine\n\n  # mine, too\n{line}\n")
    with pytest.raises(ImproperlyConfigured, match=r"\.env, line 4, is not NAME=value") as error:
        Environment(file)
    assert "around the equals sign" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_file_that_cannot_be_read_stops_the_start(make_env: MakeEnv, tmp_path: Path) -> None:
    folder, binary, marked = tmp_path / "folder", tmp_path / "binary", tmp_path / "marked"
    folder.mkdir()
    binary.write_bytes(b"X_KEY=\xff\n")
    with pytest.raises(ImproperlyConfigured, match="folder cannot be read: Is a directory"):
        Environment(folder)
    with pytest.raises(ImproperlyConfigured, match="binary cannot be read: it is not UTF-8"):
        Environment(binary)
    with pytest.raises(ImproperlyConfigured, match=r"X_BINARY_FILE .*/binary: it is not UTF-8"):
        make_env(X_BINARY_FILE=str(binary)).text("X_BINARY")
    marked.write_bytes(b"\xef\xbb\xbfsecret\r\n")  # as some editors of Windows save it
    assert make_env(X_OTHER_FILE=str(marked)).text("X_OTHER") == "secret"


def test_a_file_that_is_not_for_the_process_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_given: str) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / ".env").write_text("X_LEFT_OUT=of the file\n")
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setenv("X_GIVEN", "of the service manager")
    env = Environment(tmp_path / ".env")
    assert env.text("X_GIVEN") == "of the service manager"
    with pytest.raises(ImproperlyConfigured, match="X_LEFT_OUT is not set"):
        env.text("X_LEFT_OUT")
    assert ".env is left out: Permission denied" in caplog.text


def test_a_database_url_with_a_bare_password_is_named_and_not_repeated(make_env: MakeEnv) -> None:
    for password in ("hunter/2", "hunter?2"):
        with pytest.raises(ImproperlyConfigured, match=r"X_DB must be a URL .* %2F") as error:
            make_env(X_DB=f"postgres://me:{password}@db/name").database("X_DB", default="")
        assert "hunter" not in str(error.value)
        assert error.value.__suppress_context__
    with pytest.raises(ImproperlyConfigured, match="X_DB must be a URL"):
        make_env(X_DB="sqlite:db.sqlite3").database("X_DB", default="")  # "b.sqlite3" otherwise


def test_hosts_are_names_without_scheme_and_port(make_env: MakeEnv) -> None:
    right = "registry.example,.example.org,[2001:db8::1],10.0.0.1,*,my_host"
    assert make_env(X_HOSTS=right).hosts("X_HOSTS") == right.split(",")
    for wrong in (
        "https://registry.example",
        "registry.example:8443",
        "a.example/x",
        "2001:db8::1",
    ):
        with pytest.raises(ImproperlyConfigured, match="without https:// and without a port"):
            make_env(X_HOSTS=f"a.example,{wrong}").hosts("X_HOSTS")
    with pytest.raises(
        ImproperlyConfigured, match=r"'\*\.b\.example' is not one: write \.b\.example\."
    ):
        make_env(X_HOSTS="a.example,*.b.example").hosts("X_HOSTS")
