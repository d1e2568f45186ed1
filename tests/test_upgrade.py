"""An upgrade of a database keeps its rows, sessions and answers."""

import json
from pathlib import Path

from tests.support import earlier_release
from tests.support.servers import Server, own_database

TAKEN = json.dumps(
    {
        "id": 1,
        "method": "verify",
        "deviceid": earlier_release.IDENTIFIER,
        "devicesecret": earlier_release.SECRET,
    }
).encode()
# In one process, since each takes seconds to start.
BACK_AND_FORTH = """
from django.core.management import call_command
from devices.history import by_itself
from devices.models import DeviceGroup

def origin():
    return DeviceGroup.history.get(name="made by the registry").origin

call_command("migrate", check_unapplied=True, verbosity=0)
with by_itself():
    DeviceGroup.objects.create(name="made by the registry")
print(origin())
call_command("migrate", "devices", "0034_kinds_of_events_by_name", verbosity=0)
print(origin())
call_command("migrate", verbosity=0)
"""


def test_a_database_of_an_earlier_release_is_upgraded(tmp_path: Path) -> None:
    with own_database(tmp_path) as url:
        server = Server(tmp_path, url)
        cookie = server.run("-m", "tests.support.earlier_release")
        server.manage("migrate", "--verbosity", "0")
        words = ("shell", "--verbosity", "0", "--no-imports", "-c", BACK_AND_FORTH)
        made, back = server.manage(*words).split()
        assert made == "registry"
        assert back == "shell", "the release before knows no other"

        with server:
            assert b'"code":"OK"' in server.ask("POST", "/deviceverifier", TAKEN).body
            signed_in = {"Cookie": f"sessionid={cookie}"}

            def page(address: str) -> str:
                answer = server.ask("GET", f"/admin/{address}", headers=signed_in)
                assert answer.status == 200, address
                return answer.body.decode()

            assert "Hall lamp" in page("devices/device/")
            assert page("devices/device/1/history/").count("before the upgrade") >= 2
            assert earlier_release.IDENTIFIER in page("rpc/callrecord/?period=all")
            assert "/v1/*" in page("acl/commandpermission/")
