"""Read the environment strictly: a wrong value stops the start and says how to mend it.

django-environ reads `.env`, the files that `*_FILE` variables name, and URLs of databases and
caches. Values are ours to read: its readers replace a value that begins with `$` by another
variable, and take `maybe` for False.
"""

import base64
import io
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import environ
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from django.core.exceptions import ImproperlyConfigured
from psycopg import ProgrammingError
from psycopg.conninfo import make_conninfo

logger = logging.getLogger("authsite.settings")

PEPPER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*\Z")
PEPPER_MIN_BYTES = 32
WHOLE = re.compile(r"[0-9]{1,18}\Z")
DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?\Z")
QUOTED = re.compile(r"""(["']).*\1\Z""", re.DOTALL)
LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,254}}\Z){LABEL}(\.{LABEL})*\.?\Z")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?\Z")
HOST_PATTERN = re.compile(r"\*|\[[0-9A-Fa-f:.]+\]|\.?[A-Za-z0-9_-][A-Za-z0-9._-]*")
# Words of OAuth's scopes (RFC 6749, 3.3), the first part of a name in a directory, one of its
# attributes, and a table of a database.
SCOPES = re.compile(r"[!#-\[\]-~]+( +[!#-\[\]-~]+)*\Z")
DIRECTORY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]* *=.+\Z")
ATTRIBUTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.;-]*\Z")
TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}\Z")
# As django-environ reads a line of `.env`, which takes quotation marks after a space for the value.
ASSIGNMENT = re.compile(r"""(?:export )?([A-Za-z_0-9]+)=(?!\s+["'])""")
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_PORT = 65_535
ACCOUNT = re.compile(r"//[^/\s]*@")  # in a URL: a password may stand there
MAX_SHOWN = 100  # characters of a wrong value
POSTGRES_PORT = "5432"
POSTGRES = frozenset({"postgres", "postgresql", "psql", "pgsql"})
# What Django takes in a URL's query beside what libpq does.
POSTGRES_OPTIONS = frozenset(
    {"assume_role", "isolation_level", "pool", "prepare_threshold", "server_side_binding"}
)
REDIS = ("rediscache", "redis", "rediss")
CACHE_KINDS = (*REDIS, "dbcache", "filecache", "locmemcache", "dummycache")
T = TypeVar("T")
TRUE = ("on", "true", "yes", "1")
FALSE = ("off", "false", "no", "0")


class FaultError(ValueError):
    """What is wrong with a value, in words that may be shown though the value is a secret."""


def is_host(text: str) -> bool:
    """Return whether a text is an IP address or could be the name of a host."""
    try:
        ip_address(text)
    except ValueError:
        pass
    else:
        return True
    try:
        name = text if text.isascii() else text.encode("idna").decode()
    except UnicodeError:
        return False
    last = name.removesuffix(".").rpartition(".")[2]
    return HOST_NAME.match(name) is not None and not last.isdigit()


def split_url(url: str, schemes: Collection[str]) -> SplitResult:
    """Return the parts of a URL with one of these schemes, a host and perhaps a port.

    Raises ValueError for any other.
    """
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        raise FaultError(_begins_with_none_of(schemes))
    if not is_host(parts.hostname or ""):
        raise FaultError("it names no host")
    if parts.port == 0 or not url.isprintable() or " " in url:
        raise ValueError
    return parts


def starts_tls(addresses: str, *, wanted: bool) -> bool:
    """Return whether a directory at these addresses (LDAP_URL, with spaces between) starts TLS.

    Raises ImproperlyConfigured for what is no such address, and where passwords would travel in
    clear: `wanted` may be False for this machine only.
    """
    found = addresses.split()
    try:
        if {urlsplit(address).scheme for address in found} == {"ldapi"}:  # a socket of this machine
            return False
        parts = [split_url(address, ("ldaps", "ldap")) for address in found]
    except ValueError:
        parts = []
    schemes = {part.scheme for part in parts}
    if schemes not in ({"ldaps"}, {"ldap"}):
        raise ImproperlyConfigured(
            "LDAP_URL must be an address such as ldaps://ldap.example.com; several, with spaces "
            f"between, begin alike; it is {_shown(addresses)}."
        )
    is_plain = schemes == {"ldap"}
    if is_plain and not wanted and not {part.hostname for part in parts} <= THIS_MACHINE:
        raise ImproperlyConfigured(
            "LDAP_URL without TLS sends passwords in clear: LDAP_START_TLS may be off for an "
            f"address of this machine only; LDAP_URL is {_shown(addresses)}."
        )
    return is_plain and wanted


def _begins_with_none_of(schemes: Collection[str]) -> str:
    return f"it begins with none of {', '.join(f'{scheme}://' for scheme in schemes)}"


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror)


def _shown(value: str) -> str:
    value = ACCOUNT.sub("//…@", value)
    return repr(value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…")


class Environment(environ.FileAwareEnv):
    """The environment of the process, over an optional file of defaults (`.env`).

    A reader returns the value of one variable, or its default where it is not set or empty; it
    raises ImproperlyConfigured with one sentence: the variable, what it must be, what it is. The
    value of a secret is not repeated. `names` are the variables that were read, `secrets` those
    of them that nobody may see.
    """

    def __init__(self, dotenv: Path) -> None:
        """Read the file; raises ImproperlyConfigured for one that cannot be read as a whole.

        django-environ goes on without such a file, without each line that it does not take, and
        with the last of two lines for one name. A file that the process may not read is left out
        with a warning: a service manager gives its services all settings, and `make setup` as root
        wrote an `.env` for root only.
        """
        super().__init__()
        self.names: set[str] = set()
        self.secrets: set[str] = set()
        try:
            text = dotenv.read_text("utf-8-sig")
        except FileNotFoundError:
            return
        except PermissionError as error:
            logger.warning("%s is left out: %s", dotenv, _reason(error))
            return
        except (OSError, UnicodeDecodeError) as error:
            raise ImproperlyConfigured(f"{dotenv} cannot be read: {_reason(error)}") from error
        lines = [
            (number, line)
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip() and not line.lstrip().startswith("#")
        ]
        first: dict[str, int] = {}
        for number, line in lines:  # it may hold a secret: it is not repeated
            assigned = ASSIGNMENT.match(line)
            if assigned is None:
                raise ImproperlyConfigured(
                    f"{dotenv}, line {number}, is not NAME=value without spaces before the name or "
                    "around the equals sign."
                )
            if assigned[1] in first:
                raise ImproperlyConfigured(
                    f"{dotenv}, line {number}, sets {assigned[1]}, which line "
                    f"{first[assigned[1]]} sets, too: delete one of the two."
                )
            first[assigned[1]] = number
        # Never overrides what the process was given.
        environ.Env.read_env(io.StringIO("\n".join(line for _number, line in lines)))

    def text(
        self, name: str, default: str | None = None, *, how: str = "", secret: bool = False
    ) -> str:
        """Return the value of `name`, or the content of the file that `name_FILE` names.

        Raises ImproperlyConfigured, ending in `how`, where there is neither value nor default, and
        for quotation marks around a value, which belong to a shell: a secret may have them.
        """
        self.names.add(name)
        if secret:
            self.secrets.add(name)
        try:
            value = str(self.ENVIRON[name]).removeprefix("\ufeff").strip()
        except KeyError:
            value = ""
        except (OSError, UnicodeDecodeError) as error:
            file = os.environ[f"{name}_FILE"]
            raise ImproperlyConfigured(
                f"{name}_FILE cannot be read: {file}: {_reason(error)}"
            ) from error
        if not value and default is None:
            raise ImproperlyConfigured(f"{name} is not set. {how}".strip())
        if not secret and QUOTED.match(value):
            raise ImproperlyConfigured(
                f"{name} must stand without quotation marks around it; it is {_shown(value)}."
            )
        return value or default or ""

    def _parsed(
        self,
        name: str,
        default: str | None,
        parse: Callable[[str], T],
        wanted: str,
        *,
        how: str = "",
        secret: bool = False,
    ) -> T:
        """Return what `parse` makes of a value; all readers of one value go this way.

        A ValueError of `parse` becomes the one sentence, with its own text where it has one: of a
        secret only if it is a FaultError.
        """
        value = self.text(name, default, how=how, secret=secret)
        try:
            return parse(value)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            said = [] if secret else [f"it is {_shown(value)}"]
            if str(error) and (isinstance(error, FaultError) or not secret):
                said.append(str(error))
            text = f"{name} must be {wanted}{'; ' if said else ''}{': '.join(said)}."
            raise ImproperlyConfigured(f"{text} {how}".strip()) from None

    def _listed(self, name: str, parse: Callable[[str], T], wanted: str) -> list[T]:
        """Return what `parse` makes of each item of a comma-separated value, as `_parsed` does."""
        found = []
        for word in self.words(name):
            try:
                found.append(parse(word))
            except ValueError as error:
                why = f"{_shown(word)} is not one{': ' if str(error) else ''}{error}"
                raise ImproperlyConfigured(
                    f"{name} must list {wanted}, separated by commas; {why}."
                ) from None
        return found

    def words(self, name: str) -> list[str]:
        """Return a comma-separated value as a list without empty items."""
        return [word for item in self.text(name, "").split(",") if (word := item.strip())]

    def hosts(self, name: str) -> list[str]:
        """Return a list of host names as Django takes them: no scheme, no port, no path."""

        def parse(host: str) -> str:
            if HOST_PATTERN.fullmatch(host):
                return host
            raise ValueError(f"write {host[1:]}" if host.startswith("*.") else "")

        wanted = "registry.example or [2001:db8::1], without https:// and without a port"
        return self._listed(name, parse, f"host names such as {wanted}")

    def called_hosts(self, name: str) -> list[str]:
        """Return a list of hosts, `*.example.com` among them for all names below one."""

        def parse(host: str) -> str:
            if is_host(host.removeprefix("*.")):
                return host.removesuffix(".")
            raise ValueError(f"write *{host}" if is_host(host.removeprefix(".")) else "")

        wanted = (
            "hosts such as api.example.com or *.example.com, without https:// and without a port"
        )
        return self._listed(name, parse, wanted)

    def hosts_with_ports(self, name: str) -> list[str]:
        """Return a list of hosts as they stand in a URL, each with a port or without."""

        def parse(host: str) -> str:
            split_url(f"https://{host}", ("https",))
            if HOST.match(host):
                return host
            raise ValueError

        return self._listed(name, parse, "hosts such as id.example.com or id.example.com:8443")

    def origins(self, name: str) -> list[str]:
        """Return a list of origins as browsers name them: a scheme, a host and perhaps a port."""

        def parse(origin: str) -> str:
            scheme, _, host = origin.partition("://")
            split_url(f"{scheme}://{host.removeprefix('*.')}", ("https", "http"))
            if HOST.match(host.removeprefix("*.")):
                return origin.lower()
            raise ValueError(f"write {origin.rstrip('/')}" if origin.endswith("/") else "")

        wanted = "origins such as https://registry.example, without a path"
        return self._listed(name, parse, wanted)

    def host(self, name: str, default: str) -> str:
        """Return the name or the IP address of a host."""

        def parse(value: str) -> str:
            if is_host(value):
                return value
            raise ValueError

        return self._parsed(name, default, parse, "an IP address or the name of a host")

    def choice(self, name: str, choices: Collection[str], default: str = "") -> str:
        """Return one of the choices; the first is the default unless another is given."""

        def parse(value: str) -> str:
            if value.lower() in choices:
                return value.lower()
            raise ValueError

        first = default or next(iter(choices))
        return self._parsed(name, first, parse, f"one of {', '.join(choices)}")

    def flag(self, name: str, *, default: bool) -> bool:
        return self.choice(name, TRUE + FALSE, "on" if default else "off") in TRUE

    def number(
        self, name: str, default: int, *, minimum: int = 0, maximum: int, unit: str = ""
    ) -> int:
        """Return a whole number from `minimum` to `maximum`."""

        def parse(value: str) -> int:
            if WHOLE.match(value) and minimum <= int(value) <= maximum:
                return int(value)
            raise ValueError

        wanted = f"a whole number{unit and f' of {unit}'}, at least {minimum} and at most {maximum}"
        return self._parsed(name, str(default), parse, wanted)

    def seconds(self, name: str, default: int, *, maximum: int) -> float:
        """Return a number of seconds from 0 to `maximum`, with a decimal point or without."""

        def parse(value: str) -> float:
            if DECIMAL.match(value) and float(value) <= maximum:
                return float(value)
            raise ValueError

        wanted = f"a number of seconds, at least 0 and at most {maximum}"
        return self._parsed(name, str(default), parse, wanted)

    def level(self, name: str, default: str) -> str:
        return self.choice(name, [*map(str.lower, logging.getLevelNamesMapping())], default).upper()

    def networks(self, name: str) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return a comma-separated list of networks in CIDR form."""

        def parse(word: str) -> IPv4Network | IPv6Network:
            network = ip_network(word, strict=False)
            try:
                return ip_network(word)
            except ValueError:
                raise ValueError(f"it has host bits set; write {network}") from None

        return tuple(self._listed(name, parse, "networks such as 10.0.0.0/8"))

    def matching(
        self,
        name: str,
        default: str | None,
        pattern: re.Pattern[str],
        wanted: str,
        *,
        how: str = "",
    ) -> str:
        """Return a text of which a pattern is true, or "" where it is not set."""

        def parse(value: str) -> str:
            if not value or pattern.match(value):
                return value
            raise ValueError

        return self._parsed(name, default, parse, wanted, how=how)

    def header(self, name: str, default: str) -> str:
        """Return the name of a request header, as a client or a proxy writes it."""
        wanted = "the name of a header, of letters, digits and hyphens"
        return self.matching(name, default, HEADER, wanted)

    def plain_header(self, name: str) -> str:
        """Return the name of a header, or "", which has one spelling only.

        A server hands `X-User` and `X_User` on as one; a proxy that sets the first may let clients
        send the second.
        """

        def parse(value: str) -> str:
            if "-" in value:
                raise ValueError("with a hyphen, a client could forge it by an underscore")
            if not value or HEADER.match(value):
                return value
            raise ValueError

        wanted = "the name of a header, of letters and digits, such as RemoteUser"
        return self._parsed(name, "", parse, wanted)

    def scopes(self, name: str, default: str) -> str:
        """Return scopes of OpenID Connect, with spaces between: `openid` among them."""

        def parse(value: str) -> str:
            if SCOPES.match(value) and "openid" in value.split():
                return value
            raise ValueError

        return self._parsed(name, default, parse, "scopes with spaces between, one of them openid")

    def roles(self, name: str) -> dict[str, tuple[str, ...]]:
        """Return the roles that each value of a claim, or each group, brings: `value=Role;…`.

        The last equals sign divides them: the names of groups in a directory have some, too.
        """

        def parse(text: str) -> dict[str, tuple[str, ...]]:
            roles: dict[str, tuple[str, ...]] = {}
            for word in filter(None, map(str.strip, text.split(";"))):
                value, _, role = (part.strip() for part in word.rpartition("="))
                if not value or not role:
                    raise ValueError(f"{_shown(word)} is no VALUE=ROLE")
                roles[value] = (*roles.get(value, ()), role)
            return roles

        return self._parsed(name, "", parse, "a list of roles as VALUE=ROLE;VALUE=ROLE")

    def web_address(self, name: str) -> str:
        """Return an https address without a query, or "" where there is none.

        Plain http is for this machine only.
        """

        def parse(value: str) -> str:
            if not value:
                return ""
            parts = split_url(value, ("https", "http"))
            if parts.scheme == "http" and parts.hostname not in THIS_MACHINE:
                raise ValueError("plain http is for this machine only")
            if parts.query or parts.fragment or parts.username is not None:
                raise ValueError
            return value

        wanted = "an address such as https://id.example.com/realm, without a query"
        return self._parsed(name, "", parse, wanted)

    def directory_filter(self, name: str, default: str) -> str:
        """Return a filter of LDAP, which holds the name that is looked for as `%(user)s`."""

        def parse(value: str) -> str:
            try:
                is_filled = bool(value % {"user": "name"})
            except KeyError:
                is_filled = False
            if "%(user)s" in value and is_filled and value.count("(") == value.count(")"):
                return value
            raise ValueError

        return self._parsed(name, default, parse, "a filter such as (uid=%(user)s)")

    def readable_file(self, name: str) -> str:
        """Return the path of a file that can be read, or "" where none is named."""
        value = self.text(name, "")
        if value and not (os.access(value, os.R_OK) and Path(value).is_file()):
            raise ImproperlyConfigured(f"{name} cannot be read: {value}")
        return value

    def peppers(self, name: str) -> dict[str, bytes]:
        """Return the peppers by their id, newest first: `id:base64,older-id:base64`."""

        def read(encoded: str) -> bytes | None:
            pepper = base64.b64decode(encoded, altchars=b"-_", validate=True)
            return pepper if len(pepper) >= PEPPER_MIN_BYTES else None

        how = (
            "It holds the keys that digests of secrets are made with, newest first, as "
            "ID:BASE64[,ID:BASE64…]. Make one with: "
            "python3 -c \"import base64,os,time; print(time.strftime('%Y%m')+':'"
            '+base64.urlsafe_b64encode(os.urandom(32)).decode())"'
        )
        wanted = (
            f"entries ID:BASE64 with at least {PEPPER_MIN_BYTES} bytes each, separated by commas"
        )

        def parse(value: str) -> dict[str, bytes]:
            return _by_id(value.split(","), read)

        return self._parsed(name, None, parse, wanted, how=how, secret=True)

    def signing_keys(self, name: str) -> dict[str, Ed25519PrivateKey]:
        """Return the private keys that tokens are signed with by their id, the first one in use.

        Each is `id:base64` of an Ed25519 key in PKCS #8 (DER); there may be none.
        """

        def read(encoded: str) -> Ed25519PrivateKey | None:
            key = load_der_private_key(base64.b64decode(encoded, validate=True), None)
            return key if isinstance(key, Ed25519PrivateKey) else None

        def parse(value: str) -> dict[str, Ed25519PrivateKey]:
            return _by_id(filter(str.strip, value.split(",")), read)

        wanted = "entries ID:BASE64 with an Ed25519 key each, separated by commas"
        how = "Make one with: manage.py make_jwt_key"
        return self._parsed(name, "", parse, wanted, how=how, secret=True)

    def database(self, name: str, *, default: str) -> dict[str, Any]:
        """Return Django's settings of the database that a URL names.

        A PostgreSQL may have several hosts, as libpq takes them: the first that answers as the URL
        wants (`?target_session_attrs=read-write`) is connected to.
        """

        def parse(url: str) -> dict[str, Any]:
            scheme, separator, rest = url.partition("://")
            if separator and scheme in POSTGRES:
                return self._postgres(scheme, rest)
            if separator and scheme == "sqlite":
                return self._sqlite(url, rest)
            raise FaultError("it begins with neither postgres:// nor sqlite:///")

        wanted = (
            "a URL such as postgres://user:password@host:5432/name or sqlite:////path, in which "
            "characters such as / and ? in a password are written as %2F and %3F"
        )
        return self._parsed(name, default, parse, wanted, secret=True)

    def _postgres(self, scheme: str, rest: str) -> dict[str, Any]:
        place, _slash, path = rest.partition("/")
        account, at, listed = place.rpartition("@")
        found = [_host_and_port(host) for host in listed.split(",")] if listed else []
        if "@" in path.partition("?")[0]:
            raise FaultError("an @ follows its host")
        url = f"{scheme}://{account}{at}{'host' if found else ''}/{path}"
        config: dict[str, Any] = self.db_url_config(url)
        options = config.get("OPTIONS", {})
        if not config["NAME"] and "service" not in options:
            raise FaultError("it names no database")
        try:
            make_conninfo(**dict.fromkeys(options.keys() - POSTGRES_OPTIONS, "1"))
        except ProgrammingError:
            raise FaultError("what follows its question mark is no option of libpq") from None
        if found and config["HOST"] != "host":
            raise ValueError
        if len(found) > 1:
            config["HOST"] = ",".join(host for host, _port in found)
            config["PORT"] = ",".join(port or POSTGRES_PORT for _host, port in found)
        elif found:
            host, port = found[0]
            config["HOST"], config["PORT"] = host, int(port) if port else ""
        return config

    def _sqlite(self, url: str, rest: str) -> dict[str, Any]:
        path, _, _options = rest.partition("?")
        if rest != ":memory:" and (not path.startswith("/") or path == "/"):
            raise FaultError("three slashes begin the path of a file, or four from the root")
        if "#" in path:
            raise FaultError("a # in a path is written as %23")
        config: dict[str, Any] = self.db_url_config(url)
        if not isinstance(config.get("OPTIONS", {}).get("timeout", 0), int):
            raise FaultError("its timeout is no whole number of seconds")
        return config

    def cache(self, name: str, *, default: str) -> dict[str, Any]:
        """Return Django's settings of the cache that a URL names."""

        def parse(url: str) -> dict[str, Any]:
            scheme, separator, rest = url.partition("://")
            place, _, path = rest.partition("?")[0].partition("/")
            if not separator or scheme not in CACHE_KINDS:
                raise FaultError(_begins_with_none_of(CACHE_KINDS))
            if scheme == "dbcache" and (path or not TABLE.match(place)):
                raise FaultError("it names no table")
            if scheme == "filecache" and (place or not path):
                raise FaultError("three slashes begin the path of a folder")
            if scheme in REDIS and place.rpartition("@")[2]:  # or it is a socket's path
                for one in place.split(","):
                    split_url(f"{scheme}://{one}", REDIS)
                if path and not WHOLE.match(path):
                    raise FaultError("what follows its host is not the number of a database")
            elif scheme in REDIS and not path:  # a path alone is that of a socket
                raise FaultError("it names no host")
            return dict(self.cache_url_config(url))

        wanted = "a URL such as rediscache://host:6379/0 or dbcache://TABLE"
        return self._parsed(name, default, parse, wanted, secret=True)


def _host_and_port(text: str) -> tuple[str, str | None]:
    """Return a host, and its port where it has one; raises FaultError."""
    found = HOST.match(text.removesuffix(":") if text.count(":") == 1 else text)
    if found is None or not is_host(found[1].strip("[]")):
        raise FaultError("what stands for its host is none")
    if found[2] is not None and not 0 < int(found[2]) <= MAX_PORT:
        raise FaultError(f"its port is not from 1 to {MAX_PORT}")
    return found[1].strip("[]"), found[2]


def _by_id(words: Iterable[str], read: Callable[[str], T | None]) -> dict[str, T]:
    """Return what entries `id:base64` hold, by id; `read` returns None for what it refuses."""
    found: dict[str, T] = {}
    for word in words:
        entry_id, _, encoded = word.strip().partition(":")
        value = read(encoded)
        if not PEPPER_ID.match(entry_id) or value is None:
            raise ValueError
        if entry_id in found:
            raise FaultError(f"it names {entry_id!r} twice")
        found[entry_id] = value
    return found
