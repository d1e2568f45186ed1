"""Give the driver the addresses of a database's hosts, which it would look up for too long."""

from typing import Any

import psycopg

from devices.database.names import is_name, look_up, own_address

# For all names of a connection, as `connect_timeout` has it for one attempt to connect.
SECONDS = 2.0


def with_addresses(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a connection's parameters with the addresses of its hosts beside their names.

    These very ones where there is no name to look up. A host without an address is left out; raises
    psycopg.OperationalError where none has one.
    """
    hosts = str(parameters.get("host") or "").split(",")
    if "hostaddr" in parameters or not any(map(is_name, hosts)):
        return parameters
    ports = str(parameters.get("port") or "").split(",")
    known = look_up(hosts, SECONDS)
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
