"""The admin's pages that import and export."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from devices.admin import import_export
from devices.admin.base import changelist
from devices.admin.base.reauthentication import CONFIRMED_AT
from devices.history import all_histories, history_of
from devices.models import Device, DeviceGroup, PreSharedKey
from devices.transfer import tables
from devices.transfer.columns import columns_of
from devices.transfer.formats import Format
from tests.devices.test_commands import verified
from tests.devices.transfer.test_exporting import csv_rows
from tests.support import pki
from tests.support.staff import browser_of, staff

Factory = Callable[..., Device]
NEEDED = ("add_device", "change_device", "view_device")
GOOD = "identifier,name,groups\na,A,Roof\nb,B,\n"

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]


@pytest.fixture
def page() -> str:
    return reverse("admin:devices_device_import")


def sent(client: Client, page: str, content: str | bytes, name: str = "d.csv", **more: Any) -> Any:
    """Post a file as a form does; return the answer."""
    data = content.encode() if isinstance(content, str) else content
    return client.post(page, {"file": SimpleUploadedFile(name, data), **more})


def token(answer: Any) -> str:
    """Return the preview that a page lets its user confirm."""
    found = re.search(r'name="confirmed" value="([^"]+)"', answer.content.decode())
    assert found
    return found[1]


def test_a_preview_writes_nothing_and_a_confirmed_one_does(
    admin_client: Client, page: str, make_device: Factory
) -> None:
    make_device("a", name="Old")
    more = {"create_groups": "on"}
    answer = sent(admin_client, page, GOOD, **more)
    assert (
        answer.context["counts"] | {"new": 1, "changed": 1, "groups_new": 1}
        == (answer.context["counts"])
    )
    assert "name, groups" in answer.content.decode()
    assert Device.objects.get().name == "Old"

    answer = sent(admin_client, page, GOOD, confirmed=token(answer), **more)
    assert answer.url == reverse("admin:devices_device_changelist")
    assert set(Device.objects.values_list("identifier", "name")) == {("a", "A"), ("b", "B")}
    changes = history_of(Device).objects.filter(origin="import")
    assert set(
        changes.values_list(
            "identifier", "history_type", "history_user_id", "history_change_reason"
        )
    ) == {("a", "~", "admin", "d.csv"), ("b", "+", "admin", "d.csv")}


def test_generated_secrets_are_the_answer_to_the_import_and_nowhere_else(
    admin_client: Client, page: str
) -> None:
    more = {"create_groups": "on", "generate": "on"}
    preview = sent(admin_client, page, GOOD, **more)
    answer = sent(admin_client, page, GOOD, confirmed=token(preview), **more)

    assert "attachment" in answer["Content-Disposition"]
    assert "no-store" in answer["Cache-Control"]
    found = {row["identifier"]: row["secret"] for row in csv_rows(answer.getvalue())}
    assert found.keys() == {"a", "b"}
    assert all(verified(identifier, secret) for identifier, secret in found.items())
    recorded = str([list(changes.objects.values()) for changes in all_histories()])
    assert "'b'" in recorded
    assert not any(secret in recorded for secret in found.values())
    again = sent(admin_client, page, GOOD, **more)
    assert "nothing to import" in again.content.decode()


def test_errors_are_listed_by_row_and_column(admin_client: Client, page: str) -> None:
    content = "identifier,enabled\na,true\nb c,maybe\n<b>,\n"
    text = sent(admin_client, page, content).content.decode()
    assert "The file has 2 errors" in text
    assert "<td>3</td><td>enabled</td>" in text
    assert "Import</button>" not in text
    assert "<td>3</td><td>identifier</td>" in text
    assert "It says “maybe”." in text
    assert not Device.objects.exists()


def test_an_error_of_many_rows_is_listed_once(admin_client: Client, page: str) -> None:
    rows = [f"d{n},{'Cellar' if n == 4 else 'Roof'}" for n in range(9)]
    text = sent(admin_client, page, "\n".join(["identifier,groups", *rows])).content.decode()
    assert "The file has 9 errors" in text
    assert "<td>2–5, 7–10</td><td>groups</td>" in text
    assert "<td>6</td><td>groups</td>" in text
    assert "tick “Create groups that do not exist” above" in text
    assert "more." not in text


def test_an_import_says_how_many_and_offers_to_undo_it(admin_client: Client, page: str) -> None:
    more = {"create_groups": "on"}
    confirmed = token(sent(admin_client, page, GOOD, **more))
    file = SimpleUploadedFile("d.csv", GOOD.encode())
    text = admin_client.post(
        page, {"file": file, "confirmed": confirmed, **more}, follow=True
    ).content.decode()
    assert "was imported. Devices: 2 new, 0 changed." in text
    undo = re.findall(r'<a href="([^"]+)">Undo…</a>', text)[0]
    admin_client.post(undo)
    assert not Device.objects.exists()
    assert admin_client.get(undo).context["left"] == [], "what was created is gone, as before"


def test_markup_in_a_file_stays_text(admin_client: Client, page: str) -> None:
    text = sent(admin_client, page, "identifier,<script>\n").content.decode()
    assert "&lt;script&gt;" in text
    text = sent(admin_client, page, "identifier\n<script>x</script>\n").content.decode()
    assert "<script>x" not in text


@pytest.mark.parametrize(
    ("content", "name", "complaint"),
    [
        (b"identifier,secrte\n", "d.csv", "no column “secrte”"),
        (b"PK", "d.xlsx", "no XLSX workbook"),
        (b"x", "d.ods", "does not tell its format"),
        (b"", "d.csv", "The submitted file is empty"),
    ],
)
def test_a_file_that_is_none_is_refused(
    admin_client: Client, page: str, content: bytes, name: str, complaint: str
) -> None:
    assert complaint in sent(admin_client, page, content, name).content.decode()


def test_an_upload_stays_in_memory_and_within_bounds(
    admin_client: Client, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_disk(*args: Any, **options: Any) -> None:
        raise AssertionError("a temporary file")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", to_disk)
    monkeypatch.setattr("django.core.files.uploadedfile.TemporaryUploadedFile.__init__", to_disk)
    rows = "".join(f"device-{number},{'x' * 1000}\n" for number in range(2700))
    large = f"identifier,description\n{rows}"
    assert len(large) > 2_621_440  # what goes to the disk otherwise
    assert sent(admin_client, page, large).context["counts"]["new"] == 2700
    monkeypatch.setattr(import_export, "MAX_BYTES", 1024 * 1024)
    assert "larger than 1 MiB" in sent(admin_client, page, large).content.decode()


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (GOOD.replace("B", "C"), {"create_groups": "on"}),  # another file
        (GOOD, {"create_groups": "on", "generate": "on"}),  # other choices
    ],
)
def test_what_was_not_previewed_is_not_imported(
    admin_client: Client, page: str, content: str, more: dict[str, str]
) -> None:
    confirmed = token(sent(admin_client, page, GOOD, create_groups="on"))
    answer = sent(admin_client, page, content, confirmed=confirmed, **more)
    assert "changed since the preview" in answer.content.decode()
    assert not Device.objects.exists()


def test_a_preview_is_void_when_the_registry_changed(
    admin_client: Client, page: str, make_device: Factory
) -> None:
    confirmed = token(sent(admin_client, page, GOOD, create_groups="on"))
    make_device("b")
    answer = sent(admin_client, page, GOOD, create_groups="on", confirmed=confirmed)
    assert "changed since the preview" in answer.content.decode()
    assert Device.objects.count() == 1
    answer = sent(admin_client, page, GOOD, create_groups="on", confirmed="forged")
    assert "changed since the preview" in answer.content.decode()


def test_a_preview_is_its_users_own(admin_client: Client, page: str) -> None:
    confirmed = token(sent(admin_client, page, "identifier\na\n"))
    answer = sent(browser_of(staff(*NEEDED)), page, "identifier\na\n", confirmed=confirmed)
    assert "changed since the preview" in answer.content.decode()


def test_a_form_from_elsewhere_is_refused(page: str, admin_user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert sent(client, page, GOOD).status_code == 403
    client.get(page)
    answer = sent(client, page, GOOD, csrfmiddlewaretoken=client.cookies["csrftoken"].value)
    assert answer.status_code == 200


@pytest.mark.parametrize("held", [(), ("view_device",), ("view_device", "add_device")])
def test_importing_needs_adding_and_changing(page: str, held: tuple[str, ...]) -> None:
    client = browser_of(staff(*held))
    assert client.get(page).status_code == 403
    assert sent(client, page, GOOD).status_code == 403
    template = reverse("admin:devices_device_import_template")
    assert client.get(template).status_code == 403
    if held:
        assert page not in client.get(reverse("admin:devices_device_changelist")).content.decode()


PEM = pki.issue("a").pem.replace("\n", "\\n")


@pytest.mark.parametrize(
    ("line", "more", "permission", "complaint"),
    [
        ('"secret":"correct horse battery"', {}, "add_presharedkey", "register secrets"),
        ('"name":"x"', {"generate": "on"}, "add_presharedkey", "register secrets"),
        (f'"certificate":"{PEM}"', {}, "add_certificate", "register certificates"),
        ('"groups":"New"', {"create_groups": "on"}, "add_devicegroup", "create groups"),
    ],
)
def test_what_comes_with_devices_needs_permissions_of_its_own(
    page: str,
    line: str,
    more: dict[str, str],
    permission: str,
    complaint: str,
) -> None:
    content = f'{{"identifier":"a",{line}}}'
    answer = sent(browser_of(staff(*NEEDED)), page, content, "d.ndjson", **more)
    assert complaint in answer.content.decode()
    assert not Device.objects.exists()
    answer = sent(
        browser_of(staff(*NEEDED, permission, name="sam")), page, content, "d.ndjson", **more
    )
    assert token(answer)


def test_secrets_are_issued_to_who_has_just_shown_who_they_are(
    admin_client: Client, page: str
) -> None:
    session = admin_client.session
    session[CONFIRMED_AT] = 0
    session.save()
    text = sent(admin_client, page, "identifier\na\n", generate="on").content.decode()
    assert f"{reverse('admin:confirm_identity')}?next={page}" in text
    assert "Import</button>" not in text
    assert token(sent(admin_client, page, "identifier\na\n"))


def test_an_import_tells_nobody_whether_a_secret_is_right_who_may_not_add_one(
    page: str, make_device: Factory
) -> None:
    PreSharedKey.objects.register(device=make_device("a"), secret="the right one")
    client = browser_of(staff(*NEEDED))
    answers = [
        sent(client, page, f"identifier,secret\na,{secret}\n").context
        for secret in ("the right one", "a wrong one")
    ]
    assert [answer["upload"].refusal for answer in answers] == [
        "You may not issue or register secrets."
    ] * 2
    assert answers[0]["counts"] == answers[1]["counts"]


def test_a_post_without_a_file_is_told_so(admin_client: Client, page: str) -> None:
    answer = admin_client.post(page, "a=b", content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 200
    assert answer.context["form"].errors["file"]


def test_changing_groups_needs_its_permission(
    page: str, make_group: Callable[..., DeviceGroup]
) -> None:
    make_group("g")
    answer = sent(browser_of(staff(*NEEDED)), page, "group,description\ng,new\n")
    assert "You may not change groups" in answer.content.decode()


@pytest.mark.parametrize("kind", Format)
@pytest.mark.parametrize("table", ["devices", "groups"])
def test_templates_are_downloaded(admin_client: Client, table: str, kind: Format) -> None:
    url = reverse("admin:devices_device_import_template")
    answer: Any = admin_client.get(url, {"table": table, "format": kind})
    assert f'filename="{table}.{kind}"' in answer["Content-Disposition"]
    assert answer.getvalue()


# --- Out ------------------------------------------------------------------------------------


def exported(client: Client, **query: str) -> list[str]:
    answer: Any = client.get(reverse("admin:devices_device_export"), {"format": "csv", **query})
    assert "attachment" in answer["Content-Disposition"]
    return [row["identifier"] for row in csv_rows(answer.getvalue())]


def test_the_list_is_exported_as_it_is_filtered_and_searched(
    admin_client: Client,
    make_device: Factory,
    make_group: Callable[..., DeviceGroup],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roof = make_group("Roof")
    PreSharedKey.objects.issue(device=make_device("a", groups=[roof]))
    make_device("b", name="lamp", kind="backend")
    make_device("c", name="lamp", groups=[roof, make_group("Site")])

    assert exported(admin_client) == ["a", "b", "c"]
    assert exported(admin_client, q="lamp") == ["b", "c"]
    assert exported(admin_client, q="lamp", kind__exact="device") == ["c"]
    assert exported(admin_client, groups__id__exact=str(roof.pk), o="-1", p="1") == ["a", "c"]
    room = make_group("Room", parent=roof)
    make_device("d", groups=[room, roof])
    make_device("e", groups=[room])
    assert exported(admin_client, group=f"{roof.pk}-or-below") == ["a", "c", "d", "e"]
    Device.objects.filter(identifier__in="de").delete()
    for module in (changelist, import_export):
        monkeypatch.setattr(module, "MAX_LISTED", 1)  # more than the list's pages reach
    assert exported(admin_client, q="lamp", credentials="none") == ["b", "c"]
    assert exported(admin_client, groups__id__exact=str(roof.pk)) == ["a", "c"]
    listed = admin_client.get(reverse("admin:devices_device_changelist"), {"q": "lamp"})
    monkeypatch.undo()
    link = reverse("admin:devices_device_export") + "?q=lamp"
    assert link in listed.content.decode()
    page = admin_client.get(link).content.decode()
    assert "as it is filtered: 2 devices." in page
    assert '<input type="hidden" name="q" value="lamp">' in page


@pytest.mark.parametrize("kind", Format)
def test_every_format_is_a_file_to_save(
    admin_client: Client, make_device: Factory, kind: Format
) -> None:
    make_device("a")
    answer: Any = admin_client.get(reverse("admin:devices_device_export"), {"format": kind})
    assert answer["Content-Type"] == kind.content_type
    assert answer["Content-Disposition"].startswith('attachment; filename="devices-')
    content = answer.getvalue()
    if kind == Format.XLSX:
        assert (answer["X-Row-Count"], answer["Content-Length"]) == ("1", str(len(content)))
    found = list(tables.read(content, kind, columns_of))
    assert [record.cells["identifier"] for record in found] == ["a"]


def test_a_filter_that_is_none_leads_back_to_the_list(admin_client: Client) -> None:
    answer = admin_client.get(reverse("admin:devices_device_export"), {"nonsense": "1"})
    assert answer.status_code == 302


def test_too_many_for_a_sheet_is_said_on_the_page(
    admin_client: Client, make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_device("a")
    monkeypatch.setattr("devices.transfer.workbooks.MAX_WRITTEN_ROWS", 0)
    answer = admin_client.get(reverse("admin:devices_device_export"), {"format": "xlsx"})
    assert "use CSV" in answer.content.decode()


@pytest.mark.parametrize(
    ("wanted", "separator"), [(",", ","), (";", ";"), ("\t", "\t"), ("x", ","), ("", ",")]
)
def test_csv_is_exported_as_the_spreadsheet_wants_it_and_read_again(
    admin_client: Client, make_device: Factory, wanted: str, separator: str
) -> None:
    make_device("a", name="b;c,d")
    page = reverse("admin:devices_device_export")
    answer = admin_client.get(page, {"format": "csv", "separator": wanted})
    content = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
    header = content.decode("utf-8-sig").splitlines()[0]
    assert header.startswith(f"identifier{separator}kind{separator}name")
    (row,) = tables.read(content, Format.CSV, columns_of)
    assert (row.cells["identifier"], row.cells["name"]) == ("a", "b;c,d")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("group", "999"),
        ("group", "roof"),
        ("group", "999-or-below"),
        ("groups__id__exact", "999"),
        ("kind__exact", "fridge"),
        ("credentials", "lost"),
        ("seen", "1y"),
    ],
)
def test_a_filter_by_what_is_not_there_exports_nothing(
    name: str, value: str, admin_client: Client, make_device: Factory
) -> None:
    make_device("a")
    page = reverse("admin:devices_device_export")
    for wanted in ({}, {"format": "csv"}, {"format": "xlsx"}):
        answer = admin_client.get(page, {name: value, **wanted})
        assert "Content-Disposition" not in answer
        shown = answer.content.decode()
        assert "Nothing was exported" in shown
        assert f": {value})" in shown


def test_exporting_needs_viewing(make_device: Factory) -> None:
    make_device("a")
    page = reverse("admin:devices_device_export")
    assert browser_of(staff("view_presharedkey")).get(page).status_code == 403
    assert exported(browser_of(staff("view_device", name="sam"))) == ["a"]
