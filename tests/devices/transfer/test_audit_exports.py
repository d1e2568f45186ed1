"""Exports of changes and of calls for auditors: complete or not at all, and without secrets."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.db.models import Q
from django.utils import timezone

from authsite.accounts.tokens.models import ApiToken
from devices import history
from devices.admin.base import history as history_pages
from devices.history import timeline
from devices.models import Device, PreSharedKey
from devices.transfer import exporting
from devices.transfer.formats import Format
from rpc import exporting as calls
from rpc.models import BUCKET, CallCount, CallKey, CallRecord
from tests.support.commands import run
from tests.support.staff import browser_of, staff

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def cells(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


@pytest.fixture
def changed(make_device: Any, make_group: Any) -> dict[str, str]:
    """Make some changes; return what no export may show."""
    with history.origin(history.Origin.ADMIN, user="kim", reason="=1+1"):
        device = make_device("lamp", name="Lamp", groups=[make_group("lab")])
        device.name = "Lantern"
        device.save()
        key, secret = PreSharedKey.objects.issue(device=device)
    admin = User.objects.create_superuser("root")
    token, text = ApiToken.objects.issue(owner=admin, name="ci", scopes=["devices.view_device"])
    return {"secret": secret, "digest": key.digest, "token": text, "token digest": token.digest}


@pytest.fixture
def called() -> None:
    """Count calls in three hours."""
    tallies = {}
    for ago in range(3):
        start = (NOW - timedelta(hours=ago)).timestamp()
        for number in range(3):
            key = CallKey(
                int(start) // BUCKET, "verifier", "credential", "backend", f"lamp-{number}",
                "", "", "verified" if number else "wrong-secret",
            )  # fmt: skip
            tallies[key] = CallCount(ago + 1, start, start + 5)
    CallRecord.objects.add(tallies)


def test_changes_say_who_from_where_why_and_what(changed: dict[str, str]) -> None:
    printed, complaint = run("export_changes", "--format", "ndjson")
    rows = lines(printed)
    assert complaint.strip() == f"{len(rows)} changes"
    assert [row["moment"] for row in rows] == sorted((r["moment"] for r in rows), reverse=True)
    renamed = next(row for row in rows if row["change"] == "changed")
    assert renamed["fields"] == [{"field": "Name", "from": "Lamp", "to": "Lantern"}]
    assert (renamed["model"], renamed["subject"]) == ("devices.device", "lamp")
    assert (renamed["by"], renamed["origin"], renamed["reason"]) == ("kim", "admin", "=1+1")
    assert {row["model"] for row in rows} >= {"devices.device_groups", "authsite.apitoken"}
    for what, secret in changed.items():
        assert secret not in printed, what
    table = cells(run("export_changes")[0])
    assert len(table) == len(rows)
    assert {row["fields"] for row in table} >= {"Name: Lamp → Lantern"}
    assert {row["reason"] for row in table} >= {"'=1+1"}  # no formula


def test_a_try_of_a_credential_is_told_as_one(make_device: Any) -> None:
    with history.origin("admin", user="kim"):
        history.record([make_device()], history.ChangeType.TRIED)
    row = lines(run("export_changes", "--format", "ndjson")[0])[0]
    assert (row["change"], row["by"], row["fields"]) == ("tried", "kim", [])


CHOSEN = [
    (["--by", "kim", "--model", "devices.device"], 2),
    (["--model", "devices.device", "--model", "DEVICES.DeviceGroup"], 3),
    (["--origin", "admin", "--model", "devices.presharedkey"], 1),
    (["--by", "root", "--model", "devices.device"], 0),
    (["--until", "2001-01-01"], 0),
    (["--since", "2999-01-01"], 0),
    (["--since", "2001-01-01", "--model", "devices.device"], 2),
]


@pytest.mark.parametrize(("words", "found"), CHOSEN, ids=str)
def test_changes_are_chosen(words: list[str], found: int, changed: dict[str, str]) -> None:
    assert len(lines(run("export_changes", "--json", *words)[0])) == found


def test_calls_are_written_latest_hour_first(called: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(calls, "BATCH", 2)
    printed, complaint = run("export_calls", "--json")
    rows = lines(printed)
    assert complaint.strip() == "9 rows of calls"
    assert [row["hour"][11:13] for row in rows] == ["12"] * 3 + ["11"] * 3 + ["10"] * 3
    assert rows[0]["count"] == 1
    assert rows[0]["first"].startswith("2026-03-01T12:00:00")
    assert [row["subject"] for row in cells(run("export_calls")[0])] == [
        row["subject"] for row in rows
    ]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--since", "2026-03-01T11:30"], 6),
        (["--until", "2026-03-01T11:00"], 3),
        (["--outcome", "refused"], 3),
        (["--about", "lamp-1"], 3),
        (["--caller", "backend", "--question", "credential"], 9),
        (["--caller", "idle"], 0),
        (["--about", "idle"], 0),
    ],
    ids=str,
)
def test_calls_are_chosen(words: list[str], found: int, called: None, make_device: Any) -> None:
    make_device("idle")
    assert len(lines(run("export_calls", "--json", *words)[0])) == found


@pytest.mark.parametrize(
    "words",
    [
        ("export_changes", "--since", "yesterday"),
        ("export_changes", "--since", "2026-02-01", "--until", "2026-01-01"),
        ("export_changes", "--model", "devices.heartbeat"),
        ("export_changes", "--output", "x.xlsx"),
        ("export_calls", "--output", "x.tar"),
        ("export_calls", "--format", "xlsx"),
    ],
    ids=" ".join,
)
def test_what_is_no_export(words: tuple[str, ...], tmp_path: Path) -> None:
    words = tuple(str(tmp_path / word) if word.startswith("x.") else word for word in words)
    run(*words, code=2 if words[1] != "--format" and words[2] != "yesterday" else 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "option", "name"),
    [
        ("export_changes", "--by", "nobody"),
        ("export_calls", "--caller", "other"),
        ("export_calls", "--about", "lamps"),
    ],
)
def test_who_is_not_known_is_named_and_nothing_written(
    command: str, option: str, name: str, changed: dict[str, str], called: None, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    assert name in run(command, option, name, "--output", str(path), code=1)[1]
    assert not path.exists()


@pytest.mark.parametrize("ending", ["csv", "ndjson"])
def test_a_file_is_whole_or_as_it_was(
    ending: str, changed: dict[str, str], called: None, tmp_path: Path, monkeypatch: Any
) -> None:
    latest = timeline.latest

    def broken(where: Any, limit: int, after: Any = None) -> Any:
        if after is not None:
            raise OperationalError("the server went away")
        return latest(where, 2, after)

    def one(_calls: Any) -> Iterator[CallRecord]:
        yield CallRecord.objects.earliest("pk")
        raise OperationalError("the server went away")

    monkeypatch.setattr(timeline, "latest", broken)
    monkeypatch.setattr(calls, "_streamed", one)
    path = tmp_path / f"audit.{ending}"
    path.write_text("of yesterday")
    for command in ("export_changes", "export_calls"):
        run(command, "--output", str(path), code=2)
        assert path.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_long_histories_are_read_in_parts(
    make_device: Any, monkeypatch: Any, django_assert_max_num_queries: Any
) -> None:
    for _ in range(30):
        make_device()
    monkeypatch.setattr(exporting, "BATCH", 10)
    where = {history.history_of(Device): Q()}
    with django_assert_max_num_queries(3 * 4):
        export = exporting.export_changes(where, Format.NDJSON)
    with export.file as file:
        assert len(file.read().splitlines()) == export.rows == 30


PAGES = {"/admin/history/": "changes", "/admin/rpc/callrecord/": "calls"}


@pytest.mark.parametrize("page", PAGES)
def test_pages_hand_out_what_they_list(page: str, changed: dict[str, str]) -> None:
    now = int(timezone.now().timestamp())
    key = CallKey(now // BUCKET, "verifier", "credential", "b", "lamp", "", "", "verified")
    CallRecord.objects.add({key: CallCount(1, now, now)})
    client = browser_of(staff(role="Auditor"))
    assert f"{page}export/?" in client.get(page).content.decode()
    answer = client.get(f"{page}export/", {"format": "ndjson"})
    assert answer["Content-Type"] == "application/x-ndjson"
    assert f'filename="{PAGES[page]}-' in answer["Content-Disposition"]
    body = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
    assert int(answer["Content-Length"]) == len(body)
    assert b"lamp" in body
    for secret in changed.values():
        assert secret.encode() not in body


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("page", "query", "said"),
    [
        ("/admin/history/", "since=soon", "Enter a valid date"),
        ("/admin/history/", "since=2026-02-01&until=2026-01-01", "before the beginning"),
        ("/admin/history/", "origin=moon", "moon"),
        ("/admin/history/", "model=devices.fridge", "devices.fridge"),
        ("/admin/history/", "user=nobody", "“nobody”"),
        ("/admin/rpc/callrecord/", "period=2y", "time: 2y"),
        ("/admin/rpc/callrecord/", "from=soon", "from: soon"),
        ("/admin/rpc/callrecord/", "group=999", "group of the subject: 999"),
        ("/admin/rpc/callrecord/", "outcome__exact=perhaps", "perhaps"),
        ("/admin/rpc/callrecord/", "reason=no-reason", "no-reason"),
    ],
)
def test_pages_hand_out_nothing_where_a_filter_is_wrong(
    page: str, query: str, said: str, changed: dict[str, str], called: None
) -> None:
    answer = browser_of(staff(role="Auditor")).get(f"{page}export/?{query}&format=csv", follow=True)
    assert answer.redirect_chain == [(f"{page}?{query}", 302)]
    shown = answer.content.decode()
    assert "Nothing was exported" in shown
    assert said in shown


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_the_first_and_the_last_day_are_days(day: str, changed: dict[str, str]) -> None:
    client = browser_of(staff(role="Auditor"))
    for name in ("since", "until"):
        assert client.get(f"/admin/history/?{name}={day}").status_code == 200
        answer = client.get(f"/admin/history/export/?{name}={day}")
        assert answer.status_code == 200
        assert b"".join(answer.streaming_content)  # type: ignore[attr-defined]


def test_pages_hand_out_only_what_may_be_seen(changed: dict[str, str]) -> None:
    client = browser_of(staff(role="Operator"))  # who sees the history of devices, not of keys
    body = b"".join(client.get("/admin/history/export/").streaming_content)  # type: ignore[attr-defined]
    models = {row["model"] for row in cells(body.decode())}
    assert "devices.device" in models
    assert not models & {"devices.presharedkey", "authsite.apitoken"}
    User.objects.get(username="kim").groups.clear()
    for page in PAGES:
        assert client.get(f"{page}export/").status_code == 403


def test_too_many_rows_are_left_to_the_command(
    changed: dict[str, str], called: None, monkeypatch: Any
) -> None:
    monkeypatch.setattr(history_pages, "MAX_EXPORTED", 2)
    monkeypatch.setattr("rpc.admin.call_record.MAX_EXPORTED", 2)
    client = browser_of(staff(role="Auditor"))
    for page, query in (("/admin/history/", "by="), ("/admin/rpc/callrecord/", "period=all")):
        answer = client.get(f"{page}export/?{query}&format=csv", follow=True)
        assert answer.redirect_chain == [(f"{page}?{query}", 302)]
        assert "These are more than 2 rows" in answer.content.decode()
