"""What a command changes says why, in the history and in events, as what pages change does."""

from pathlib import Path

import pytest

from authsite.accounts.tokens.models import ApiToken
from devices.events.models import Event
from tests.support.commands import run
from tests.support.pki import authority, device_certificate, revocation_list

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

ROOT = authority("Root")
LEAF = device_certificate("sensor-1", ROOT)
FILES = {
    "root.pem": ROOT.pem,
    "leaf.pem": LEAF.pem,
    "list.pem": revocation_list(ROOT).decode(),
    "fleet.csv": "identifier\nsensor-2\n",
    "permissions.yaml": "format: 1\ngroups: [{name: Roof}]\ncommand_sets: []\npermissions: []\n",
    "rtio.yaml": '{"format": 1, "routes": [{"uri": "/aa", "url": "http://x/"}], "servers": []}',
}
CHANGES = [
    "add_device sensor-1",
    "change_device sensor-1 --name Lamp",
    "add_key sensor-1",
    "change_key sensor-1 --label spare",
    "rotate_key sensor-1",
    "revoke_key sensor-1 --all",
    "add_certificate sensor-1 leaf.pem",
    "revoke_certificate sensor-1 --all",
    "add_trust_anchor Root root.pem",
    "change_trust_anchor Root --disable",
    "load_crl Root list.pem",
    "import_permissions permissions.yaml",
    "add_to_group Roof sensor-1",
    "import_rtio rtio.yaml",
    "permit --source sensor-1 --destination group:Roof --command /v1/X",
    "delete_rule 1",
    "disable_device sensor-1",
    "add_assertion sensor-1_may_/v1/X_sensor-1",
    "delete_assertion sensor-1_may_/v1/X_sensor-1",
    "create_user kim --role Viewer",
    "set_roles kim Operator",
    "create_token kim t --read-only",
    "end_token TOKEN",
    "disable_user kim",
    "enable_user kim",
    "create_service_account line-3 --answerable kim --role Viewer --purpose tests",
]


def test_a_command_says_why_it_was_given(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    for line in CHANGES:
        words = [str(tmp_path / one) if one in FILES else one for one in line.split()]
        words = [one.replace("_may_", " may ").replace("/X_", "/X ") for one in words]
        words = [ApiToken.objects.get().identifier if one == "TOKEN" else one for one in words]
        before = Event.objects.count()
        run(*words, "--reason", "ticket 7", stdin="a password that is long\n")

        reasons = {event.data["reason"] for event in Event.objects.order_by("pk")[before:]}
        assert reasons == {f"{words[0]}: ticket 7"}, line


def test_an_import_of_devices_names_its_file_and_why(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text(FILES["fleet.csv"])
    run("import_devices", str(path), "--reason", "line 3")

    assert Event.objects.get(kind="device.created").data["reason"] == "fleet.csv: line 3"


def test_a_reason_that_does_not_fit_is_refused_before_anything_is_done() -> None:
    _, complaint = run("add_device", "sensor-1", "--reason", "x" * 255, code=1)

    assert "a reason has at most 255" in complaint
    assert not Event.objects.exists()
