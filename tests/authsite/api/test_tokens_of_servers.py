"""Tokens at real servers: what another process changes holds at the next request of each."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, demo_server

pytestmark = [pytest.mark.e2e, pytest.mark.once(on="postgres")]

DEVICES = "/api/v1/devices"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Return two servers on one registry; commands run in processes of their own."""
    folder: Path = tmp_path_factory.mktemp("tokens")
    with (
        demo_server(folder, LOG_LEVEL="DEBUG", WORKERS="1") as first,
        Server(folder, first.database_url, LOG_LEVEL="DEBUG", WORKERS="1") as second,
    ):
        yield [first, second]


# Makes an account with a token for each of the names, in one process; prints the tokens.
MAKE = """
import django, io, json, sys
django.setup()
from django.core.management import call_command
for name in sys.argv[1:]:
    call_command("create_user", name, "--role", "Viewer", stdout=io.StringIO())
    call_command("create_token", name, "ci", "--scope", "devices.view_device", "--json")
"""

# What ends or narrows an account's token, as commands; and what each server answers from then on.
ENDED = {
    "token": (["end_token", "{identifier}"], 401),
    "all": (["end_token", "--owner", "{owner}"], 401),
    "account": (["disable_user", "{owner}"], 401),
    "roles": (["set_roles", "{owner}"], 401),  # whoever has none is no staff
}


def statuses(servers: list[Server], text: str) -> list[int]:
    headers = {"Authorization": f"Bearer {text}"}
    return [server.ask("GET", DEVICES, headers=headers).status for server in servers]


def test_an_end_holds_at_the_next_request_everywhere(servers: list[Server]) -> None:
    made = [json.loads(line) for line in servers[0].run("-c", MAKE, *ENDED).splitlines()]
    for token in made:
        words, status = ENDED[token["owner"]]
        text = token["token"]
        assert statuses(servers, text) == [200, 200], token["owner"]
        servers[0].manage(*(word.format(**token) for word in words))
        assert statuses(servers, text) == [status, status], token["owner"]
        for server in servers:
            assert text[21:] not in server.log
