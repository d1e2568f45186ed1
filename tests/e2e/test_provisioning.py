"""The factory's script, run against a real server."""

import json

import pytest

from tests.support.commands import python
from tests.support.servers import Server

pytestmark = pytest.mark.once(on="processes")

SCOPES = ("devices.add_device", "devices.add_presharedkey")


def test_a_factory_provisions_a_device_that_is_let_in(registry: Server) -> None:
    scopes = [word for scope in SCOPES for word in ("--scope", scope)]
    token = registry.manage("create_token", registry.staff.name, "line-3", *scopes).strip()
    environment = {**registry.environment, "AUTHSITE_URL": registry.url, "AUTHSITE_TOKEN": token}
    told = [
        python("examples/provision_device.py", serial, env=environment, check=True).stdout
        for serial in ("2026-000017", "2026-000017", "2026-000018")
    ]
    first, again, other = map(json.loads, told)
    assert (first["code"], first["id"]) == ("OK", 1)
    assert again == first  # cut off and run again: the same device, the same secret
    assert other["identifier"] != first["identifier"]
