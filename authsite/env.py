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
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import environ
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from django.core.exceptions import ImproperlyConfigured

logger = logging.getLogger("authsite.settings")

PEPPER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*\Z")
PEPPER_MIN_BYTES = 32
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?\Z")
HOST_PATTERN = re.compile(r"\*|\[[0-9A-Fa-f:.]+\]|\.?[A-Za-z0-9_-][A-Za-z0-9._-]*")
# As django-environ reads a line of `.env`, which takes quotation marks after a space for the value.
ASSIGNMENT = re.compile(r"""(export )?[A-Za-z_0-9]+=(?!\s+["'])""")
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
POSTGRES_PORT = "5432"
DATABASES = frozenset({"sqlite", "postgres", "postgresql", "psql", "pgsql"})
T = TypeVar("T")
TRUE = ("on", "true", "yes", "1")
FALSE = ("off", "false", "no", "0")


def starts_tls(addresses: str, *, wanted: bool) -> bool:
    """Return whether a directory at these addresses (LDAP_URL, with spaces between) starts TLS.

    Raises ImproperlyConfigured for what is no such address, and where passwords would travel in
    clear: `wanted` may be False for this machine only.
    """
    try:
        parts = [urlsplit(address) for address in addresses.split()]
        hosts = {part.hostname for part in parts if part.port != 0}
    except ValueError:
        parts, hosts = [], set()
    schemes = {part.scheme for part in parts}
    if schemes != {"ldapi"} and (schemes not in ({"ldaps"}, {"ldap"}) or None in hosts):
        raise ImproperlyConfigured(
            "LDAP_URL must be an address such as ldaps://ldap.example.com; several, with spaces "
            "between, begin alike."
        )
    is_plain = schemes == {"ldap"}
    if is_plain and not wanted and not hosts <= THIS_MACHINE:
        raise ImproperlyConfigured("LDAP_URL without TLS sends passwords in clear.")
    return is_plain and wanted


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror)


class Environment(environ.FileAwareEnv):
    """The environment of the process, over an optional file of defaults (`.env`)."""

    def __init__(self, dotenv: Path) -> None:
        """Read the file; raises ImproperlyConfigured for one that cannot be read as a whole.

        django-environ goes on without such a file, and without each line that it does not take.
        One that the process may not read is left out with a warning: a service manager gives its
        services all settings, and `make setup` as root wrote an `.env` for root only.
        """
        super().__init__()
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
        for number, line in lines:  # it may hold a secret: it is not repeated
            if not ASSIGNMENT.match(line):
                raise ImproperlyConfigured(
                    f"{dotenv}, line {number}, is not NAME=value without spaces before the name or "
                    "around the equals sign."
                )
        # Never overrides what the process was given.
        environ.Env.read_env(io.StringIO("\n".join(line for _number, line in lines)))

    def text(self, name: str, default: str | None = None, *, how: str = "") -> str:
        """Return the value of `name`, or the content of the file that `name_FILE` names.

        Raises ImproperlyConfigured, ending in `how`, where there is neither value nor default.
        """
        try:
            value = str(self.ENVIRON[name]).removeprefix("\ufeff").strip()
        except KeyError:
            value = ""
        except (OSError, UnicodeDecodeError) as error:
            file = os.environ[f"{name}_FILE"]
            raise ImproperlyConfigured(
                f"{name}_FILE cannot be read: {file}: {_reason(error)}"
            ) from error
        if value:
            return value
        if default is None:
            raise ImproperlyConfigured(f"{name} is not set. {how}".strip())
        return default

    def words(self, name: str) -> list[str]:
        """Return a comma-separated value as a list without empty items."""
        return [word for item in self.text(name, "").split(",") if (word := item.strip())]

    def hosts(self, name: str) -> list[str]:
        """Return a list of host names as Django takes them: no scheme, no port, no path."""
        hosts = self.words(name)
        for host in hosts:
            if not HOST_PATTERN.fullmatch(host):
                instead = f": write {host[1:]}" if host.startswith("*.") else ""
                raise ImproperlyConfigured(
                    f"{name} must list host names such as registry.example or [2001:db8::1], "
                    f"without https:// and without a port; {host!r} is not one{instead}."
                )
        return hosts

    def choice(self, name: str, choices: Collection[str], default: str = "") -> str:
        """Return one of the choices; the first is the default unless another is given."""
        value = self.text(name, default or next(iter(choices))).lower()
        if value not in choices:
            raise ImproperlyConfigured(
                f"{name} must be one of {', '.join(choices)}; it is {value!r}."
            )
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        return self.choice(name, TRUE + FALSE, "on" if default else "off") in TRUE

    def number(self, name: str, default: int, *, minimum: int = 0) -> int:
        """Return a whole number of at least `minimum`."""
        value = self.text(name, str(default))
        if not value.isascii() or not value.isdigit() or int(value) < minimum:
            raise ImproperlyConfigured(f"{name} must be a whole number of at least {minimum}.")
        return int(value)

    def level(self, name: str, default: str) -> str:
        return self.choice(name, [*map(str.lower, logging.getLevelNamesMapping())], default).upper()

    def networks(self, name: str) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return a comma-separated list of networks in CIDR form."""
        try:
            return tuple(ip_network(word) for word in self.words(name))
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{name} must list networks such as 10.0.0.0/8, separated by commas: {error}."
            ) from error

    def header(self, name: str, default: str) -> str:
        """Return the name of a request header, as a client or a proxy writes it."""
        value = self.text(name, default)
        if value and not HEADER.match(value):
            raise ImproperlyConfigured(
                f"{name} must be the name of a header, of letters, digits and hyphens; "
                f"it is {value!r}."
            )
        return value

    def plain_header(self, name: str) -> str:
        """Return the name of a header, or "", which has one spelling only.

        A server hands `X-User` and `X_User` on as one; a proxy that sets the first may let clients
        send the second.
        """
        value = self.header(name, "")
        if "-" in value:
            raise ImproperlyConfigured(
                f"{name} must be of letters and digits, such as RemoteUser: with a hyphen, "
                "a client could forge it by an underscore."
            )
        return value

    def roles(self, name: str) -> dict[str, tuple[str, ...]]:
        """Return the roles that each value of a claim, or each group, brings: `value=Role;…`.

        The last equals sign divides them: the names of groups in a directory have some, too.
        """
        roles: dict[str, tuple[str, ...]] = {}
        for word in filter(None, map(str.strip, self.text(name, "").split(";"))):
            value, _, role = (part.strip() for part in word.rpartition("="))
            if not value or not role:
                raise ImproperlyConfigured(
                    f"{name} must list roles as VALUE=ROLE;VALUE=ROLE; {word!r} is not one."
                )
            roles[value] = (*roles.get(value, ()), role)
        return roles

    def web_address(self, name: str) -> str:
        """Return an https address without a query, or "" where there is none.

        Plain http is for this machine only.
        """
        value = self.text(name, "")
        if not value:
            return ""
        try:
            parts = urlsplit(value)
            host, _port = parts.hostname, parts.port
        except ValueError:
            parts, host = urlsplit(""), None
        secure = parts.scheme == "https" or (parts.scheme == "http" and host in THIS_MACHINE)
        if not (secure and host) or parts.query or parts.fragment or parts.username is not None:
            raise ImproperlyConfigured(
                f"{name} must be an address such as https://id.example.com/realm, without a query."
            )
        return value

    def directory_filter(self, name: str, default: str) -> str:
        """Return a filter of LDAP, which holds the name that is looked for as `%(user)s`."""
        value = self.text(name, default)
        try:
            filled = value % {"user": "name"}
        except (ValueError, TypeError, KeyError):
            filled = ""
        if "%(user)s" not in value or not filled or value.count("(") != value.count(")"):
            raise ImproperlyConfigured(f"{name} must be a filter such as (uid=%(user)s).")
        return value

    def readable_file(self, name: str) -> str:
        """Return the path of a file that can be read, or "" where none is named."""
        value = self.text(name, "")
        if value and not (Path(value).is_file() and os.access(value, os.R_OK)):
            raise ImproperlyConfigured(f"{name} cannot be read: {value}")
        return value

    def peppers(self, name: str) -> dict[str, bytes]:
        """Return the peppers by their id, newest first: `id:base64,older-id:base64`."""
        how = (
            "It holds the keys that digests of secrets are made with, newest first, as "
            "ID:BASE64[,ID:BASE64…]. Make one with: "
            "python3 -c \"import base64,os,time; print(time.strftime('%Y%m')+':'"
            '+base64.urlsafe_b64encode(os.urandom(32)).decode())"'
        )

        def read(encoded: str) -> bytes | None:
            pepper = base64.b64decode(encoded, altchars=b"-_", validate=True)
            return pepper if len(pepper) >= PEPPER_MIN_BYTES else None

        fault = f"with at least {PEPPER_MIN_BYTES} bytes. {how}"
        return self._by_id(name, "pepper", self.text(name, how=how).split(","), read, fault)

    def signing_keys(self, name: str) -> dict[str, Ed25519PrivateKey]:
        """Return the private keys that tokens are signed with by their id, the first one in use.

        Each is `id:base64` of an Ed25519 key in PKCS #8 (DER); there may be none.
        """

        def read(encoded: str) -> Ed25519PrivateKey | None:
            key = load_der_private_key(base64.b64decode(encoded, validate=True), None)
            return key if isinstance(key, Ed25519PrivateKey) else None

        fault = "with an Ed25519 key. Make one with: manage.py make_jwt_key"
        return self._by_id(name, "key", self.words(name), read, fault)

    @staticmethod
    def _by_id(
        name: str, noun: str, words: Iterable[str], read: Callable[[str], T | None], fault: str
    ) -> dict[str, T]:
        """Return what entries `id:base64` hold, by id; `read` returns None for what it refuses."""
        found: dict[str, T] = {}
        for word in words:
            entry_id, _, encoded = word.strip().partition(":")
            try:
                value = read(encoded)
            except (ValueError, TypeError, UnsupportedAlgorithm):
                value = None
            if not PEPPER_ID.match(entry_id) or value is None:
                raise ImproperlyConfigured(f"{name} has an entry that is not ID:BASE64 {fault}")
            if entry_id in found:
                raise ImproperlyConfigured(f"{name} names the {noun} {entry_id!r} twice.")
            found[entry_id] = value
        return found

    def database(self, name: str, *, default: str) -> dict[str, Any]:
        """Return Django's settings of the database that a URL names.

        A PostgreSQL may have several hosts, as libpq takes them: the first that answers as the URL
        wants (`?target_session_attrs=read-write`) is connected to.
        """
        url = self.text(name, default)
        scheme, separator, rest = url.partition("://")
        if scheme not in DATABASES or not separator:
            raise ImproperlyConfigured(
                f"{name} must be a URL such as postgres://user@host/name or sqlite:////path."
            )
        place, slash, path = rest.partition("/")
        account, at, hosts = place.rpartition("@")
        if "," not in hosts:
            try:
                return dict(self.db_url_config(url))
            except ValueError:  # which may quote the password
                raise ImproperlyConfigured(
                    f"{name} must be a URL such as postgres://user:password@host:5432/name: its "
                    "port is none, or a password has characters such as / and ? as they are; they "
                    "are written as %2F and %3F."
                ) from None
        found = [HOST.match(host) for host in hosts.split(",")]
        if scheme == "sqlite" or not all(found):
            raise ImproperlyConfigured(
                f"{name} must list hosts as host:port,host:port, each a name or an address."
            )
        config: dict[str, Any] = self.db_url_config(f"{scheme}://{account}{at}host{slash}{path}")
        config["HOST"] = ",".join(host[1].strip("[]") for host in found if host)
        config["PORT"] = ",".join(host[2] or POSTGRES_PORT for host in found if host)
        return config

    def cache(self, name: str, *, default: str) -> dict[str, Any]:
        """Return Django's settings of the cache that a URL names."""
        url = self.text(name, default)
        if url.partition(":")[0] not in self.CACHE_SCHEMES:
            raise ImproperlyConfigured(f"{name} must be a URL such as rediscache://host:6379/0.")
        config: dict[str, Any] = self.cache_url_config(url)
        return config
