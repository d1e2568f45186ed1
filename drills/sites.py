"""Sites of a drill: real servers on the drill's databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from drills.nodes import Nodes, cluster
from tests.support.servers import Server

REVOKE = "UPDATE devices_presharedkey SET revoked_at = now(), revoked_by = 'drill' WHERE id = {key}"


def site(folder: Path, url: str, **environment: str) -> Server:
    """Return a server on that database, with one process; `with` starts it."""
    return Server(folder, url, **{"WORKERS": "1", "EVIDENCE_INTERVAL": "1"} | environment)


@contextmanager
def migrated(folder: Path, standbys: int = 2) -> Iterator[tuple[Nodes, Server]]:
    """Yield nodes with an empty registry, and a site on whichever takes writes, not started."""
    with cluster(standbys) as nodes:
        server = site(folder, nodes.url())
        server.manage("migrate", "--verbosity", "0")
        yield nodes, server


def revoke(connection: "psycopg.Connection[tuple[object, ...]]", key: int) -> None:
    """Revoke a key, as staff's page does in the end."""
    connection.execute(REVOKE.format(key=int(key)).encode())
