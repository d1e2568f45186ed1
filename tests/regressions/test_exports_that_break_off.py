"""An export that breaks off does not look like a whole file.

When the database went away in the middle, a browser got status 200 and a proper end after 1,001 of
6,222 lines. Streamed exports of other registries have been reported to end so, too. What is
streamed here has no proper end then: tests/contract/test_streams.py sees it over a socket.

A public report of this kind: https://github.com/paradisec-archive/nabu/issues/613.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from devices.models import Device
from devices.models.device import DeviceQuerySet
from devices.transfer import exporting
from devices.transfer.formats import Format
from tests.support.commands import run

EXPORT = "/admin/devices/device/export/"


@pytest.fixture
def breaks_off(make_device: Callable[..., Device], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database go away after the first batch of two."""
    for n in range(3):
        make_device(f"lamp-{n}")
    in_batches = DeviceQuerySet.in_batches

    def broken(devices: DeviceQuerySet, _size: int) -> Iterator[list[Device]]:
        yield next(in_batches(devices, 2))
        raise OperationalError("terminating connection due to administrator command")

    monkeypatch.setattr(DeviceQuerySet, "in_batches", broken)


@pytest.mark.parametrize("kind", Format)
def test_what_fails_before_the_first_piece_is_a_page_that_says_so(
    kind: Format, breaks_off: None, admin_client: Client
) -> None:
    admin_client.raise_request_exception = False
    answer = admin_client.get(EXPORT, {"format": kind})
    assert answer.status_code >= 500
    assert b"lamp-0" not in answer.content


@pytest.mark.parametrize("kind", [Format.CSV, Format.JSON, Format.NDJSON])
def test_what_fails_later_fails_for_who_sends_it(
    kind: Format, breaks_off: None, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PIECE", 1)
    answer: Any = admin_client.get(EXPORT, {"format": kind})
    assert answer.status_code == 200
    assert "Content-Length" not in answer
    with pytest.raises(OperationalError):
        b"".join(answer.streaming_content)


@pytest.mark.parametrize("kind", Format)
def test_the_command_writes_no_part_of_a_file(
    kind: Format, breaks_off: None, tmp_path: Path
) -> None:
    path = tmp_path / f"devices.{kind}"
    path.write_text("of yesterday")
    run("export_devices", "--output", str(path), code=2)
    assert path.read_text() == "of yesterday"


@pytest.mark.parametrize("kind", Format)
def test_the_command_states_the_rows(
    kind: Format, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    for n in range(3):
        make_device(f"lamp-{n}")
    assert "3 devices" in run("export_devices", "--output", str(tmp_path / f"x.{kind}"))[1]
