"""What the values of variables must be, and what is made of them.

django-environ reads URLs of databases and caches. Values are ours to read: its readers replace a
value that begins with `$` by another variable, and take `maybe` for False.
"""

import base64
import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import SplitResult, urlsplit

import environ
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from django.core.exceptions import ImproperlyConfigured
from psycopg import ProgrammingError
from psycopg.conninfo import make_conninfo

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

MAX_PORT = 65_535
MAX_SHOWN = 100  # characters of a wrong value
PEPPER_MIN_BYTES = 32
IPV4_MAPPED = IPv6Network("::ffff:0:0/96")
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
ACCOUNT = re.compile(r"//[^/\s]*@")  # in a URL: a password may stand there
KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")
WHOLE = re.compile(r"[0-9]{1,18}\Z")
DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?\Z")
LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,254}}\Z)({LABEL}\.)*(?![0-9]+\.?\Z){LABEL}\.?\Z")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?\Z")
HOST_PATTERN = re.compile(r"(\*|\[[0-9A-Fa-f:.]+\]|\.?[A-Za-z0-9_-][A-Za-z0-9._-]*)\Z")
TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}\Z")  # of a database
POSTGRES_PORT = "5432"
POSTGRES = frozenset({"postgres", "postgresql", "psql", "pgsql"})
# What Django takes in a URL's query beside what libpq does.
POSTGRES_OPTIONS = frozenset(
    {"assume_role", "isolation_level", "pool", "prepare_threshold", "server_side_binding"}
)
# What libpq judges as it connects, or when it sets up a connection: then no database would answer.
TLS_VERSIONS = frozenset({"", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
POSTGRES_WORDS = {
    "channel_binding": frozenset({"disable", "prefer", "require"}),
    "gssencmode": frozenset({"disable", "prefer", "require"}),
    "load_balance_hosts": frozenset({"disable", "random"}),
    "ssl_max_protocol_version": TLS_VERSIONS,
    "ssl_min_protocol_version": TLS_VERSIONS,
    "sslcertmode": frozenset({"disable", "allow", "require"}),
    "sslmode": frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}),
    "sslnegotiation": frozenset({"postgres", "direct"}),
    "target_session_attrs": frozenset(
        {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"}
    ),
}
POSTGRES_NUMBERS = frozenset(
    {"connect_timeout", "prepare_threshold", "tcp_user_timeout"}
    | {"keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"}
)
REDIS = ("rediscache", "redis", "rediss")
CACHES = (*REDIS, "dbcache", "filecache", "locmemcache", "dummycache")


class Reader(NamedTuple, Generic[T_co]):
    """What a value must do, in words, and what is made of it.

    `parse` gets "" where a variable may be left out and is; it raises ValueError, with its reason
    or without one. `how` says how to mend a value, or how to make one. That of a secret is not
    repeated, nor is a reason but that of a FaultError.
    """

    must: str
    parse: Callable[[str], T_co]
    how: str = ""
    is_secret: bool = False


class FaultError(ValueError):
    """What is wrong with a value, in words that may be shown though the value is a secret."""


class ItemError(FaultError):
    """What is wrong with an item of a value, which it names in place of the whole value."""


def reader(
    must: str, *, how: str = "", is_secret: bool = False
) -> Callable[[Callable[[str], T]], Reader[T]]:
    """Return a decorator that makes a reader of the function that parses."""
    return lambda parse: Reader(must, parse, how, is_secret)


def demand(condition: object, fault: str = "") -> None:
    if not condition:
        raise FaultError(fault)


def shown(value: str) -> str:
    """Return the beginning of a wrong value for a message, without a password in a URL."""
    value = ACCOUNT.sub("//…@", value)
    return repr(value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…")


# --- Texts and numbers ----------------------------------------------------------------------

text = Reader("be set", str)
secret = Reader("be set", str, is_secret=True)


def such(must: str, test: Callable[[str], object], *, how: str = "") -> Reader[str]:
    """Return the reader of a text of which a test is true; `test` is asked about "", too."""

    def parse(value: str) -> str:
        demand(test(value))
        return value

    return Reader(must, parse, how)


def one_of(choices: Mapping[str, T]) -> Reader[T]:
    """Return the reader of one of these words, in whatever capitals: of what it stands for."""

    def parse(value: str) -> T:
        demand(value.lower() in choices)
        return choices[value.lower()]

    return Reader(f"be one of {', '.join(choices)}", parse)


def choice(*choices: str) -> Reader[str]:
    return one_of({word.lower(): word for word in choices})


flag = one_of(
    dict.fromkeys(("on", "true", "yes", "1"), True)
    | dict.fromkeys(("off", "false", "no", "0"), False)
)
level = choice(*logging.getLevelNamesMapping())


def number(minimum: int, maximum: int, unit: str = "") -> Reader[int]:
    def parse(value: str) -> int:
        demand(WHOLE.match(value) and minimum <= int(value) <= maximum)
        return int(value)

    of = f" of {unit}" if unit else ""
    return Reader(f"be a whole number{of}, at least {minimum} and at most {maximum}", parse)


def seconds(maximum: int) -> Reader[float]:
    """Return the reader of a number of seconds, with a decimal point or without."""

    def parse(value: str) -> float:
        demand(DECIMAL.match(value) and float(value) <= maximum)
        return float(value)

    return Reader(f"be a number of seconds, at least 0 and at most {maximum}", parse)


readable_file = such(
    "be a file that can be read",
    lambda path: not path or (os.access(path, os.R_OK) and Path(path).is_file()),
)


# --- Lists: items with commas between, empty ones left out -----------------------------------


def split(value: str) -> list[str]:
    return [word for item in value.split(",") if (word := item.strip())]


def listed(what: str) -> Callable[[Callable[[str], T]], Reader[list[T]]]:
    """Return a decorator that makes a reader of lists of the function that parses one item."""

    def decorate(parse: Callable[[str], T]) -> Reader[list[T]]:
        must = f"list {what}, separated by commas"
        return Reader(must, lambda value: [_parsed(word, parse) for word in split(value)])

    return decorate


def _parsed(word: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(word)
    except ValueError as error:
        reason = f": {error}" if str(error) else ""
        raise ItemError(f"{shown(word)} is not one{reason}") from None


words = Reader("be words, separated by commas", split)


@listed("host names such as registry.example or [2001:db8::1], without https:// and without a port")
def hosts(host: str) -> str:
    """Take host names as Django's ALLOWED_HOSTS does."""
    demand(HOST_PATTERN.match(host), f"write {host[1:]}" if host.startswith("*.") else "")
    return host


@listed("hosts such as api.example.com or *.example.com, without https:// and without a port")
def called_hosts(host: str) -> str:
    """Take hosts, `*.example.com` among them for all names below one."""
    is_below = is_host(host.removeprefix("."))
    demand(is_host(host.removeprefix("*.")), f"write *{host}" if is_below else "")
    return host.removesuffix(".")


@listed("hosts such as id.example.com or id.example.com:8443")
def hosts_with_ports(host: str) -> str:
    split_url(f"https://{host}", ("https",))
    demand(HOST.match(host))
    return host


@listed("origins such as https://registry.example, without a path")
def origins(origin: str) -> str:
    """Take origins as browsers name them: a scheme, a host and perhaps a port."""
    scheme, _, host = origin.partition("://")
    host = host.removeprefix("*.")
    split_url(f"{scheme}://{host}", ("https", "http"))
    demand(HOST.match(host), f"write {origin.rstrip('/')}" if origin.endswith("/") else "")
    return origin.lower()


def network(text: str) -> IPv4Network | IPv6Network:
    """Return a network (CIDR) that callers can be in; raises ValueError, or FaultError to say why.

    An IPv4 address is compared as such, however it came, and without the link it came by.
    """
    found = ip_network(text, strict=False)
    if isinstance(found, IPv6Network):
        if found.network_address.scope_id is not None:
            raise FaultError("a network has no link: write it without % and what follows")
        if found.subnet_of(IPV4_MAPPED):
            mapped, length = found.network_address.ipv4_mapped, found.prefixlen - 96
            raise FaultError(f"it is one of IPv4; write {mapped}/{length}")
    try:
        return ip_network(text)
    except ValueError:
        raise FaultError(f"it has host bits set; write {found}") from None


networks = listed("networks such as 10.0.0.0/8")(network)


# --- Hosts and addresses --------------------------------------------------------------------


def is_host(name: str) -> bool:
    """Return whether a text is an IP address or could be the name of a host."""
    with suppress(ValueError):
        ip_address(name)
        return True
    with suppress(UnicodeError):
        name = name.encode("idna").decode()
    return HOST_NAME.match(name) is not None


def split_url(url: str, schemes: Collection[str]) -> SplitResult:
    """Return the parts of a URL with one of these schemes, a host and perhaps a port.

    Raises ValueError for any other.
    """
    parts = urlsplit(url)
    demand_scheme(parts.scheme, schemes)
    demand(is_host(parts.hostname or ""), "it names no host")
    demand(parts.port != 0 and url.isprintable() and " " not in url)
    return parts


def demand_scheme(scheme: str, schemes: Collection[str]) -> None:
    offered = ", ".join(f"{one}://" for one in schemes)
    demand(scheme in schemes, f"it begins with none of {offered}")


host = such("be an IP address or the name of a host", is_host)


@reader("be an address such as https://id.example.com/realm, without a query")
def web_address(value: str) -> str:
    """Take an https address, or none; plain http is for this machine only."""
    if value:
        parts = split_url(value, ("https", "http"))
        is_safe = parts.scheme == "https" or parts.hostname in THIS_MACHINE
        demand(is_safe, "plain http is for this machine only")
        demand(not (parts.query or parts.fragment) and parts.username is None)
    return value


header = such(
    "be the name of a header, of letters, digits and hyphens",
    re.compile(r"([A-Za-z][A-Za-z0-9-]*)?\Z").match,
)


@reader("be the name of a header, of letters and digits, such as RemoteUser")
def plain_header(value: str) -> str:
    """Take the name of a header, or none, which has one spelling only.

    A server hands `X-User` and `X_User` on as one; a proxy that sets the first may let clients
    send the second.
    """
    demand("-" not in value, "with a hyphen, a client could forge it by an underscore")
    return header.parse(value)


# --- Sign-on --------------------------------------------------------------------------------

# Words of OAuth (RFC 6749, 3.3).
scopes = such(
    "be scopes with spaces between, one of them openid",
    re.compile(r"(?=(.* )?openid( |\Z))[!#-\[\]-~]+( +[!#-\[\]-~]+)*\Z").match,
)


@reader("be a list of roles as VALUE=ROLE;VALUE=ROLE")
def roles(value: str) -> dict[str, tuple[str, ...]]:
    """Take the roles that each value of a claim, or each group, brings.

    The last equals sign divides them: the names of groups in a directory have some, too.
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in filter(None, map(str.strip, value.split(";"))):
        brings, _, role = (part.strip() for part in word.rpartition("="))
        demand(brings and role, f"{shown(word)} is no VALUE=ROLE")
        found[brings] = (*found.get(brings, ()), role)
    return found


@reader("be an address such as ldaps://ldap.example.com; several, with spaces between, begin alike")
def directory(value: str) -> str:
    """Take the addresses of a directory (LDAP), or none; ldapi:// is a socket of this machine."""
    addresses = value.split()
    if not {urlsplit(one).scheme for one in addresses} <= {"ldapi"}:
        demand(len({split_url(one, ("ldaps", "ldap")).scheme for one in addresses}) == 1)
    return value


def starts_tls(addresses: str, *, wanted: bool) -> bool:
    """Return whether a directory at these addresses (LDAP_URL) starts TLS.

    Raises ImproperlyConfigured where passwords would travel in clear: `wanted` may be False for
    this machine only.
    """
    parts = [urlsplit(one) for one in addresses.split()]
    is_plain = "ldap" in {one.scheme for one in parts}
    if is_plain and not wanted and not {one.hostname for one in parts} <= THIS_MACHINE:
        raise ImproperlyConfigured(
            "LDAP_URL without TLS sends passwords in clear: LDAP_START_TLS may be off for an "
            f"address of this machine only; LDAP_URL is {shown(addresses)}."
        )
    return is_plain and wanted


directory_base = such(
    "be a name such as ou=people,dc=example,dc=com",
    re.compile("([A-Za-z0-9][A-Za-z0-9.-]* *=.+)?\\Z").match,
    how="It is a name such as ou=people,dc=example,dc=com.",
)
attribute = such("be an attribute", re.compile("([A-Za-z0-9][A-Za-z0-9.;-]*)?\\Z").match)


@reader("be a filter such as (uid=%(user)s)")
def directory_filter(value: str) -> str:
    """Take a filter of LDAP, which holds the name that is looked for as `%(user)s`."""
    names: defaultdict[str, str] = defaultdict(lambda: "name")
    demand("%(user)s" in value and value % names and value.count("(") == value.count(")"))
    demand(names.keys() == {"user"})  # what the template looked up
    return value


# --- Keys -----------------------------------------------------------------------------------


def by_id(items: Iterable[str], parse: Callable[[str], T]) -> dict[str, T]:
    """Return what entries `id:base64` hold, by id."""
    found: dict[str, T] = {}
    for item in items:
        key_id, _, encoded = item.strip().partition(":")
        key = parse(encoded)
        demand(KEY_ID.match(key_id))
        demand(key_id not in found, f"it names {key_id!r} twice")
        found[key_id] = key
    return found


@reader(
    f"be entries ID:BASE64 with at least {PEPPER_MIN_BYTES} bytes each, separated by commas",
    how="It holds the keys that digests of secrets are made with, newest first, as "
    "ID:BASE64[,ID:BASE64…]. Make one with: "
    "python3 -c \"import base64,os,time; print(time.strftime('%Y%m-')+os.urandom(3).hex()+':'"
    '+base64.urlsafe_b64encode(os.urandom(32)).decode())"',
    is_secret=True,
)
def peppers(value: str) -> dict[str, bytes]:
    """Take the peppers by their id, newest first."""

    def parse(encoded: str) -> bytes:
        pepper = base64.b64decode(encoded, altchars=b"-_", validate=True)
        demand(len(pepper) >= PEPPER_MIN_BYTES)
        return pepper

    return by_id(value.split(","), parse)


@reader(
    "be entries ID:BASE64 with an Ed25519 key each, separated by commas",
    how="Make one with: manage.py make_jwt_key",
    is_secret=True,
)
def signing_keys(value: str) -> dict[str, Ed25519PrivateKey]:
    """Take the private keys that tokens are signed with by their id, the first one in use.

    Each is an Ed25519 key in PKCS #8 (DER); there may be none.
    """

    def parse(encoded: str) -> Ed25519PrivateKey:
        key = load_der_private_key(base64.b64decode(encoded, validate=True), None)
        if isinstance(key, Ed25519PrivateKey):
            return key
        raise FaultError

    return by_id(split(value), parse)


# --- Databases and caches -------------------------------------------------------------------


@reader(
    "be a URL such as postgres://user:password@host:5432/name or sqlite:////path, in which "
    "characters such as / and ? in a password are written as %2F and %3F",
    is_secret=True,
)
def database(url: str) -> dict[str, Any]:
    """Return Django's settings of the database that a URL names.

    A PostgreSQL may have several hosts, as libpq takes them: the first that answers as the URL
    wants (`?target_session_attrs=read-write`) is connected to.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in POSTGRES:
        return _postgres(scheme, rest)
    demand(separator and scheme == "sqlite", "it begins with neither postgres:// nor sqlite:///")
    return _sqlite(url, rest)


def _postgres(scheme: str, rest: str) -> dict[str, Any]:
    rest, mark, query = rest.partition("?")
    place, _slash, path = rest.partition("/")
    account, at, listed = place.rpartition("@")
    found = [_host_and_port(one) for one in listed.split(",")] if listed else []
    demand("@" not in path, "an @ follows its host")
    url = f"{scheme}://{account}{at}{'host' if found else ''}/{path}{mark}{query}"
    config: dict[str, Any] = environ.Env.db_url_config(url)
    options = config.get("OPTIONS", {})
    demand(config["NAME"] or "service" in options, "it names no database")
    try:
        make_conninfo(**dict.fromkeys(options.keys() - POSTGRES_OPTIONS, "1"))
    except ProgrammingError:
        raise FaultError("what follows its question mark is no option of libpq") from None
    for name, value in options.items():
        _check_option(name, str(value))
    demand(not found or config["HOST"] == "host")
    if len(found) > 1:
        config["HOST"] = ",".join(name for name, _port in found)
        config["PORT"] = ",".join(port or POSTGRES_PORT for _name, port in found)
    elif found:
        name, port = found[0]
        config["HOST"], config["PORT"] = name, int(port) if port else ""
    return config


def _check_option(name: str, value: str) -> None:
    """Raise FaultError for a value that libpq would refuse at each connection."""
    if words := POSTGRES_WORDS.get(name):
        value = f"TLSv{value[4:]}" if value.lower().startswith("tlsv") else value
        demand(value in words, f"its {name} is none of {', '.join(sorted(words - {''}))}")
    if name in POSTGRES_NUMBERS:
        demand(WHOLE.match(value.removeprefix("-")), f"its {name} is no whole number")


def _host_and_port(place: str) -> tuple[str, str | None]:
    """Return a host, and its port where it has one; raises FaultError."""
    found = HOST.match(place.removesuffix(":") if place.count(":") == 1 else place)
    if found is None or not is_host(found[1].strip("[]")):
        raise FaultError("what stands for its host is none")
    is_port = found[2] is None or 0 < int(found[2]) <= MAX_PORT
    demand(is_port, f"its port is not from 1 to {MAX_PORT}")
    return found[1].strip("[]"), found[2]


def _sqlite(url: str, rest: str) -> dict[str, Any]:
    path, _, _options = rest.partition("?")
    is_path = rest == ":memory:" or (path.startswith("/") and path != "/")
    demand(is_path, "three slashes begin the path of a file, or four from the root")
    demand("#" not in path, "a # in a path is written as %23")
    config: dict[str, Any] = environ.Env.db_url_config(url)
    place = Path(config["NAME"])
    is_special = os.access(place, os.F_OK) and not (place.is_file() or place.is_dir())
    demand(not is_special, "what it names is no file, but a device, a pipe or a socket")
    timeout = config.get("OPTIONS", {}).get("timeout", 0)
    demand(isinstance(timeout, int), "its timeout is no whole number of seconds")
    return config


@reader("be a URL such as rediscache://host:6379/0 or dbcache://TABLE", is_secret=True)
def cache(url: str) -> dict[str, Any]:
    """Return Django's settings of the cache that a URL names."""
    scheme, separator, rest = url.partition("://")
    place, _, path = rest.partition("?")[0].partition("/")
    demand_scheme(scheme if separator else "", CACHES)
    if scheme == "dbcache":
        demand(not path and TABLE.match(place), "it names no table")
    elif scheme == "filecache":
        demand(not place and path, "three slashes begin the path of a folder")
    elif scheme in REDIS and place.rpartition("@")[2]:  # else it is a socket's path
        for one in place.split(","):
            split_url(f"{scheme}://{one}", REDIS)
        is_number = not path or WHOLE.match(path)
        demand(is_number, "what follows its host is not the number of a database")
    elif scheme in REDIS:
        demand(path, "it names no host")
    return dict(environ.Env.cache_url_config(url))
