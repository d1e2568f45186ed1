"""Look up the names of hosts, for no longer than a question may wait.

Drivers look them up by themselves, and wait as long as the system's resolver does: 10 s and more
where name servers do not answer. Here a thread waits for that.
"""

import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, wait
from ipaddress import ip_address

SHARED_FOR = 2.0  # seconds from the begin of a look-up; then it is asked anew

Lookup = Future[list[str]]

_under_way: dict[str, tuple[float, Lookup]] = {}  # by name: since when, on this clock
_lock = threading.Lock()


def look_up(hosts: Iterable[str], seconds: float) -> dict[str, list[str] | OSError]:
    """Return the addresses of those hosts that are names, or why one's are not known in time."""
    lookups = {host: _begin(host) for host in hosts if is_name(host)}
    wait(lookups.values(), seconds)
    late = OSError(f"no name server answered within {seconds:g} s")
    return {host: _outcome(lookup) if lookup.done() else late for host, lookup in lookups.items()}


def is_name(host: str) -> bool:
    """Whether a host is a name, and neither an address nor the folder of a socket."""
    return bool(host) and not host.startswith(("/", "@")) and not own_address(host)


def own_address(host: str) -> str:
    """Return a host that is an address; an empty text where it is none."""
    try:
        return str(ip_address(host))
    except ValueError:
        return ""


def _outcome(lookup: Lookup) -> list[str] | OSError:
    try:
        return lookup.result()
    except OSError as error:
        return error


def _begin(name: str) -> Lookup:
    """Return what will be the addresses of a host; a look-up that has just begun is shared."""
    now = time.monotonic()
    with _lock:
        since, lookup = _under_way.get(name, (0.0, None))
        if lookup is None or lookup.done() or now - since > SHARED_FOR:
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
