"""Look up the names of hosts, each once at a time, for no longer than whoever asks may wait.

Drivers and event loops look them up by themselves, and wait as long as the system's resolver does:
10 s and more where name servers do not answer. Here a thread waits for that, which ends with the
process.
"""

import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, wait
from ipaddress import ip_address
from typing import Any

SHARED_FOR = 2.0  # seconds from the begin of a look-up; then it is asked anew
MAX_UNFINISHED = 8  # look-ups of one name, a thread each; then the last one is shared

Lookup = Future[list[Any]]  # addresses as `socket.getaddrinfo` returns them

# By what is asked: since when, on this clock.
_under_way: dict[object, list[tuple[float, Lookup]]] = {}
_lock = threading.Lock()


def look_up(hosts: Iterable[str], seconds: float) -> dict[str, list[str] | OSError]:
    """Return the addresses of those hosts that are names, or why one's are not known in time."""
    lookups = {host: begin(host, None, type=socket.SOCK_STREAM) for host in hosts if is_name(host)}
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
        return list(dict.fromkeys(str(address[0]) for *_kind, address in lookup.result()))
    except Exception as error:  # noqa: BLE001 (whatever it is, it is why there is no address)
        return OSError(str(error))


def begin(host: Any, port: Any, **options: Any) -> Lookup:
    """Return what will be the addresses of a host; a look-up that has just begun is shared."""
    key, now = (host, port, *options.items()), time.monotonic()
    with _lock:
        unfinished = [one for one in _under_way.get(key, ()) if not one[1].done()]
        if unfinished and (
            now - unfinished[-1][0] <= SHARED_FOR or len(unfinished) >= MAX_UNFINISHED
        ):
            return unfinished[-1][1]
        lookup = Lookup()
        _under_way[key] = [*unfinished, (now, lookup)]
        try:
            threading.Thread(
                target=_run, args=(lookup, host, port), kwargs=options, daemon=True
            ).start()
        except RuntimeError as error:
            lookup.set_exception(OSError(str(error)))
    return lookup


def _run(lookup: Lookup, host: Any, port: Any, **options: Any) -> None:
    try:
        lookup.set_result(socket.getaddrinfo(host, port, **options))
    except Exception as error:  # noqa: BLE001 (those who wait are told)
        lookup.set_exception(error)
