"""Each variable with values that people write by mistake: one sentence, and nothing is begun."""

import os
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from authsite import checks
from authsite.env import Environment
from authsite.readers import Reader
from authsite.settings import env
from tests.support.commands import python
from tests.support.environment import EXAMPLE, NAMES, NOT_SET

pytestmark = pytest.mark.once(on="sqlite")

PROJECT = Path(__file__).parent.parent.parent
PEPPER = "bmV3ZXN0IHBlcHBlciBmb3IgdGVzdHMsIDMyIGJ5dGVz"
# What each test begins with: the required variables, and those without which others are not read.
RIGHT = NOT_SET | {
    "SECRET_KEY": "x" * 50,
    "PEPPERS": f"a:{PEPPER}",
    "TRUSTED_PROXIES": "10.0.0.1",
    "OIDC_ISSUER": "https://id.example.com/realm",
    "OIDC_CLIENT_ID": "authsite",
}

ANYTHING: list[str] = []  # a secret, or a name that others choose: nothing is wrong with it
TEXT = ['"quoted"', "'quoted'"]
NUMBER = [
    *("30m", "10s", "-1", "1.5", "nan", "inf", "1e9", "٣", "1,000", "1_000", "+5", "0x10", "many"),
    *("99999999999", "9" * 5000, '"8"', "5,", "8 # eight", "tcp://10.0.0.1:80"),
]
FLAG = ["ture", "maybe", "2", "'on'", "on # yes", "on,", "\uff4f\uff4e"]
NETWORKS = [
    *("10.0.0.1/8", "10.0.0.0/33", "300.0.0.0/8", "registry.example", "10.0.0.0/٨", "::1/129"),
    *(
        "https://10.0.0.1",
        "10.0.0.1:80",
        "10.0.0.0/8;::1",
        "10.0.0.0/8 ::1",
        "10.0.0.0/-1",
        '"::1"',
    ),
]
HEADER = ["X Header", "X_Header", "ClientCert:", "Ünicode", "a,b", "-", '"X"']
PLAIN_HEADER = [*HEADER, "Remote-User"]
ROLES = ["Viewer", "=Viewer", "viewers=", "a=b;c", "'a=b'"]
BASE = ["people", "=people", "ldap://a", '"ou=people"']
ATTRIBUTE = ["mail address", "naïve", "(uid=a)", "uid,mail", "'uid'"]
DATABASE = [
    *("hunter2", "mysql://me:hunter2@db/name", "foo://", "postgres:/me:hunter2@db/name", "://"),
    *("postgres://me:hunter2@db", "postgres://me:hunter2@db/", "postgres://me:hunter2@/"),
    *("postgres://me:hunter2@db:0/n", "postgres://me:hunter2@db:70000/n"),
    *("postgres://me:hunter2@db:abc/n", "postgres://me:hunter2@db:٣/n", "postgres://me:1@a..b/n"),
    *("postgres://me:hunter/2@db/n", "postgres://me:12/hunter2@db/n", "postgres://me:1?2@db/n"),
    *("postgres://me:hunter2@a,/n", "postgres://me:hunter2@a:0,b/n", "postgres://me@a,b:x/n"),
    *("postgres://me:hunter2@db/n?ssl_mode=require", "'postgres://me:hunter2@db/n'"),
]
SQLITE = [
    *("sqlite://db.sqlite3", "sqlite://", "sqlite:///", "sqlite:db.sqlite3"),
    *("sqlite:////a#b", "sqlite:////a?timeout=5s", "sqlite:////dev/full"),
]
CACHE = [
    *("foo://", "hunter2", "rediscache://", "rediscache:", "valkey://cache", "memcache://cache"),
    *("rediscache://:hunter2@cache:0/0", "rediscache://:hunter2@cache:70000/0", "redis://a..b"),
    *("rediscache://:hunter2@cache:abc", "rediscache://cache/hunter2", "rediscache://:a/b@cache"),
    *(
        "dbcache://",
        "dbcache://a b",
        "dbcache://a/b",
        "filecache://a",
        "filecache://",
        "redis://a:٣",
    ),
    '"rediscache://cache"',
]
WEB = [
    *("id.example.com", "http://id.example.com", "ftp://localhost", "https://", "https:///realm"),
    *(
        "https://a..b",
        "https://a:0",
        "https://a:70000",
        "https://a:abc",
        "https://a/?q",
        "https://[",
    ),
    *("https://user@a/", "https://a/ b", "https://-a/", "https://300.1.1.1/", "'https://a/'"),
]
HOST = ["a..b", "-a", "a_b-", "a b", "https://a", "a:80", "300.1.1.1", "[::1]", "'a'", "a" * 64]
WRONG: dict[str, list[str]] = {
    "SECRET_KEY": ["", "  "],
    "PEPPERS": ["", "a", f"a:{PEPPER},", f"a:{PEPPER},a:{PEPPER}", "a:c2hvcnQ=", f'"a:{PEPPER}"'],
    "ALLOWED_HOSTS": [
        "https://a",
        "a:80",
        "a/b",
        "*.a",
        "::1",
        "a;b",
        "a b",
        '"a"',
        "bücher.example",
    ],
    "BACKEND_NETWORKS": NETWORKS,
    "TRUSTED_PROXIES": NETWORKS,
    "FORWARDED_FOR_HEADER": HEADER,
    "CLIENT_CERT_HEADER": HEADER,
    "JWT_SIGNING_KEYS": ["a", "a:AAAA", "a:!", ":AAAA", '"a:AAAA"'],
    "JWT_MAX_SECONDS": ["0", *NUMBER],
    "DATABASE_URL": [*DATABASE, *SQLITE],
    "ANSWERS_URL": [*DATABASE, *SQLITE, "sqlite:////standby.sqlite3", "postgres://standby/n"],
    "ANSWERS_LEASE": ["0", *NUMBER],
    "CONFIRM_SECONDS": NUMBER,
    "DATABASE_POOLER": FLAG,
    "PREPARED_STATEMENTS": FLAG,
    "CACHE_URL": CACHE,
    "EVIDENCE_INTERVAL": NUMBER,
    "JOURNAL": FLAG,
    "HTTPS": FLAG,
    "CSRF_TRUSTED_ORIGINS": [
        *("registry.example", "https://a/", "https://a/b", "ftp://a", "https://", "https://a:0"),
        *("https://a:70000", "https://a..b", "https://*", "https://u@a", "'https://a'", "null"),
    ],
    "DEBUG": FLAG,
    "LOG_LEVEL": ["loud", "15", "'INFO'", "INFO,"],
    "LOG_FORMAT": ["xml", "'json'", "json,"],
    "API_RATE": NUMBER,
    "STAFF_SECOND_FACTOR": ["requird", "on", '"required"', "required,", "true"],
    "STAFF_LOGIN_FAILURES": ["0", *NUMBER],
    "STAFF_LOCKOUT_MINUTES": ["0", *NUMBER],
    "STAFF_IDLE_MINUTES": ["0", *NUMBER],
    "STAFF_SESSION_HOURS": ["0", *NUMBER],
    "STAFF_CONFIRM_MINUTES": ["0", *NUMBER],
    "OIDC_ISSUER": WEB,
    "OIDC_CLIENT_ID": ["", *TEXT],
    "OIDC_CLIENT_SECRET": ANYTHING,
    "OIDC_SCOPES": ["profile", "openid,profile", "öpenid", "openid öffentlich", '"openid"'],
    "OIDC_OTHER_HOSTS": ["https://a", "a/b", "a:0", "a:70000", "a:b", "u@a", "a b", "a..b", '"a"'],
    "OIDC_ROLES_CLAIM": TEXT,
    "OIDC_ROLES": ROLES,
    "OIDC_NAME_CLAIM": TEXT,
    "OIDC_ACR": TEXT,
    "OIDC_CONFIRM_ACR": TEXT,
    "OIDC_SECOND_FACTOR": TEXT,
    "OIDC_LABEL": TEXT,
    "LDAP_URL": [
        *(
            "directory",
            "https://a",
            "ldap://",
            "ldaps://a ldap://b",
            "ldaps://a:0",
            "ldaps://a:70000",
        ),
        *(
            "ldaps://a:abc",
            "ldaps://a,ldaps://b",
            "ldaps://a..b",
            "'ldaps://a'",
            "ldapi:/// ldaps://a",
        ),
    ],
    "LDAP_START_TLS": FLAG,
    "LDAP_CA_FILE": ["/none/ca.pem", "/", "ca.pem", "'/etc/passwd'"],
    "LDAP_BIND_DN": TEXT,
    "LDAP_BIND_PASSWORD": ANYTHING,
    "LDAP_USER_BASE": BASE,
    "LDAP_USER_FILTER": [
        "(uid=kim)",
        "(uid=%s)",
        "(uid=%(name)s)",
        "(uid=%(user)s",
        "uid=%(user)d",
    ],
    "LDAP_NAME_ATTRIBUTE": ATTRIBUTE,
    "LDAP_ID_ATTRIBUTE": ATTRIBUTE,
    "LDAP_GROUP_BASE": BASE,
    "LDAP_GROUP_TYPE": ["groups", "'posixgroup'", "posixgroup,"],
    "LDAP_NESTED_GROUPS": FLAG,
    "LDAP_ROLES": ROLES,
    "PROXY_USER_HEADER": PLAIN_HEADER,
    "PROXY_GROUPS_HEADER": PLAIN_HEADER,
    "PROXY_ROLES": ROLES,
    "BREAK_GLASS_ACCOUNTS": TEXT,
    "HOST": [
        "256.0.0.1",
        "[::1]",
        "127.0.0.1:80",
        "http://127.0.0.1",
        "'::1'",
        "\u0661.0.0.1",
    ],
    "METRICS_PORT": ["65536", *NUMBER],
    "METRICS_HOST": HOST,
    "METRICS_NETWORKS": NETWORKS,
    "DRAIN_SECONDS": ["3601", "3600.1", *(one for one in NUMBER if one != "1.5")],
    "PORT": ["0", "65536", *NUMBER],
    "WORKERS": ["0", *NUMBER],
    "THREADS": ["0", *NUMBER],
    "WEBHOOK_HOSTS": [*(one for one in HOST if one != "[::1]"), "*", ".a.example", "[::1]"],
    "WEBHOOK_NETWORKS": NETWORKS,
    "WEBHOOK_HTTP": FLAG,
    "EVENT_DAYS": ["3", "36501", *NUMBER],
    "EVENT_WAITERS": ["513", *NUMBER],
    "DELIVER": FLAG,
}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that reads the settings with one variable set."""

    def read(**given: str) -> dict[str, Any]:
        for name, value in (RIGHT | given).items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(PROJECT / "authsite/settings.py"))

    return read


def taken(read: Any, name: str, value: str) -> None:
    read(**{name: value})
    pytest.fail(f"{name}={value} was taken")


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_value_is_one_sentence(name: str, read: Any) -> None:
    masked = {value: re.sub(r"//[^/\s]*@", "//…@", value) for value in WRONG[name]}
    secrets = read()["env"].secrets
    for value in WRONG[name]:
        with pytest.raises(ImproperlyConfigured) as caught:
            taken(read, name, value)
        said = str(caught.value)
        assert re.match(rf"{name}\b.* (must|is not set|cannot be read)", said), said
        assert "\n" not in said
        assert len(said) < 500
        if name in secrets:
            assert "hunter2" not in said
            assert PEPPER not in said
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__ or caught.value.__context__ is None
        elif value.strip():
            whole = repr(masked[value][:90])[1:-1]
            assert any(one in said for one in (whole, repr(masked[value].split(",")[0]))), said


def test_what_is_read_is_what_is_documented(read: Any) -> None:
    assert set(WRONG) == set(NAMES), "this table and .env.example list the same variables"
    assert len(NAMES) == len(set(NAMES)), "each stands in one place"
    assert read()["env"].names == set(NAMES)


def test_numbers_are_documented_with_their_bounds_and_defaults(
    read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: dict[str, str] = {}
    defaults: dict[str, str] = {}
    read_one = Environment.read

    def noted(self: Environment, name: str, reader: Reader[Any], *default: Any) -> Any:
        if found := re.search(r"at least (\d+) and at most (\d+)$", reader.must):
            bounds[name] = f"{found[1]} to {found[2]}"
            defaults[name] = str(*default)
        return read_one(self, name, reader, *default)

    monkeypatch.setattr(Environment, "read", noted)
    made = read(**dict.fromkeys(("OIDC_ISSUER", "OIDC_CLIENT_ID"), ""))
    assert made["PORT"] == 17217
    paragraph = ""
    for line in EXAMPLE.read_text("utf-8").splitlines():
        is_text = line.startswith("# ")
        paragraph = "" if not line else paragraph + line[1:] if is_text else paragraph
        if (found := re.match(r"#?([A-Z_]+)=(.*)", line)) and found[1] in bounds:
            assert bounds.pop(found[1]) in paragraph, line
            assert (found[2] or "0") == defaults[found[1]], line
    assert not bounds


@pytest.mark.parametrize(("https", "prefix"), [("on", "__Host-"), ("off", "")])
def test_no_other_host_sets_the_cookies_of_staff(https: str, prefix: str, read: Any) -> None:
    """OWASP ASVS 4.0.3, 3.4.4; over plain HTTP browsers would refuse cookies of that name."""
    settings = read(HTTPS=https)
    for kind, usual in (("SESSION", "sessionid"), ("CSRF", "csrftoken")):
        name = settings.get(f"{kind}_COOKIE_NAME", usual)
        assert (name, settings[f"{kind}_COOKIE_SECURE"]) == (prefix + usual, https == "on")


SAMPLES = {  # what is documented as an example, not as the default
    *("OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_LABEL", "LDAP_URL", "LDAP_USER_BASE"),
    *("LDAP_GROUP_BASE", "PROXY_USER_HEADER", "PROXY_GROUPS_HEADER"),
}


def test_what_is_documented_is_the_default(read: Any) -> None:
    documented = re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE.read_text("utf-8"), re.MULTILINE)
    given = {name: value for name, value in documented if name not in SAMPLES}
    assert len(given) > 50
    defaults, said = (read(**values) for values in (dict.fromkeys(given, ""), given))
    for name in filter(str.isupper, defaults):
        assert repr(said[name]) == repr(defaults[name]), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OIDC_CLIENT_SECRET", "$HOME"),
        ("OIDC_CLIENT_SECRET", '"quoted"'),
        ("LDAP_BIND_PASSWORD", "a$b # c"),
        ("OIDC_LABEL", "the “company” of O'Brien"),
        ("METRICS_HOST", "localhost"),
        ("METRICS_HOST", "bücher.example"),
        ("HOST", "::"),
        ("HOST", "x86_64-conda-linux-gnu"),
        ("DRAIN_SECONDS", "0.5"),
        ("PORT", "65535"),
        ("EVENT_WAITERS", "0"),
        ("LDAP_BIND_DN", "admin@example.com"),
    ],
)
def test_a_right_value_is_taken_as_it_is(name: str, value: str, read: Any) -> None:
    assert str(read(**{name: value})[name]) == value


@pytest.mark.parametrize(
    ("url", "host", "port", "name", "password"),
    [
        ("postgres://me:a$b@db/n", "db", "", "n", "a$b"),
        ("postgres://me:a%2Fb%3F@db:6432/n?sslmode=require", "db", 6432, "n", "a/b?"),
        ("postgres://me:p@db:/n", "db", "", "n", "p"),
        ("postgres:///n", "", "", "n", ""),
        ("postgres://me@[::1]/n", "::1", "", "n", ""),
        ("postgres://me@db.internal./n", "db.internal.", "", "n", ""),
        ("postgres:////run/postgresql/n", "/run/postgresql", "", "n", ""),
        ("postgres:///?service=registry", "", "", "", ""),
        ("postgres://?service=registry", "", "", "", ""),  # as libpq takes it
        ("postgres://db?service=registry&connect_timeout=3", "db", "", "", ""),
        ("postgres://db/n?ssl_min_protocol_version=tlsv1.3&connect_timeout=-1", "db", "", "n", ""),
        ("sqlite:////data/a.db?timeout=7", "", "", "/data/a.db", ""),
    ],
)
def test_a_right_url_of_a_database_is_taken(
    url: str, host: str, port: object, name: str, password: str, read: Any
) -> None:
    found = read(DATABASE_URL=url)["DATABASES"]["default"]
    assert [found[key] for key in ("HOST", "PORT", "NAME", "PASSWORD")] == [
        host,
        port,
        name,
        password,
    ]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sslmode=foo", "its sslmode is none of allow, disable, prefer, require, verify-ca"),
        ("sslmode=Require", "its sslmode is none of"),
        ("target_session_attrs=master", "its target_session_attrs is none of"),
        ("ssl_min_protocol_version=1.2", "its ssl_min_protocol_version is none of TLSv1, TLSv1.1"),
        ("connect_timeout=abc", "its connect_timeout is no whole number"),
        ("keepalives_idle=1.5", "its keepalives_idle is no whole number"),
        ("tcp_user_timeout=3s", "its tcp_user_timeout is no whole number"),
        ("prepare_threshold=never", "its prepare_threshold is no whole number"),
    ],
)
def test_an_option_that_libpq_would_refuse_stops_the_start(
    query: str, said: str, read: Any
) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL must be") as refused:
        read(DATABASE_URL=f"postgres://me:hunter2@db/n?{query}")
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("rediscache://:a%2Fb@cache:6379/0", "redis://:a%2Fb@cache:6379/0"),
        ("rediss://cache", "rediss://cache"),
        ("redis://a/1,", None),
        ("rediscache:///run/redis.sock", "unix:///run/redis.sock"),
        ("rediscache://:secret@/run/redis.sock", "unix://:secret@/run/redis.sock"),
        ("rediscache://name:secret@/", None),
        ("dbcache://authsite_cache", "authsite_cache"),
        ("dbcache://authsite-cache", "authsite-cache"),
        ("filecache:///var/cache/authsite", "/var/cache/authsite"),
        ("locmemcache://", ""),
    ],
)
def test_a_right_url_of_a_cache_is_taken(url: str, location: str | None, read: Any) -> None:
    if location is None:
        with pytest.raises(ImproperlyConfigured):
            read(CACHE_URL=url)
    else:
        config = read(CACHE_URL=url)["CACHES"]["default"]
        assert config["LOCATION"] == location
        if location.startswith(("redis", "unix")):  # a machine waits 5 s in all
            assert config["OPTIONS"] == {
                "socket_connect_timeout": 0.5,
                "socket_timeout": 0.5,
                "pool_class": "devices.database.cache.ConnectionPool",
            }


def test_lists_take_a_trailing_comma_and_space(read: Any) -> None:
    made = read(
        BACKEND_NETWORKS=" 10.0.0.0/8, ::1 ,",
        CSRF_TRUSTED_ORIGINS="https://Registry.example,https://*.b.example:8443,",
        WEBHOOK_HOSTS="a.example.,*.b.example,::1,",
        OIDC_OTHER_HOSTS="a.example,b.example:8443,",
    )
    assert len(made["BACKEND_NETWORKS"]) == 2
    assert made["CSRF_TRUSTED_ORIGINS"] == ["https://registry.example", "https://*.b.example:8443"]
    assert made["WEBHOOK_HOSTS"] == ["a.example", "*.b.example", "::1"]
    assert made["OIDC_OTHER_HOSTS"] == ["a.example", "b.example:8443"]


def test_a_name_that_stands_twice_in_the_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HTTPS=on\n\nexport HTTPS=hunter2\n")
    with pytest.raises(ImproperlyConfigured, match=r"line 3, sets HTTPS, which line 1") as caught:
        Environment(tmp_path / ".env")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("words", [["check"], ["migrate"], ["serve"], ["expiring"]])
def test_the_start_stops_before_anything_is_begun(words: list[str], tmp_path: Path) -> None:
    database = tmp_path / "db.sqlite3"
    environment = (
        RIGHT
        | {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(tmp_path)}
        | {"DATABASE_URL": f"sqlite:///{database}", "STAFF_IDLE_MINUTES": "99999999999"}
    )
    started = python(PROJECT / "manage.py", *words, env=environment, cwd=tmp_path)
    assert started.returncode == 2
    assert started.stdout == ""
    assert started.stderr == (
        "configuration error: STAFF_IDLE_MINUTES must be a whole number of minutes, at least 1 and "
        "at most 525600; it is '99999999999'.\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_misspelt_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAFF_SECOND_FACTR", "required")
    monkeypatch.setenv("ALLOWED_HOST_FILE", "/run/hosts")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    told = [one.msg for one in checks.variables_have_their_names()]
    assert [one.split()[0] for one in told] == ["ALLOWED_HOST", "STAFF_SECOND_FACTR"]
    assert "STAFF_SECOND_FACTOR has nearly the same" in told[1]
    assert "STAFF_SECOND_FACTOR" in env.names


def test_a_file_of_sqlite_that_cannot_be_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(path: object) -> list[str]:
        place = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
        monkeypatch.setitem(settings.DATABASES, "default", place)
        return [str(one.id) for one in checks.the_database_has_a_folder()]

    assert told(tmp_path / "db.sqlite3") == []
    assert told(":memory:") == []
    for wrong in (tmp_path, tmp_path / "gone" / "db.sqlite3"):
        assert told(wrong) == ["authsite.E002"]
