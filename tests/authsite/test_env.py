"""Reading the environment: strict, and helpful where something is missing."""

import errno
import os
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from authsite import readers
from authsite.env import Environment
from authsite.operations import RUNTIME
from authsite.readers import starts_tls
from tests.support.commands import python

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
        make_env().read("X_KEY", readers.Reader("be set", str, "Make one with: y"), None)
    with pytest.raises(ImproperlyConfigured, match="X_KEY"):
        make_env(X_KEY="  ").read("X_KEY", readers.text, None)


def test_a_value_that_begins_with_a_dollar_is_itself(make_env: MakeEnv) -> None:
    env = make_env(X_KEY="$HOME", X_OTHER="$")
    assert env.read("X_KEY", readers.text) == "$HOME"
    assert env.read("X_OTHER", readers.text) == "$"


def test_a_file_may_hold_the_value(make_env: MakeEnv, tmp_path: Path) -> None:
    held = tmp_path / "secret"
    held.write_text("from a file\n")
    env = make_env(X_KEY_FILE=str(held), X_KEY="ignored")
    assert env.read("X_KEY", readers.text) == "from a file"
    with pytest.raises(ImproperlyConfigured, match=r"X_GONE_FILE cannot be read: .*/gone: No such"):
        make_env(X_GONE_FILE=str(tmp_path / "gone")).read("X_GONE", readers.text, "default")


@pytest.mark.parametrize(
    ("value", "flag"),
    [("on", True), ("TRUE", True), ("1", True), ("yes", True), ("off", False), ("0", False)],
)
def test_a_flag_is_read(make_env: MakeEnv, value: str, flag: bool) -> None:
    assert make_env(X_FLAG=value).read("X_FLAG", readers.flag, not flag) is flag


def test_a_header_has_a_header_s_name(make_env: MakeEnv) -> None:
    assert make_env().read("X_HEADER", readers.header, "Default-Name") == "Default-Name"
    assert make_env(X_HEADER="ClientCert").read("X_HEADER", readers.header) == "ClientCert"
    for wrong in ("Client_Cert", "Client Cert", "ClientCert:", "-", "É"):
        with pytest.raises(ImproperlyConfigured, match="X_HEADER must be the name of a header"):
            make_env(X_HEADER=wrong).read("X_HEADER", readers.header)


def test_a_flag_that_is_neither_stops_the_start(make_env: MakeEnv) -> None:
    with pytest.raises(ImproperlyConfigured, match="maybe"):
        make_env(X_FLAG="maybe").read("X_FLAG", readers.flag)


@pytest.mark.parametrize("value", ["-1", "1.5", "many", "٣", "0"])
def test_a_number_that_is_none_stops_the_start(make_env: MakeEnv, value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="at least 1"):
        make_env(X_NUMBER=value).read("X_NUMBER", readers.number(1, 9), 5)


def test_networks_are_read_and_mistakes_named(make_env: MakeEnv) -> None:
    env = make_env(X_NETS=" 10.0.0.0/8, ::1/128,", X_BAD="10.0.0.1/8")
    found = [ip_network("10.0.0.0/8"), ip_network("::1/128")]
    assert env.read("X_NETS", readers.networks) == found
    assert env.read("X_NONE", readers.networks) == []
    with pytest.raises(ImproperlyConfigured, match=r"X_BAD.*host bits"):
        env.read("X_BAD", readers.networks)


@pytest.mark.parametrize(
    ("value", "mended"),
    [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("10.0.0.0/8,::ffff:0:0/96", "0.0.0.0/0"),
        ("fe80::1%eth0", "without %"),
    ],
)
def test_a_network_that_no_caller_is_in_stops_the_start(
    make_env: MakeEnv, value: str, mended: str
) -> None:
    """Callers' addresses are compared as IPv4 where they are, and without their link."""
    with pytest.raises(ImproperlyConfigured, match=mended):
        make_env(X_NETS=value).read("X_NETS", readers.networks)


def test_peppers_keep_their_order_and_their_bytes(make_env: MakeEnv) -> None:
    env = make_env(X_PEPPERS=f"new:{PEPPER},old:{PEPPER}")
    peppers = env.read("X_PEPPERS", readers.peppers)
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
        make_env(X_PEPPERS=value).read("X_PEPPERS", readers.peppers, None)
    assert PEPPER not in str(caught.value)


def test_a_pepper_stands_once(make_env: MakeEnv) -> None:
    with pytest.raises(ImproperlyConfigured, match="twice"):
        make_env(X_PEPPERS=f"a:{PEPPER},a:{PEPPER}").read("X_PEPPERS", readers.peppers, None)


def test_a_level_or_a_cache_that_is_none_stops_the_start(make_env: MakeEnv) -> None:
    env = make_env(X_LEVEL="loud", X_CACHE="foo://x", X_DB="mysql://a/b")
    kinds: dict[str, readers.Reader[Any]] = {
        "X_LEVEL": readers.level,
        "X_CACHE": readers.cache,
        "X_DB": readers.database,
    }
    for name, reader in kinds.items():
        with pytest.raises(ImproperlyConfigured, match=name):
            env.read(name, reader)
    assert env.read("X_NONE", readers.level, "info") == "INFO"


def test_a_database_url_that_is_none_stops_the_start(make_env: MakeEnv) -> None:
    with pytest.raises(ImproperlyConfigured, match="X_URL"):
        make_env(X_URL="nonsense").read("X_URL", readers.database, "sqlite://:memory:")


def test_a_database_url_may_name_several_hosts(make_env: MakeEnv) -> None:
    url = "postgres://u:p%40w@a.internal:5433,b,[::1]:5434/registry?target_session_attrs=read-write"
    config = make_env(X_URL=url).read("X_URL", readers.database)
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
        make_env(X_URL=url).read("X_URL", readers.database)


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
    started = python(PROJECT / "manage.py", "check", env=environment, cwd=tmp_path)
    if (PROJECT / ".env").exists():
        pytest.skip("this checkout has an .env, which supplies what is missing")
    assert started.returncode == 2
    assert "Traceback" not in started.stderr
    assert f"{missing} is not set" in started.stderr
    assert "Make one with" in started.stderr


@pytest.mark.parametrize(("text", "value"), [("", "off"), ("ON", "on")])
def test_a_choice_is_one_of_those_offered(text: str, value: str, make_env: MakeEnv) -> None:
    assert make_env(CHOICE=text).read("CHOICE", readers.choice("off", "on"), "off") == value
    with pytest.raises(ImproperlyConfigured, match="off, on"):
        make_env(CHOICE="perhaps").read("CHOICE", readers.choice("off", "on"), "off")


def test_roles_are_listed_by_what_brings_them(make_env: MakeEnv) -> None:
    listed = "viewers=Viewer; cn=ops,ou=groups,dc=example=Operator ;viewers=Auditor;;"
    assert make_env(X_ROLES=listed).read("X_ROLES", readers.roles) == {
        "viewers": ("Viewer", "Auditor"),
        "cn=ops,ou=groups,dc=example": ("Operator",),
    }
    assert make_env().read("X_NONE", readers.roles) == {}
    for wrong in ("Viewer", "=Viewer", "viewers=", "a=b;c"):
        with pytest.raises(ImproperlyConfigured, match="VALUE=ROLE"):
            make_env(X_ROLES=wrong).read("X_ROLES", readers.roles)


def test_a_web_address_is_https_or_of_this_machine(make_env: MakeEnv) -> None:
    for right in ("https://id.example.com/realm/", "http://localhost:8080", "http://[::1]:1"):
        assert make_env(X_URL=right).read("X_URL", readers.web_address) == right
    assert make_env().read("X_NONE", readers.web_address) == ""
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
            make_env(X_URL=wrong).read("X_URL", readers.web_address)


def test_a_directory_is_asked_by_tls_or_on_this_machine(make_env: MakeEnv) -> None:
    for addresses, wanted, starts in (
        ("ldaps://a", True, False),
        ("ldaps://a ldaps://b:636", False, False),
        ("ldap://a", True, True),
        ("ldap://localhost:389", False, False),
        ("ldapi:///", True, False),
    ):
        assert starts_tls(addresses, wanted=wanted) is starts
    for addresses in ("a", "https://a", "ldap://", "ldaps://a ldap://b", "ldaps://a:port"):
        with pytest.raises(ImproperlyConfigured, match="LDAP_URL must be"):
            make_env(LDAP_URL=addresses).read("LDAP_URL", readers.directory)
    for addresses in ("ldap://a", "ldap://localhost ldap://a"):
        with pytest.raises(ImproperlyConfigured, match="in clear"):
            starts_tls(addresses, wanted=False)


def test_a_filter_holds_the_name_that_is_looked_for(make_env: MakeEnv) -> None:
    right = "(&(objectClass=person)(uid=%(user)s))"
    assert make_env(X_FILTER=right).read("X_FILTER", readers.directory_filter) == right
    for wrong in ("(uid=kim)", "(uid=%s)", "(uid=%(name)s)", "(uid=%(user)s", "(uid=%(user)d)"):
        with pytest.raises(ImproperlyConfigured, match="X_FILTER must be a filter"):
            make_env(X_FILTER=wrong).read("X_FILTER", readers.directory_filter)


def test_a_file_that_is_named_can_be_read(make_env: MakeEnv, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    right = str(tmp_path / "ca.pem")
    assert make_env(X_FILE_NAME=right).read("X_FILE_NAME", readers.readable_file) == right
    assert make_env().read("X_NONE", readers.readable_file) == ""
    for wrong in (str(tmp_path), str(tmp_path / "none.pem")):
        with pytest.raises(ImproperlyConfigured, match="X_FILE_NAME must be a file that can"):
            make_env(X_FILE_NAME=wrong).read("X_FILE_NAME", readers.readable_file)


def test_a_header_that_is_believed_has_one_spelling(make_env: MakeEnv) -> None:
    assert make_env(X_HEADER="RemoteUser").read("X_HEADER", readers.plain_header) == "RemoteUser"
    assert make_env().read("X_NONE", readers.plain_header) == ""
    for wrong in ("Remote-User", "Remote_User", "Remote User"):
        with pytest.raises(ImproperlyConfigured, match="X_HEADER must be"):
            make_env(X_HEADER=wrong).read("X_HEADER", readers.plain_header)


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
    binary.write_bytes(b"X_KEY=ok\nX_OWN=hunter2\x00\n")  # CWE-158: a traceback, with the value
    with pytest.raises(ImproperlyConfigured, match=r"line 2, holds a NUL character\.$"):
        Environment(binary)
    binary.write_bytes(b"X_KEY=\xff\n")
    with pytest.raises(ImproperlyConfigured, match=r"X_BINARY_FILE .*/binary: it is not UTF-8"):
        make_env(X_BINARY_FILE=str(binary)).read("X_BINARY", readers.text, None)
    marked.write_bytes(b"\xef\xbb\xbfsecret\r\n")  # as some editors of Windows save it
    assert make_env(X_OTHER_FILE=str(marked)).read("X_OTHER", readers.text) == "secret"


def test_a_file_that_is_not_for_the_process_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_given: str) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / ".env").write_text("X_LEFT_OUT=of the file\n")
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setenv("X_GIVEN", "of the service manager")
    env = Environment(tmp_path / ".env")
    assert env.read("X_GIVEN", readers.text) == "of the service manager"
    with pytest.raises(ImproperlyConfigured, match="X_LEFT_OUT is not set"):
        env.read("X_LEFT_OUT", readers.text, None)
    assert ".env is left out: Permission denied" in caplog.text


def test_a_database_url_with_a_bare_password_is_named_and_not_repeated(make_env: MakeEnv) -> None:
    for password in ("hunter/2", "hunter?2"):
        with pytest.raises(ImproperlyConfigured, match=r"X_DB must be a URL .* %2F") as error:
            make_env(X_DB=f"postgres://me:{password}@db/name").read("X_DB", readers.database)
        assert "hunter" not in str(error.value)
        assert error.value.__suppress_context__
    with pytest.raises(ImproperlyConfigured, match="X_DB must be a URL"):
        make_env(X_DB="sqlite:db.sqlite3").read("X_DB", readers.database)  # "b.sqlite3" otherwise


def test_hosts_are_names_without_scheme_and_port(make_env: MakeEnv) -> None:
    right = "registry.example,.example.org,[2001:db8::1],10.0.0.1,*,my_host"
    assert make_env(X_HOSTS=right).read("X_HOSTS", readers.hosts) == right.split(",")
    for wrong in (
        "https://registry.example",
        "registry.example:8443",
        "a.example/x",
        "2001:db8::1",
    ):
        with pytest.raises(ImproperlyConfigured, match="without https:// and without a port"):
            make_env(X_HOSTS=f"a.example,{wrong}").read("X_HOSTS", readers.hosts)
    with pytest.raises(
        ImproperlyConfigured, match=r"'\*\.b\.example' is not one: write \.b\.example\."
    ):
        make_env(X_HOSTS="a.example,*.b.example").read("X_HOSTS", readers.hosts)


def test_processes_of_a_server_do_not_read_the_file_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that takes the place of another would have other settings than those beside it."""
    (tmp_path / ".env").write_text("X_LATER=added while the server ran\nnonsense\n")
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    monkeypatch.setenv("X_GIVEN", "when it was started")
    env = Environment(tmp_path / ".env")
    assert env.read("X_LATER", readers.text) == ""
    assert env.read("X_GIVEN", readers.text) == "when it was started"
