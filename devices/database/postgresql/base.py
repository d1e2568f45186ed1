"""Django's PostgreSQL backend: it bounds how long commits wait, and leaves hosts out that hang.

The names of hosts are looked up before, since the driver would wait for that for too long.

A frozen host takes connections, and answers nothing: of several hosts, each new connection would
wait for that one first, or last, for as long as `connect_timeout`. One that kept a question waiting
for too long is left out, until it has taken a connection again; one connection a second tries it.
"""

import time
from collections.abc import Mapping
from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base

from devices.database import confirmation, deadlines
from devices.database.deadlines import Server
from devices.database.names import is_name, look_up, own_address

DEFAULT_PORT = 5432
LEFT_OUT = 60.0  # seconds that a host is left out at most
TRIED_EVERY = 1.0  # seconds between two attempts at hosts that are left out
AGAIN = 0.1  # seconds between two attempts at the others, until one of them takes writes
PATIENCE = 2.0  # seconds for all of these attempts, as `connect_timeout` has it for one
LOOKUP_SECONDS = 2.0  # for all names of a connection, likewise

_opened: dict[Server, float] = {}  # by server: when it last took a connection
_try_all_at = 0.0


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that says when a commit was not confirmed by every standby in time."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect, and listen for the server's word that a commit waited in vain.

        Statements are short: to compile one of them (JIT) would take longer than to run it. Behind
        a pooler nothing is set for a session.
        """
        driver = self._driver(conn_params)
        self.opened, self.server = time.monotonic(), deadlines.connected(driver)
        _opened[self.server] = self.opened
        driver.add_notice_handler(confirmation.on_notice)
        if not settings.DATABASE_POOLER:
            with deadlines.Deadline(driver):
                driver.pgconn.exec_(b"SET jit = off")
        return driver

    def _driver(self, conn_params: dict[str, Any]) -> Any:
        """Connect; where a host is left out, wait a while for another one to take its place."""
        end = time.monotonic() + PATIENCE
        parameters = without_hung(conn_params)
        tries_all = parameters is not conn_params and _is_to_try_all()
        while True:
            try:
                chosen = conn_params if tries_all else parameters
                return super().get_new_connection(with_addresses(chosen))
            except psycopg.OperationalError:
                if tries_all or parameters is conn_params or time.monotonic() > end:
                    raise
            time.sleep(AGAIN)

    def commit(self) -> None:
        """Commit; what the primary has committed stays, confirmed or not."""
        with confirmation.bounded(self.connection):
            super().commit()


def without_hung(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a connection's parameters without hosts that hang; these very ones if there is none.

    Where all of them hang, none is left out.
    """
    hosts = hosts_of(parameters)
    since = time.monotonic() - LEFT_OUT
    kept = [
        host
        for host in hosts
        if deadlines.overdue.get(host, 0.0) <= max(_opened.get(host, 0.0), since)
    ]
    if not kept or len(kept) == len(hosts):
        return parameters
    names, ports = zip(*kept, strict=True)
    return {**parameters, "host": ",".join(names), "port": ",".join(map(str, ports))}


def _is_to_try_all() -> bool:
    """Whether it is a connection's turn to try those that hang, too."""
    global _try_all_at  # noqa: PLW0603 - one a process
    now = time.monotonic()
    if now < _try_all_at:
        return False
    _try_all_at = now + TRIED_EVERY
    return True


def hosts_of(parameters: Mapping[str, Any]) -> list[Server]:
    """Return the hosts that a connection may lead to, as libpq reads them; none if only one."""
    names = str(parameters.get("host") or "").split(",")
    if len(names) == 1 or "hostaddr" in parameters:
        return []
    ports = [int(port or DEFAULT_PORT) for port in str(parameters.get("port") or "").split(",")]
    return list(zip(names, ports * len(names) if len(ports) == 1 else ports, strict=False))


def with_addresses(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a connection's parameters with the addresses of its hosts beside their names.

    These very ones where there is no name to look up. A host without an address is left out; raises
    psycopg.OperationalError where none has one.
    """
    hosts = str(parameters.get("host") or "").split(",")
    if "hostaddr" in parameters or not any(map(is_name, hosts)):
        return parameters
    ports = str(parameters.get("port") or "").split(",")
    known = look_up(hosts, LOOKUP_SECONDS)
    found: list[tuple[str, str, str]] = []
    failure = ""
    for host, port in zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=False):
        addresses = known.get(host, [own_address(host)])
        if isinstance(addresses, OSError):
            failure = f"the address of the host {host!r} is not known: {addresses}"
        else:
            found += [(host, address, port) for address in addresses]
    if not found:
        raise psycopg.OperationalError(failure)
    columns = zip(("host", "hostaddr", "port"), zip(*found, strict=True), strict=True)
    # Where no port is given, the driver takes that of the environment.
    told = {name: ",".join(values) for name, values in columns if any(values)}
    return {**parameters, **told}
