"""Long work: asked for, done whole or not at all, followed and cancelled."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from acl.models import Assertion
from authsite.accounts.tokens.models import ApiToken
from devices.authentication import authenticate
from devices.background import jobs
from devices.models import Device, DeviceGroup, Job, PreSharedKey
from devices.models.job import LEASE, MAX_ATTEMPTS, JobState
from devices.transfer.importing import Import, Progress
from tests.devices.api.conftest import Client, account
from tests.devices.api.test_devices import Lab

pytestmark = pytest.mark.django_db
JOBS = "/api/v1/jobs"
SECRET = "0123456789abcdefghijklmnopqrstuv"
FILE = f"identifier,groups,secret\none,lab,{SECRET}\ntwo,,\n".encode()


def upload(client: APIClient, query: str = "format=csv", body: bytes = FILE) -> Any:
    return client.post(
        f"{JOBS}/import-devices?{query}", body, content_type="application/octet-stream"
    )


def delete(client: APIClient, body: Any, query: str = "") -> Any:
    return client.post(f"{JOBS}/delete-devices{query}", body, format="json")


def finished(client: APIClient, asked: Any) -> dict[str, Any]:
    """Do the job that was asked for, and return what is told of it."""
    assert asked.status_code == 202, asked.data
    assert jobs.worker.run_one()
    told: dict[str, Any] = client.get(asked["Location"]).json()
    return told


def test_imports_a_file_and_forgets_it(api: APIClient) -> None:
    asked = upload(api, "format=csv&create_groups=true&random=true")
    assert asked.data["state"] == "waiting"
    stored = Job.objects.get()
    assert SECRET.encode() not in bytes(stored.content or b"")
    job = finished(api, asked)
    assert (job["state"], job["error"]) == ("done", "")
    assert (job["result"]["new"], job["result"]["secrets"]) == (2, 1)
    assert (job["done"], job["total"]) == (2, 2)  # whatever was told last while it ran
    assert authenticate("one", secret=SECRET).verified
    assert set(Device.history.values_list("origin", "history_user_id")) == {("api", "admin")}
    stored.refresh_from_db()
    assert (stored.content, stored.parameters) == (None, {})
    assert not jobs.worker.run_one()


def test_says_what_is_wrong_with_a_file(api: APIClient) -> None:
    job = finished(api, upload(api, body=b"identifier,kind\na b,device\nc,toaster\n"))
    assert (job["state"], job["result"]["errors_total"]) == ("failed", 2)
    assert [error["row"] for error in job["result"]["errors"]] == [2, 3]
    assert not Device.objects.exists()


def test_deletes_only_the_devices_that_were_shown(api: APIClient, make_device: Any) -> None:
    one = make_device("lab-1")
    body: dict[str, Any] = {"identifier_prefix": "lab-", "expected": 1}
    shown = delete(api, body, "?validate_only=true").json()["result"]["digest"]
    one.delete()
    other = make_device("lab-2")
    moved = delete(api, {**body, "digest": shown})
    assert (moved.status_code, moved.json()["code"]) == (409, "moved")
    shown = delete(api, body, "?validate_only=true").json()["result"]["digest"]
    assert finished(api, delete(api, {**body, "digest": shown}))["result"] == {"deleted": 1}
    assert not Device.objects.filter(pk=other.pk).exists()


def test_only_checks_where_that_is_asked(api: APIClient) -> None:
    job = finished(api, upload(api, "format=csv&create_groups=true&dry_run=true"))
    assert (job["state"], job["result"]["imported"], job["result"]["new"]) == ("done", False, 2)
    assert not Device.objects.exists()


REFUSED: list[tuple[str, Callable[[APIClient], Any], int, str]] = [
    ("no format", lambda api: upload(api, ""), 400, "parameter"),
    ("unknown format", lambda api: upload(api, "format=doc"), 400, "parameter"),
    ("no truth", lambda api: upload(api, "format=csv&random=yes"), 400, "parameter"),
    ("empty", lambda api: upload(api, body=b""), 400, "invalid"),
    ("no choice", lambda api: delete(api, {"expected": 1}), 400, "invalid"),
    ("long JSON", lambda api: delete(api, {"identifier_prefix": "x" * 2**22}), 413, "too-large"),
    ("no count", lambda api: delete(api, {"identifier_prefix": "x"}), 400, "invalid"),
    (
        "another count",
        lambda api: delete(api, {"identifier_prefix": "x", "expected": 1}),
        409,
        "unexpected-count",
    ),
]


@pytest.mark.parametrize(
    ("name", "ask", "status", "code"), REFUSED, ids=[one[0] for one in REFUSED]
)
def test_refuses(api: APIClient, name: str, ask: Any, status: int, code: str) -> None:
    answer = ask(api)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not Job.objects.exists()


def test_deletes_what_was_counted(api: APIClient, make_device: Any, make_group: Any) -> None:
    group = make_group()
    for number in range(3):
        make_device(f"old-{number}", groups=[group])
    make_device("new", groups=[group])
    asked = delete(api, {"group": group.pk, "identifier_prefix": "old-", "expected": 3})
    make_device("old-later", groups=[group])
    job = finished(api, asked)
    assert (job["state"], job["result"]) == ("done", {"deleted": 3})
    assert (job["done"], job["total"]) == (3, 3)
    assert [str(one) for one in Device.objects.all()] == ["new", "old-later"]


def test_deletes_what_is_in_the_groups_below(
    api: APIClient, make_device: Any, make_group: Any
) -> None:
    site = make_group("site")
    make_device("a", groups=[site, make_group("room", parent=site)])
    make_device("b", groups=[DeviceGroup.objects.get(name="room")])
    make_device("c")
    job = finished(api, delete(api, {"group_or_below": site.pk, "expected": 2}))
    assert (job["state"], job["result"]) == ("done", {"deleted": 2})
    assert [str(one) for one in Device.objects.all()] == ["c"]


def test_asks_before_an_assertion_breaks(api: APIClient, make_device: Any, make_group: Any) -> None:
    group = make_group("lab")
    make_device("a", groups=[group])
    make_device("b")
    Assertion.objects.create(text="a may not /v1/Config.Set b")
    job = finished(api, delete(api, {"group": group.pk, "expected": 1}))
    assert job["state"] == "failed"
    broken = job["result"]["consequences"][0]["broken_assertions"]
    assert [one["text"] for one in broken] == ["a may not /v1/Config.Set b"]
    assert Device.objects.count() == 2
    meant = "?accept_broken_assertions=true"
    assert finished(api, delete(api, {"group": group.pk, "expected": 1}, meant))["state"] == "done"
    assert Device.objects.count() == 1


def test_cancels_what_waits_and_what_runs(
    api: APIClient, make_device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_device("old")
    body = {"identifier_prefix": "old", "expected": 1}
    waiting = delete(api, body)
    assert api.post(f"{waiting['Location']}/cancel").data["state"] == "cancelled"
    assert not jobs.worker.run_one()
    running = delete(api, body)

    def beat(self: jobs.ProgressWriter, step: Progress) -> None:
        api.post(f"{running['Location']}/cancel")
        self._write()
        if self._is_cancelled.is_set():
            raise jobs.Cancelled

    monkeypatch.setattr(jobs.ProgressWriter, "tell", beat)
    job = finished(api, running)
    assert job["state"] == "cancelled"
    assert Device.objects.exists()
    again = api.post(f"{running['Location']}/cancel")
    assert again.data["state"] == "cancelled"


def test_tells_how_far_it_is(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, int | None]] = []
    write = jobs.ProgressWriter._write

    def beat(self: jobs.ProgressWriter, step: Progress) -> None:
        self._step = step
        write(self)
        told = api.get(asked["Location"]).json()
        seen.append((told["state"], told["stage"], told["done"]))

    asked = upload(api, "format=csv&create_groups=true&random=true")
    monkeypatch.setattr(jobs.ProgressWriter, "tell", beat)
    finished(api, asked)
    assert {stage for _state, stage, _done in seen} == {"check", "prepare", "write"}
    assert {state for state, _stage, _done in seen} == {"running"}
    assert seen[-1][2] == (None if connection.vendor == "sqlite" else 2)


def test_says_at_once_that_it_begins_to_write(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    write = Import.write

    def written(self: Import) -> None:
        told.append(api.get(asked["Location"]).json())
        write(self)

    monkeypatch.setattr(jobs.ProgressWriter, "_run", lambda _self: None)
    monkeypatch.setattr(Import, "write", written)
    asked = upload(api, "format=csv&create_groups=true&random=true")
    finished(api, asked)
    done = None if connection.vendor == "sqlite" else 0
    assert (told[0]["stage"], told[0]["done"], told[0]["total"]) == ("write", done, 2)


def test_another_process_takes_over_and_gives_up_in_the_end(
    api: APIClient, make_device: Any
) -> None:
    make_device("old")
    asked = delete(api, {"identifier_prefix": "old", "expected": 1})
    now = timezone.now()
    first = Job.objects.claim(now)
    assert first is not None
    assert Job.objects.claim(now) is None
    later = now + LEASE + timedelta(seconds=1)
    second = Job.objects.claim(later)
    assert second is not None
    jobs.do(first)  # it wakes up again, and is too late
    assert Device.objects.exists()
    assert api.get(asked["Location"]).json()["state"] == "running"
    for attempt in range(2, MAX_ATTEMPTS + 1):
        later += LEASE + timedelta(seconds=1)
        claimed = Job.objects.claim(later)
        assert (claimed is None) == (attempt == MAX_ATTEMPTS)
    assert api.get(asked["Location"]).json()["state"] == "failed"


def test_does_no_more_than_was_granted_then_and_is_held_now(
    client_of: Client, make_device: Any
) -> None:
    robot = account("robot", ["devices.add_device", "devices.change_device"])
    client = client_of(robot)
    job = finished(client, upload(client, "format=csv&random=true", FILE.replace(b"lab", b"")))
    assert job["state"] == "failed"
    assert "devices.add_presharedkey" in job["error"]
    plain = b"identifier\none\n"
    asked = upload(client, body=plain)
    User.objects.filter(pk=robot.pk).update(is_active=False)
    assert finished(client, asked)["state"] == "failed"
    assert not Device.objects.exists()


def test_what_is_withdrawn_meanwhile_is_not_done(client_of: Client, make_device: Any) -> None:
    make_device("old")
    body = {"identifier_prefix": "old", "expected": 1}
    may = "devices.delete_device"
    robot = account("robot", ["devices.view_device", may])
    client = client_of(robot)
    asked = delete(client, body)
    robot.user_permissions.remove(Permission.objects.get(codename="delete_device"))
    job = finished(client, asked)
    assert (job["state"], may in job["error"]) == ("failed", True)
    owner = account("owner", [may])
    owner.is_staff = True
    owner.save()
    for end in (
        lambda token: token.revoke(by="kim", reason="leaked"),
        lambda token: ApiToken.objects.filter(pk=token.pk).revoke(by="kim"),
        lambda token: ApiToken.objects.filter(pk=token.pk).delete(),
        lambda token: token.delete(),
    ):
        token, text = ApiToken.objects.issue(owner=owner, name="ci", scopes=[may])
        leaked = APIClient(HTTP_AUTHORIZATION=f"Bearer {text}")
        waits, runs = (int(delete(leaked, body).json()["id"]) for _ in range(2))
        Job.objects.filter(pk=runs).update(state=JobState.RUNNING)
        end(token)
        assert Job.objects.get(pk=waits).state == JobState.CANCELLED
        assert Job.objects.get(pk=runs).cancel_requested
    assert Device.objects.count() == 1


def test_what_hangs_on_a_device_is_asked_about_again(client_of: Client, make_device: Any) -> None:
    PreSharedKey.objects.issue(device=make_device("old"))
    names = ("devices.view_device", "devices.delete_device", "devices.delete_presharedkey")
    robot = account("robot", [*names])
    asked = delete(client := client_of(robot), {"identifier_prefix": "old", "expected": 1})
    robot.user_permissions.remove(Permission.objects.get(codename="delete_presharedkey"))
    job = finished(client, asked)
    assert (job["state"], "not do it any more" in job["error"]) == ("failed", True)
    assert Device.objects.count() == PreSharedKey.objects.count() == 1


def asked_by_token(make_device: Any) -> None:
    """Have a token ask for the device `old` to be deleted."""
    make_device("old")
    may = "devices.delete_device"
    owner = account("owner", [may])
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    owner.refresh_from_db()
    _token, text = ApiToken.objects.issue(owner=owner, name="ci", scopes=[may])
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {text}")
    assert delete(client, {"identifier_prefix": "old", "expected": 1}).status_code == 202


@pytest.mark.parametrize("ends", [{"not_after": timezone.now()}, {"is_staff": False}], ids=str)
def test_what_a_token_asked_for_is_not_done_once_it_may_not_be_used(
    ends: dict[str, Any], make_device: Any
) -> None:
    asked_by_token(make_device)
    (User if "is_staff" in ends else ApiToken).objects.update(**ends)
    assert jobs.worker.run_one()
    job = Job.objects.get()
    assert (job.state, "token" in job.error) == (JobState.FAILED, True)
    assert Device.objects.exists()


def test_a_process_without_the_pepper_of_the_token_does_its_job(make_device: Any) -> None:
    asked_by_token(make_device)
    ApiToken.objects.update(pepper="of another process")
    assert jobs.worker.run_one()
    assert Job.objects.get().state == JobState.DONE
    assert not Device.objects.exists()


def test_a_job_is_seen_by_who_asked_for_it(
    api: APIClient, client_of: Client, make_group: Any
) -> None:
    asked = upload(api)
    other = client_of(account("other", superuser=True))
    assert other.get(asked["Location"]).status_code == 404
    assert other.get(JOBS).json()["results"] == []


class Narrow(Lab):
    """A grant whose every permission is narrowed."""

    def permits(self, permission: str) -> bool:
        return True

    def narrows(self, permission: str) -> bool:
        return True


def test_a_token_that_is_kept_to_a_group_imports_nothing(
    client_of: Client, make_device: Any, make_group: Any
) -> None:
    group = make_group()
    inside = make_device("old-in", groups=[group])
    make_device("old-out")
    grant = Narrow(group)
    client = client_of(account("robot", superuser=True), grant)
    assert upload(client).status_code == 403
    assert delete(client, {"identifier_prefix": "old", "expected": 2}).status_code == 409
    job = finished(client, delete(client, {"identifier_prefix": "old", "expected": 1}))
    assert job["result"] == {"deleted": 1}
    assert grant.spent == 1
    assert not Device.objects.filter(pk=inside.pk).exists()


def test_bounds_what_waits(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devices.api.jobs.MAX_UNFINISHED", 1)
    assert upload(api).status_code == 202
    assert upload(api).json()["code"] == "too-many"
