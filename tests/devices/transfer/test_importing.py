"""Devices, groups and credentials out of files, and the commands that do it."""

import csv
import hmac
import io
import json
import stat
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices import history
from devices.authentication import authenticate
from devices.credentials import hashing
from devices.credentials.hashing import HMAC_CONTEXT
from devices.models import AttributeDefinition, Certificate, Device, DeviceGroup, PreSharedKey
from devices.transfer import group_rows, rows
from devices.transfer.columns import columns_of
from devices.transfer.formats import Format
from devices.transfer.importing import Import
from devices.transfer.rows import Options
from devices.transfer.tables import read
from tests.devices.test_commands import verified
from tests.support import pki
from tests.support.commands import answer, run

Factory = Callable[..., Device]
RANDOM = "mb6bgso4EChvyzA05thF9+wHx1"


def load(
    content: str | bytes | list[dict[str, Any]],
    kind: Format = Format.CSV,
    *,
    write: bool = True,
    most_hashes: int | None = None,
    **options: bool,
) -> Import:
    """Import a file; return what came of it."""
    if isinstance(content, list):
        content, kind = json.dumps(content), Format.JSON
    data = content.encode() if isinstance(content, str) else content
    made = Import(read(data, kind, columns_of), Options(**options), most_hashes=most_hashes)
    made.check()
    if write and made.is_sound:
        made.prepare()
        with history.origin(history.Origin.IMPORT):
            made.write()
    return made


def outcome(made: Import) -> dict[str, int]:
    """Return the counts that are not zero."""
    return {name: number for name, number in made.counts.items() if number}


def problems(made: Import) -> list[tuple[int, str]]:
    return [(problem.row, problem.column) for problem in made.problems]


def members(identifier: str) -> set[str]:
    return set(
        DeviceGroup.objects.filter(devices__identifier=identifier).values_list("name", flat=True)
    )


# --- Devices --------------------------------------------------------------------------------


def test_rows_create_change_or_leave_alone(make_device: Factory) -> None:
    make_device("same", name="Same")
    make_device("other", name="Old", kind="backend", description="kept", attributes={"a": 1})
    content = "identifier,name,enabled\nsame,Same,true\nother,New,no\nnew,,\n"

    assert outcome(load(content)) == {"new": 1, "changed": 1, "unchanged": 1}
    other = Device.objects.get(identifier="other")
    assert (other.name, other.enabled, other.kind, other.description, other.attributes) == (
        *("New", False, "backend", "kept"),
        {"a": 1},
    )
    new = Device.objects.get(identifier="new")
    assert (new.name, new.enabled, new.kind) == ("", True, "device")
    assert outcome(load(content)) == {"unchanged": 3}


def test_only_what_changed_is_touched(make_device: Factory) -> None:
    device = make_device("d", name="Old")
    seen = timezone.now()
    Device.objects.filter(pk=device.pk).update(last_seen=seen, created=seen - timedelta(days=9))
    load("identifier,name\nd,New\n")

    after = Device.objects.get()
    assert (after.pk, after.last_seen, after.created) == (
        device.pk,
        seen,
        seen - timedelta(days=9),
    )
    assert after.updated > device.updated


def test_an_empty_cell_empties_what_can_be_empty(
    make_device: Factory, make_group: Callable[..., DeviceGroup]
) -> None:
    make_device(
        "d", name="n", description="x", attributes={"a": 1}, kind="backend", enabled=False,
        groups=[make_group("g")],
    )  # fmt: skip
    load("identifier,kind,name,groups,enabled,secret,description,attributes\nd,,,,,,,\n")

    device = Device.objects.get()
    assert (device.name, device.description, device.attributes) == ("", "", {})
    assert (device.kind, device.enabled, device.groups.count()) == ("backend", False, 0)


def test_an_identifier_is_an_address_as_everywhere(make_device: Factory) -> None:
    Device.objects.create(identifier="//h/a.b")
    assert outcome(load("identifier,name\n//h/a%2Eb,New\n")) == {"changed": 1}
    made = load("identifier\n//h/a.b\n//h/c%FF\n//h/c%00\n")
    assert "use //h/a" in made.problems[0].message
    assert problems(made) == [(n, "identifier") for n in (2, 3, 4)]


@pytest.mark.parametrize(
    ("line", "column"),
    [
        (",device,,,", "identifier"),
        ("a b,device,,,", "identifier"),
        (f"{'x' * 256},device,,,", "identifier"),
        ("x,gateway,,,", "kind"),
        (f"x,,{'n' * 256},,", "name"),
        ("x,,,,perhaps", "enabled"),
        ("x,,,Nowhere,", "groups"),
        (f"x,,,{'g' * 101},", "groups"),
    ],
)
def test_a_wrong_cell_is_named_and_nothing_is_written(db: None, line: str, column: str) -> None:
    made = load(f"identifier,kind,name,groups,enabled\nfine,,,,\n{line}\n")
    assert problems(made) == [(3, column)]
    assert outcome(made) == {"new": 1, "rejected": 1}
    assert not Device.objects.exists()
    with pytest.raises(ValidationError, match="nothing was imported"):
        made.write()


def test_all_that_is_wrong_with_a_row_is_said_at_once(db: None) -> None:
    made = load("identifier,kind,groups,enabled,secret\nx,gateway,Nowhere,perhaps,ab\n")
    assert sorted(problems(made)) == [(2, "enabled"), (2, "groups"), (2, "kind"), (2, "secret")]
    assert outcome(made) == {"rejected": 1}


WRONG: dict[str, list[Any]] = {
    "attributes": ["x", "[1]", {"a": "\x00"}, {"\ud800": 1}, "{"],
    "name": [1, True, ["x"]],
    "enabled": ["2", 2, [1]],
    "groups": [1, [1], {"a": 1}],
    "kind": [1, "DEVICES"],
    "secret": [12345678, {"a": 1}],
    "secret_until": [1, "soon", "2026-13-01", "2020-01-01"],
    "certificate": [1, "-----BEGIN CERTIFICATE-----"],
}


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in WRONG.items() for value in values],
)
def test_a_wrong_json_value_is_named(db: None, key: str, value: Any) -> None:
    wanted: dict[str, Any] = {"identifier": "x", "secret": "correct horse battery", key: value}
    assert problems(load([wanted], write=False)) == [(1, key)]


def test_attributes_may_hold_what_looks_like_an_escape(db: None) -> None:
    attributes = {"a": "\\u0000", "b": "😀", "c": [1.5, None, {"d": True}]}
    load([{"identifier": "x", "attributes": attributes}])
    assert Device.objects.get().attributes == attributes
    assert outcome(load([{"identifier": "x", "attributes": {**attributes, "c": [1]}}])) == {
        "changed": 1
    }


def test_true_and_one_are_two_values_of_an_attribute(make_device: Factory) -> None:
    make_device("x", attributes={"a": 1})
    assert outcome(load([{"identifier": "x", "attributes": {"a": True}}])) == {"changed": 1}


def test_an_identifier_may_be_in_a_file_once(db: None) -> None:
    made = load("identifier\nx\n//h/a%42\n//h/aB\nx\n")
    assert [problem.message for problem in made.problems] == [
        "The identifier is in row 3 already. It says “//h/aB”.",
        "The identifier is in row 2 already. It says “x”.",
    ]


def test_new_identifiers_that_look_like_others_are_warned_of(make_device: Factory) -> None:
    make_device("Lamp-1")
    make_device("o\u0308l")
    make_device("pump")
    made = load("identifier\nlamp-1\n\xf6l\np\u0443mp-2\nvalve\npump\nVALVE\nPUMP-3\nother\n")
    assert [(warning.row, warning.message) for warning in made.warnings] == [
        (2, "It is easily taken for “Lamp-1”, which is registered."),
        (3, "It is easily taken for “o\u0308l”, which is registered."),
        (4, "The identifier mixes letters of several scripts that look alike."),
        (7, "It is easily taken for the identifier in row 5."),
    ]
    assert load("identifier\nlamp-1\nLamp-1\n").warnings == [], "they are not new"


def test_a_new_backend_that_http_basic_cannot_name_is_warned_of(db: None) -> None:
    (warning,) = load("identifier,kind\nrtio:one,backend\nrtio:two,device\n").warnings
    assert warning.row == 2
    assert "HTTP Basic" in warning.message


@pytest.mark.parametrize("identifier", ["1.0", "TRUE", "8.61234567890123E+17"])
def test_what_a_spreadsheet_may_have_made_is_warned_of(db: None, identifier: str) -> None:
    made = load(f"identifier\n{identifier}\n")
    assert [warning.row for warning in made.warnings] == [2]
    assert outcome(made) == {"new": 1}


def test_problems_are_counted_beyond_what_is_kept(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_PROBLEMS", 2)
    made = load("identifier\n" + "a b\n" * 5)
    assert (len(made.problems), made.problem_total, made.counts["rejected"]) == (2, 5, 5)
    made = load("identifier,secret\n" + "".join(f"d{n},qwerty\n" for n in range(5)), write=False)
    assert (len(made.warnings), made.warning_total, made.is_sound) == (2, 5, True)


def test_what_is_found_late_is_told_in_the_order_of_rows(make_device: Factory) -> None:
    make_device("a")
    made = load("identifier,groups,enabled\na,nowhere,\nb,nowhere,\nc,,perhaps\n")
    assert problems(made) == [(2, "groups"), (3, "groups"), (4, "enabled")]
    assert outcome(made) == {"rejected": 3}


def test_a_file_that_says_nothing_new_has_no_changes(make_device: Factory) -> None:
    make_device("a", name="A")
    assert not load("identifier,name\na,A\n").has_changes
    assert load("identifier,name\na,B\n", write=False).has_changes


def test_who_may_add_no_secrets_imports_the_rest(db: None) -> None:
    def refuse() -> None:
        raise ValidationError("no secrets")

    for content, is_refused in (
        ("identifier\na\n", False),
        (f"identifier,secret\na,{RANDOM}\n", True),
    ):
        made = Import(
            read(content.encode(), Format.CSV, columns_of),
            Options(random=True),
            admit_secrets=refuse,
        )
        with pytest.raises(ValidationError) if is_refused else nullcontext():
            made.check()


def test_a_secret_is_not_kept_beside_its_digest(db: None) -> None:
    made = load([{"identifier": "x", "secret": RANDOM}], random=True)
    assert [entry.secret for entry in made.entries] == [""]


def test_queries_do_not_grow_with_rows(db: None) -> None:
    def queries(count: int) -> int:
        lines = "".join(f"d{count}-{n},g{n % 3},\n" for n in range(count))
        with CaptureQueriesContext(
            connection,
        ) as captured:
            load(f"identifier,groups,name\n{lines}", create_groups=True, generate=True)
            load(f"identifier,groups,name\n{lines.replace('g1', 'g2')}", generate=True)
        return len(captured)

    load("identifier,groups\nx,g0|g1|g2\n", create_groups=True)
    assert queries(40) == queries(4)


def test_refused_values_of_many_devices_are_looked_up_together(make_device: Factory) -> None:
    AttributeDefinition.objects.create(name="floor", type="number")
    names = [make_device().identifier for _ in range(30)]

    def queries(count: int, **said: Any) -> int:
        with CaptureQueriesContext(connection) as captured:
            made = load([{"identifier": name, **said} for name in names[:count]])
        assert made.problem_total == count
        return len(captured)

    for said in ({"attributes": {"floor": "second"}}, {"name": "a\u200bb"}):
        assert queries(30, **said) == queries(3, **said)


def test_what_came_up_since_the_check_stops_the_import(make_device: Factory) -> None:
    made = load("identifier\na\nb\n", write=False)
    make_device("b")
    with pytest.raises(ValidationError, match="since the file was checked: rows 3"):
        made.write()
    assert Device.objects.count() == 1


def test_every_change_is_recorded_as_imported(
    make_device: Factory, make_group: Callable[..., DeviceGroup]
) -> None:
    make_device("changed", name="Old", groups=[make_group("Old")])
    make_device("same")
    content = [
        {"group": "New", "parent": "Old"},
        {"identifier": "changed", "name": "New", "groups": ["New"]},
        {"identifier": "new", "groups": ["Old"], "certificate": pki.issue("new").pem},
        {"identifier": "same", "secret": RANDOM},
    ]
    records = read(json.dumps(content).encode(), Format.JSON, columns_of)
    made = Import(records, Options(random=True))
    made.check()
    made.prepare()
    with history.origin(history.Origin.IMPORT, user="somebody", reason="fleet.json"):
        made.write()

    found = [
        (changes.instance_type.__name__, *row)
        for changes in history.all_histories()
        for row in changes.objects.filter(origin="import").values_list(
            "history_type", "history_user_id", "history_change_reason"
        )
    ]
    assert Counter(found) == {
        (name, kind, "somebody", "fleet.json"): number
        for name, kind, number in [
            ("DeviceGroup", "+", 1),
            ("Device", "+", 1),
            ("Device", "~", 1),
            ("Device_groups", "+", 2),
            ("Device_groups", "-", 1),
            ("Certificate", "+", 1),
            ("PreSharedKey", "+", 1),
        ]
    }


# --- Groups ---------------------------------------------------------------------------------


def test_groups_of_a_device_are_those_of_its_cell(
    make_device: Factory, make_group: Callable[..., DeviceGroup]
) -> None:
    top = make_group("Site")
    make_device("d", groups=[make_group("Roof", parent=top), make_group("Old")])
    made = load("identifier,groups\nd,Site | Roof\n")
    assert outcome(made) == {"changed": 1}
    assert [entry.summary for entry in made.entries] == ["groups"]
    assert members("d") == {"Site", "Roof"}
    assert outcome(load("identifier,groups\nd,Roof|Site|\n")) == {"unchanged": 1}


def test_unknown_groups_are_created_where_that_is_wanted(db: None) -> None:
    content = "identifier,groups\na,New|a\\|b\nb,New\n"
    assert sorted(problems(load(content))) == [(2, "groups"), (2, "groups"), (3, "groups")]
    made = load(content, create_groups=True)
    assert outcome(made) == {"new": 2, "groups_new": 2}
    assert members("a") == {"New", "a|b"}


def test_a_table_of_groups_makes_a_tree_in_any_order(
    make_group: Callable[..., DeviceGroup],
) -> None:
    make_group("Roof", description="old", parent=make_group("Old site"))
    content = "group,parent,description\nRoof,House,new\nHouse,Site,\nSite,,top\nOld site,,\n"
    assert outcome(load(content)) == {
        "groups_new": 2, "groups_changed": 1, "groups_unchanged": 1
    }  # fmt: skip
    roof = DeviceGroup.objects.get(name="Roof")
    assert roof.description == "new"
    assert roof.parent is not None
    assert roof.parent.parent == DeviceGroup.objects.get(name="Site")
    changes = history.history_of(DeviceGroup).objects
    recorded = changes.count()
    assert outcome(load(content)) == {"groups_unchanged": 4}
    assert outcome(load("group\nRoof\n")) == {"groups_unchanged": 1}
    assert changes.count() == recorded


def test_a_parent_and_its_child_may_change_places(make_group: Callable[..., DeviceGroup]) -> None:
    make_group("Below", parent=make_group("Above"))
    load("group,parent\nAbove,Below\nBelow,\n")
    assert DeviceGroup.objects.get(name="Above").parent == DeviceGroup.objects.get(name="Below")


def test_a_group_may_move_below_what_leaves_it(make_group: Callable[..., DeviceGroup]) -> None:
    make_group("Low", parent=make_group("Middle", parent=make_group("Top")))
    load("group,parent\nTop,Low\nMiddle,\n")  # where “Low” stays, no row says so
    tree = dict(DeviceGroup.objects.values_list("name", "parent__name"))
    assert tree == {"Middle": None, "Low": "Middle", "Top": "Low"}


def make_chain(make_group: Callable[..., DeviceGroup], *names: str) -> None:
    parent = None
    for name in names:
        parent = make_group(name, parent=parent)


@pytest.mark.parametrize("lines", [["X,R", "c1,R"], ["c1,R", "X,R"]])
def test_levels_that_leave_a_group_do_not_count_as_it_moves(
    make_group: Callable[..., DeviceGroup], lines: list[str]
) -> None:
    make_group("R")
    make_chain(make_group, "X", *(f"c{level}" for level in range(1, 8)))
    made = load("group,parent\n" + "\n".join(lines))
    assert outcome(made) == {"groups_changed": 2}
    tree = dict(DeviceGroup.objects.values_list("name", "parent__name"))
    assert (tree["X"], tree["c1"], tree["c2"]) == ("R", "R", "c1")
    changes = history.history_of(DeviceGroup).objects.filter(origin="import")
    assert sorted(changes.values_list("name", "parent__name", "history_type")) == [
        ("X", "R", "~"),
        ("c1", "R", "~"),
    ]


def test_a_row_is_wrong_that_moves_too_deep_what_no_row_names(
    make_group: Callable[..., DeviceGroup],
) -> None:
    make_chain(make_group, *(f"A{level}" for level in range(1, 6)))
    make_chain(make_group, "X", *(f"c{level}" for level in range(1, 6)))
    made = load("group,parent\nnew,\nX,A5\nc1,X\nc5,c4\n")
    assert problems(made) == [(3, "parent")]
    assert made.counts["groups_rejected"] == 1
    assert outcome(load("group,parent\nX,A2\n")) == {"groups_changed": 1}


def test_a_row_is_wrong_that_moves_a_group_below_one_that_no_row_names(
    make_group: Callable[..., DeviceGroup],
) -> None:
    make_chain(make_group, "Top", "Middle", "Low")
    assert problems(load("group,parent\nMiddle,Top\nTop,Low\n")) == [(3, "parent")]


@pytest.mark.parametrize(
    ("moved", "message"),
    [
        ({"A": "X"}, "within itself"),
        ({"A": "1", "1": "2", "2": "3", "3": "4", "4": "5", "5": "6", "6": "7"}, "at most 8 deep"),
        ({"A": None}, "does not exist any more"),
    ],
)
def test_a_tree_that_changed_since_the_check_stops_the_import(
    make_group: Callable[..., DeviceGroup], moved: dict[str, str | None], message: str
) -> None:
    groups = {name: make_group(name) for name in "XAY1234567"}
    made = load("group,parent,description\nX,A,\nY,,new\n", write=False)
    assert made.is_sound
    for name, parent in reversed(moved.items()):
        if parent is None:
            groups[name].delete()
        else:
            groups[name].parent = groups[parent]
            groups[name].save()
    with pytest.raises(ValidationError, match=message):
        made.write()
    assert not DeviceGroup.objects.exclude(description="").exists()
    assert DeviceGroup.objects.get(name="X").parent is None


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        (["a,b", "b,a"], [(2, "parent"), (3, "parent")]),
        (["a,a"], [(2, "parent")]),
        (["a,nowhere"], [(2, "parent")]),
        ([",x"], [(2, "group")]),
        (["a,", "a,"], [(3, "group")]),
        ([f"{'g' * 101},"], [(2, "group")]),
        ([f"g{n},g{n - 1}" if n else "g0," for n in range(9)], [(10, "parent")]),
    ],
)
def test_a_tree_that_cannot_be_is_refused(
    db: None, lines: list[str], wrong: list[tuple[int, str]]
) -> None:
    made = load("group,parent\n" + "\n".join(lines))
    assert problems(made) == wrong
    assert made.counts["groups_rejected"] == len(wrong)
    assert not DeviceGroup.objects.exists()


def test_a_parent_is_created_with_the_groups_where_that_is_wanted(db: None) -> None:
    load("group,parent\na,b\n", create_groups=True)
    assert str(DeviceGroup.objects.get(name="a").parent) == "b"


def test_groups_and_devices_come_in_one_file(db: None) -> None:
    made = load([{"identifier": "d", "groups": ["g"]}, {"group": "g", "parent": None}])
    assert outcome(made) == {"new": 1, "groups_new": 1}
    assert members("d") == {"g"}


def test_a_file_has_few_groups(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_rows, "MAX_GROUPS", 1)
    with pytest.raises(ValidationError, match="more than 1 groups"):
        load("group\na\nb\n")


# --- Secrets --------------------------------------------------------------------------------


def hashed(secret: str) -> str:
    """Return what whoever has the pepper writes into a file."""
    pepper, key = next(iter(hashing.peppers().items()))
    return (
        f"hmac-sha256${pepper}${hmac.digest(key, HMAC_CONTEXT + secret.encode(), 'sha256').hex()}"
    )


def test_chosen_random_and_hashed_secrets_verify(db: None) -> None:
    chosen = hashing.argon2_digest("of before", hashing.peppers()[hashing.newest_pepper()])
    load(
        [
            {"identifier": "chosen", "secret": " =qwerty "},
            {"identifier": "hmac", "secret": hashed(RANDOM)},
            {
                "identifier": "argon2",
                "secret": chosen.replace("$argon2id", f"argon2id${hashing.newest_pepper()}", 1),
            },
        ]
    )
    load(f"identifier,secret\nrandom,{RANDOM}\n", random=True)
    assert verified("chosen", " =qwerty ")
    assert verified("hmac", RANDOM)
    assert verified("argon2", "of before")
    assert verified("random", RANDOM)
    assert set(PreSharedKey.objects.values_list("device__identifier", "scheme", "hint")) == {
        ("chosen", "argon2id", ""),
        ("argon2", "argon2id", ""),
        ("hmac", "hmac-sha256", ""),
        ("random", "hmac-sha256", ""),
    }


def test_a_secret_of_a_spreadsheet_is_taken_as_it_stands(db: None) -> None:
    load("identifier,name,secret\nx,'=y,'=correct horse\n")
    assert Device.objects.get().name == "=y"
    assert verified("x", "'=correct horse")


@pytest.mark.usefixtures("production_cost")
@pytest.mark.parametrize(
    "secret",
    [
        "hmac-sha256$x",
        "hmac-sha256$test-2$abc",
        "hmac-sha256$gone$" + "0" * 64,
        "hmac-sha256$test-2$" + "0" * 65,
        "hmac-sha256$test-2$" + "F" * 64,
        "argon2id$test-2$v=19$m=4194304,t=2,p=1$" + "A" * 22 + "$" + "A" * 43,
        "argon2id$test-2$v=19$m=32768,t=9,p=1$" + "A" * 22 + "$" + "A" * 43,
        "argon2id$test-2$v=19$m=32768,t=2,p=2$" + "A" * 22 + "$" + "A" * 43,
        "argon2id$test-2$v=19$m=32768,t=2,p=1$" + "A" * 22 + "$" + "a" * 42,
        "argon2id$test-2$v=19$m=32768,t=2,p=1$" + "A" * 21 + "B$" + "A" * 43,
        "argon2id$test-2$v=19$m=32768,t=2,p=1$" + "A" * 22 + "$" + "A" * 42 + "B",
        "argon2id$gone$v=19$m=32768,t=2,p=1$" + "A" * 22 + "$" + "A" * 43,
        "$argon2id$v=19$m=32768,t=2,p=1$" + "A" * 22 + "$" + "a" * 64,
        "ab",
    ],
)
def test_a_secret_that_could_never_be_checked_is_refused(db: None, secret: str) -> None:
    made = load([{"identifier": "x", "secret": secret}])
    assert problems(made) == [(1, "secret")]
    assert secret not in made.problems[0].message


def test_a_random_secret_must_look_random(db: None) -> None:
    assert problems(load("identifier,secret\nx,qwerty12\n", random=True)) == [(2, "secret")]


def test_a_secret_that_the_device_has_is_not_added_again(make_device: Factory) -> None:
    device = make_device("x")
    PreSharedKey.objects.register(device=device, secret="correct horse battery staple")
    key, generated = PreSharedKey.objects.issue(device=device)
    for secret in ("correct horse battery staple", generated, hashed(generated)):
        assert outcome(load([{"identifier": "x", "secret": secret}])) == {"unchanged": 1}
    key.revoke(by="me")
    for secret in (generated, hashed(generated)):
        made = load([{"identifier": "x", "secret": secret}])
        assert "was revoked on" in made.problems[0].message
    assert PreSharedKey.objects.count() == 2


def end_keys(device: Device) -> None:
    past = timezone.now() - timedelta(days=1)
    device.keys.update(not_after=past, not_before=past - timedelta(days=1))


def test_a_secret_that_ended_may_be_set_anew(make_device: Factory) -> None:
    device = make_device("x")
    _key, secret = PreSharedKey.objects.issue(device=device)
    end_keys(device)
    made = load([{"identifier": "x", "secret": secret}], random=True)
    assert outcome(made) == {"changed": 1, "secrets": 1}


def test_keys_of_a_device_whose_pepper_is_gone_do_not_stand_in_the_way(
    make_device: Factory,
) -> None:
    PreSharedKey.objects.issue(device=make_device("x"))
    PreSharedKey.objects.update(pepper="gone")
    assert outcome(load([{"identifier": "x", "secret": "correct horse battery"}])) == {
        "changed": 1, "secrets": 1
    }  # fmt: skip


def test_chosen_secrets_are_few_for_a_device_and_for_an_upload(
    make_device: Factory,
) -> None:
    device = make_device("x")
    for number in range(4):
        PreSharedKey.objects.register(device=device, secret=f"correct horse {number}")
    made = load([{"identifier": "x", "secret": "one more of them"}])
    assert "at most 4 live chosen" in made.problems[0].message

    assert load([{"identifier": "x", "secret": RANDOM}], random=True, write=False).is_sound
    end_keys(device)
    assert load([{"identifier": "x", "secret": "one more of them"}]).is_sound
    for _ in range(3):
        PreSharedKey.objects.issue(device=device)
    wanted = [{"identifier": "x", "secret": "and another"}]
    assert not load(wanted, most_hashes=1, write=False).is_sound  # it is held against the one
    assert load(wanted, most_hashes=2).is_sound

    content = "identifier,secret\n" + "".join(f"d{n},secret {n}\n" for n in range(3))
    made = load(content, most_hashes=2, write=False)
    assert problems(made) == [(4, "secret")]
    assert "More than 2 secrets" in made.problems[0].message
    assert load(content, most_hashes=3, write=False).is_sound


def test_a_weak_secret_is_warned_of_and_never_shown(db: None) -> None:
    made = load([{"identifier": "x", "secret": "qwerty"}])
    assert (made.warnings[0].row, made.warnings[0].column) == (1, "secret")
    assert "qwerty" not in made.warnings[0].message
    assert made.is_sound


def test_a_secret_may_end(db: None) -> None:
    load([{"identifier": "x", "secret": RANDOM, "secret_until": "2999-01-31"}], random=True)
    assert PreSharedKey.objects.get().not_after == datetime(2999, 1, 31, tzinfo=UTC)
    wanted = [{"identifier": "y", "secret_until": "2999-01-31"}]
    assert problems(load(wanted)) == [(1, "secret_until")]
    assert len(load(wanted, generate=True).generated) == 1


def test_a_secret_that_would_end_now_is_refused(db: None, now: datetime) -> None:
    made = load([{"identifier": "x", "secret": RANDOM, "secret_until": now.isoformat()}])
    assert problems(made) == [(1, "secret_until")]


def test_secrets_are_generated_where_there_is_no_live_credential(make_device: Factory) -> None:
    PreSharedKey.objects.issue(device=make_device("has-one"))
    key, _secret = PreSharedKey.objects.issue(device=make_device("revoked"))
    key.revoke(by="me")
    pin = pki.issue("pinned").pem
    Certificate.objects.register(device=make_device("pinned"), presented=pin)
    make_device("not-in-the-file")
    content = "identifier,secret\nhas-one,\nrevoked,\npinned,\nnew,\nbrings,correct horse battery\n"
    made = load(content, generate=True)

    assert [identifier for identifier, _secret in made.generated] == ["revoked", "new"]
    for identifier, secret in made.generated:
        assert verified(identifier, secret)
        key = PreSharedKey.objects.get(device__identifier=identifier, revoked_at=None)
        assert (key.label[:7], key.hint) == ("import ", secret[:4] + "…")
    assert load(content, generate=True).generated == []


@pytest.mark.parametrize(
    ("pin", "state", "generates"),
    [
        ("certificate", "live", False),
        ("certificate", "ended", True),
        ("certificate", "revoked", True),
        ("public-key", "ended", False),
        ("public-key", "revoked", True),
        ("", "live", False),
        ("", "ended", True),
    ],
)
def test_no_secret_is_generated_beside_what_is_live(
    make_device: Factory, pin: str, state: str, generates: bool
) -> None:
    device, past = make_device("x"), timezone.now() - timedelta(days=1)
    if pin:
        Certificate.objects.register(device=device, presented=pki.issue("x").pem)
        ended = {"not_after": past, "not_before": past - timedelta(days=1)}
        changes = {"live": {}, "ended": ended, "revoked": {"revoked_at": past}}[state]
        device.certificates.update(pin=pin, **changes)
    else:
        PreSharedKey.objects.issue(device=device)
        if state == "ended":
            end_keys(device)
    assert bool(load("identifier,secret\nx,\n", generate=True).generated) is generates


# --- Certificates ---------------------------------------------------------------------------


def test_no_secret_is_generated_beside_a_certificate_of_the_file(db: None) -> None:
    made = load([{"identifier": "x", "certificate": pki.issue("x").pem}], generate=True)
    assert (made.is_sound, made.generated) == (True, [])


def test_certificates_are_pinned_once_and_never_after_their_revocation(db: None) -> None:
    pem = pki.issue("x").pem
    wanted = [{"identifier": "x", "certificate": pem}]
    assert outcome(load(wanted)) == {"new": 1, "certificates": 1}
    assert authenticate("x", certificate=pem).verified
    assert outcome(load(wanted)) == {"unchanged": 1}
    Certificate.objects.get().revoke(by="me")
    made = load(wanted)
    assert "was revoked on" in made.problems[0].message


# --- The command ----------------------------------------------------------------------------


@pytest.fixture
def devices_csv(tmp_path: Path) -> Path:
    path = tmp_path / "devices.csv"
    path.write_text("identifier,kind,name,groups,enabled,secret\na,device,A,Roof,true,\nb,,,,,\n")
    return path


def test_the_command_imports_and_writes_generated_secrets_to_a_file_of_ones_own(
    db: None, devices_csv: Path, tmp_path: Path
) -> None:
    out = tmp_path / "secrets.csv"
    words = [str(devices_csv), "--create-groups", "--generate-secrets", str(out)]
    document = answer("import_devices", *words)

    assert document["imported"]
    assert (document["new"], document["groups_new"], document["secrets"]) == (2, 1, 2)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with out.open(encoding="utf-8-sig", newline="") as file:
        found = {row["identifier"]: row["secret"] for row in csv.DictReader(file)}
    assert found.keys() == {"a", "b"}
    assert all(verified(identifier, secret) for identifier, secret in found.items())

    for more in ((), ("--dry-run",)):  # which said that all was well
        _, said = run("import_devices", *words, *more, code=2)
        assert "exists" in said


def test_secrets_may_be_written_as_json(db: None, devices_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "secrets.json"
    run("import_devices", str(devices_csv), "--create-groups", "--generate-secrets", str(out))
    found = {row["identifier"]: row["secret"] for row in json.loads(out.read_text())}
    assert found.keys() == {"a", "b"}
    assert all(verified(identifier, secret) for identifier, secret in found.items())


def test_a_dry_run_writes_nothing(db: None, devices_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "secrets.csv"
    printed, _ = run(
        "import_devices", str(devices_csv), "--dry-run", "--create-groups",
        "--generate-secrets", str(out),
    )  # fmt: skip
    assert "Devices: 2 new, 0 changed, 0 unchanged, 0 rejected." in printed
    assert "1 new" in printed.splitlines()[1]
    assert "Secrets: 2, certificates: 0." in printed
    assert "dry run" in printed
    assert not out.exists()
    assert not Device.objects.exists()
    assert not DeviceGroup.objects.exists()


def test_what_fails_leaves_neither_devices_nor_a_file_of_secrets(
    db: None, devices_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    out = tmp_path / "secrets.csv"
    words = [str(devices_csv), "--create-groups", "--generate-secrets", str(out)]
    _, said = run("import_devices", *words, code=2)
    assert "No space left" in said
    assert not out.exists()
    assert not Device.objects.exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [(OperationalError("the connection was lost"), 2), (KeyboardInterrupt(), 130)],
)
def test_a_file_of_secrets_that_may_have_been_imported_is_kept(
    error: BaseException,
    code: int,
    db: None,
    devices_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def break_off(descriptor: int) -> None:
        """Stand for what ends the import while it is committed: nobody knows what came of it."""
        raise error

    monkeypatch.setattr("os.fsync", break_off)
    out = tmp_path / "secrets.csv"
    words = [str(devices_csv), "--create-groups", "--generate-secrets", str(out)]
    _, said = run("import_devices", *words, code=code)
    assert f"{out} is kept" in said
    assert len(out.read_text().splitlines()) == 3


def test_errors_are_printed_by_row_and_column_and_the_code_is_1(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.management.commands.import_devices.MAX_SHOWN", 2)
    path = tmp_path / "devices.csv"
    path.write_text("identifier,enabled\nTRUE,\n" + "x y,maybe\n" * 2)
    printed, said = run("import_devices", str(path), code=1)
    assert "row 3, identifier: An identifier has" in said
    assert "row 3, enabled: Write" in said
    assert "and 2 more" in said
    assert "warning: row 2, identifier" in said
    assert "Nothing was imported. Errors: 4." in printed
    printed, _ = run("import_devices", str(path), "--json", code=1)
    document = json.loads(printed)
    assert document["errors"][0] == {
        "row": 3,
        "column": "enabled",
        "message": "Write “true” or “false”. It says “maybe”.",
    }
    assert (document["imported"], document["errors_total"]) == (False, 4)


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["nowhere.csv"], 2, "No such file"),
        (["devices.ods"], 2, "--format"),
        (["-"], 2, "--format"),
    ],
)
def test_the_command_refuses_what_it_cannot_read(
    db: None, words: list[str], code: int, complaint: str
) -> None:
    _, said = run("import_devices", *words, code=code)
    assert complaint in said


def test_the_command_reads_standard_input(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"identifier":"x"}')))
    call_command("import_devices", "-", format="ndjson", stdout=io.StringIO())
    assert Device.objects.get().identifier == "x"


def test_progress_is_told(db: None, devices_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devices.management.commands.import_devices.PATIENCE", -1)
    _, said = run("import_devices", str(devices_csv), "--create-groups")
    assert "checked 2\nwritten 2 of 2\n" in said


@pytest.mark.parametrize(
    ("kind", "content"),
    [(Format.CSV, "identifier,group\nd,Roof\n"), (Format.JSON, '[{"identifier":"d","group":"x"}]')],
)
def test_group_for_groups_is_told_as_an_unknown_column_of_devices(
    db: None, kind: Format, content: str
) -> None:
    try:
        told = str(load(content, kind).problems[0].message)
    except ValidationError as error:  # a header refuses the file as a whole
        told = error.messages[0]

    assert "There is no column “group”. Known are: identifier, kind, name, groups," in told


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('[{"identifier": "d", "\\ud800": 1}]', "There is no column “\ufffd”."),
        ('[{"identifier": "d", "attributes": {"x": "\\ud800"}}]', 'It says “{"x": "\ufffd"}”.'),
        ('[{"identifier": "d", "groups": ["\\ud800"]}]', 'It says “["\ufffd"]”.'),
        ('[{"group": ["\\ud800"]}]', 'It says “["\ufffd"]”.'),
    ],
)
def test_a_complaint_quotes_what_cannot_be_shown_so_that_it_can(
    db: None, content: str, complaint: str
) -> None:
    problem = load(content, Format.JSON).problems[0]

    assert complaint in problem.message
    assert str(problem).encode()  # as a page and a job's result do
