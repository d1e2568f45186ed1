"""Look up the names of a database's hosts, for no longer than a question may wait.

The driver looks them up by itself, and waits as long as the system's resolver does: 10 s and more
where name servers do not answer. Here a thread waits for that.
"""

import socket
import threading
import time
from concurrent.futures import Future, TimeoutError as Unanswered
from ipaddress import ip_address
from typing import Any

import psycopg

# For all names of a connection, as `connect_timeout` has it for one attempt to connect.
SECONDS = 2.0

Lookup = Future[list[str]]

_under_way: dict[str, tuple[float, Lookup]] = {}  # by name: since when, on this clock
_lock = threading.Lock()


def with_addresses(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a connection's parameters with the addresses of its hosts beside their names.

    These very ones where there is no name to look up. A host without an address is left out; raises
    psycopg.OperationalError where none has one.
    """
    hosts = str(parameters.get("host") or "").split(",")
    if "hostaddr" in parameters or not any(map(_is_name, hosts)):
        return parameters
    ports = str(parameters.get("port") or "").split(",")
    lookups = {host: _look_up(host) for host in hosts if _is_name(host)}
    until = time.monotonic() + SECONDS
    found: list[tuple[str, str, str]] = []
    failure = ""
    for host, port in zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=False):
        try:
            addresses = _answer(lookups[host], until) if host in lookups else [_own_address(host)]
        except OSError as error:
            failure = f"the address of the host {host!r} is not known: {error}"
            continue
        found += [(host, address, port) for address in addresses]
    if not found:
        raise psycopg.OperationalError(failure)
    columns = zip(("host", "hostaddr", "port"), zip(*found, strict=True), strict=True)
    # Where no port is given, the driver takes that of the environment.
    told = {name: ",".join(values) for name, values in columns if any(values)}
    return {**parameters, **told}


def await_address(host: str, seconds: float) -> None:
    """Return once the address of a host is known; raises OSError where that takes too long."""
    if _is_name(host):
        _answer(_look_up(host), time.monotonic() + seconds, seconds)


def _is_name(host: str) -> bool:
    """Whether a host is a name, and neither an address nor the folder of a socket."""
    return bool(host) and not host.startswith(("/", "@")) and not _own_address(host)


def _own_address(host: str) -> str:
    """Return a host that is an address; an empty text where it is none."""
    try:
        return str(ip_address(host))
    except ValueError:
        return ""


def _answer(lookup: Lookup, until: float, seconds: float = 0) -> list[str]:
    """Return the addresses that a look-up finds; raises OSError."""
    try:
        return lookup.result(max(0.0, until - time.monotonic()))
    except Unanswered:
        raise OSError(f"no name server answered within {seconds or SECONDS:g} s") from None


def _look_up(name: str) -> Lookup:
    """Return what will be the addresses of a host; a look-up that has just begun is shared."""
    now = time.monotonic()
    with _lock:
        since, lookup = _under_way.get(name, (0.0, None))
        if lookup is None or lookup.done() or now - since > SECONDS:
            lookup = Lookup()
            _under_way[name] = now, lookup
            threading.Thread(
                target=_run, args=(name, lookup), name=f"address of {name}", daemon=True
            ).start()
    return lookup


def _run(name: str, lookup: Lookup) -> None:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        lookup.set_result(list(dict.fromkeys(str(address[0]) for *_kind, address in found)))
    except (OSError, UnicodeError) as error:
        lookup.set_exception(OSError(str(error)))
