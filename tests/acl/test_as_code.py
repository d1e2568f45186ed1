"""Permissions as one document: stable, all or nothing, idempotent."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from acl.as_code import export_document, import_document
from acl.documents import dump, load
from acl.models import Assertion, CommandPermission, CommandSet
from devices import history
from devices.models import DeviceGroup
from devices.models.group import MAX_DEPTH
from tests.support.commands import answer, run

DOCUMENT = """\
format: 1
groups:
- name: building
  within: site
  devices:
  - hub
  - lamp
- name: site
  description: all of it
command_sets:
- name: reading
  description: nothing is changed
  commands:
  - /v1/Config.Get
  - /v1/Sys.*
permissions:
- effect: deny
  from: everyone
  to: everyone
  command: /v1/Config.Erase
  note: never
- effect: allow
  from: group:site
  to: itself
  command: set:reading
  enabled: false
  valid_from: '2030-01-01T00:00:00+00:00'
- effect: allow
  from: lamp
  to: same-group
  command: /v1/*
"""


@pytest.fixture
def devices(make_device: Any) -> None:
    make_device("lamp")
    make_device("hub")


def everything() -> list[Any]:
    return [
        list(model.objects.order_by("pk").values_list())
        for model in (DeviceGroup, CommandSet, CommandPermission)
    ]


def test_what_is_imported_is_exported_again_letter_by_letter(devices: None) -> None:
    import_document(load(DOCUMENT))
    assert dump(export_document()) == DOCUMENT
    rule = CommandPermission.objects.get(enabled=False)
    assert rule.valid_from == datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "description",
    [
        *("\x7f", "\x80 \x9f", "a\x85b", "\x85", "\ufffe\uffff", "\ufeffx", "a\u2028b"),
        *("\x01\x0b\x1f", "\t", "a\r\nb", "😀", "NaN", "- x: #", "\\\"'"),
    ],
)
def test_every_character_comes_back(db: None, description: str, as_json: bool) -> None:
    group = DeviceGroup(name="group", description=description)
    group.full_clean()
    group.save()
    text = dump(export_document(), as_json=as_json)

    assert not import_document(load(text)).difference

    group.refresh_from_db()
    assert group.description == description


def test_json_of_other_programs_is_read(db: None) -> None:
    document = export_document() | {"groups": [{"name": "😀", "description": "\U0001f525\x7f"}]}
    text = json.dumps(document, indent="\t")  # with escapes of both halves of a pair
    assert r"\ud83d\ude00" in text
    import_document(load(text))
    assert DeviceGroup.objects.get().description == "\U0001f525\x7f"


def test_a_second_import_changes_nothing(devices: None) -> None:
    import_document(load(DOCUMENT))
    before = everything()
    assert import_document(load(DOCUMENT)).difference == []
    again = load(dump(export_document(), as_json=True))
    assert import_document(again).difference == []
    assert everything() == before


def test_rules_that_were_accepted_before_stay(devices: None) -> None:
    import_document(load(DOCUMENT))
    CommandPermission.objects.filter(note="never").update(note="never\u202e")
    document = export_document()
    assert import_document(document).difference == []
    again = {**document, "permissions": [document["permissions"][0], *document["permissions"]]}
    with pytest.raises(ValidationError, match=r"permissions\[1\].note: It holds U\+202E"):
        import_document(again)
    document["permissions"][0]["command"] = "/v1/Config.Set"
    with pytest.raises(ValidationError, match=r"permissions\[0\].note: It holds U\+202E"):
        import_document(document)


def test_an_import_removes_what_the_document_does_not_name(
    devices: None, make_rule: Any, make_group: Any, make_set: Any
) -> None:
    old = make_group("old")
    make_group("older", parent=old)
    make_rule(old, "everyone", make_set("stale", "*"))
    import_document(load(DOCUMENT))
    assert dump(export_document()) == DOCUMENT


def test_only_what_differs_is_touched(devices: None) -> None:
    import_document(load(DOCUMENT))
    kept = CommandPermission.objects.get(note="never").pk
    changed = load(DOCUMENT.replace("command: /v1/*", "command: /v2/*"))
    difference = import_document(changed).difference
    assert [line for line in difference[2:] if line[0] in "+-"] == [
        "-  command: /v1/*",
        "+  command: /v2/*",
    ]
    assert CommandPermission.objects.get(note="never").pk == kept


def test_members_and_commands_that_are_not_named_go(devices: None) -> None:
    import_document(load(DOCUMENT))
    smaller = DOCUMENT.replace("  - lamp\n", "").replace("  - /v1/Sys.*\n", "")
    import_document(load(smaller))
    assert dump(export_document()) == smaller


def test_groups_can_change_places(devices: None) -> None:
    import_document(load(DOCUMENT))
    turned = DOCUMENT.replace("  within: site\n", "").replace(
        "- name: site\n", "- name: site\n  within: building\n"
    )
    import_document(load(turned))
    assert DeviceGroup.objects.get(name="site").parent == DeviceGroup.objects.get(name="building")
    changes = history.history_of(DeviceGroup).objects.filter(history_type="~")
    assert list(changes.order_by("name").values_list("name", "parent__name")) == [
        ("building", None),
        ("site", "building"),
    ]


def test_every_group_that_is_too_deep_is_named_with_the_other_mistakes(devices: None) -> None:
    groups: list[dict[str, Any]] = [
        {"name": f"g{level}", "within": f"g{level - 1}" if level else ""}
        for level in range(MAX_DEPTH + 1)
    ]
    groups.append({"name": "out", "within": "none", "devices": ["stranger"]})
    sets = [{"name": "s", "commands": ["/v1/Sys*"]}]
    with pytest.raises(ValidationError) as caught:
        import_document({"format": 1, "groups": groups, "command_sets": sets, "permissions": []})
    assert [text.partition(": ")[0] for text in caught.value.messages] == [
        "groups[9].within",
        "groups[9].devices",
        "groups[8].within",
        "command_sets[0].commands",
    ]


def test_groups_that_go_do_not_count_as_levels(devices: None, make_group: Any) -> None:
    building = inner = make_group("building")
    for level in range(1, MAX_DEPTH):
        inner = make_group(f"level {level}", parent=inner)
    import_document(load(DOCUMENT))
    building.refresh_from_db()
    assert building.parent is not None
    assert dump(export_document()) == DOCUMENT


def test_a_dry_run_shows_the_difference_and_changes_nothing(devices: None) -> None:
    difference = import_document(load(DOCUMENT), dry_run=True).difference
    assert "+- name: building" in difference
    assert everything() == [[], [], []]


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format: 1", "format: 2", "must hold “format: 1”"),
        ("groups:", "grups:", "Object contains unknown field `grups`"),
        ("  - lamp\n", "  - stranger\n", "groups[0].devices: No device “stranger”"),
        ("from: lamp", "from: stranger", "permissions[2].from: No device “stranger”"),
        ("from: lamp", "from: group:none", "permissions[2].from: There is no group named “none”"),
        ("from: lamp", "from: 5", "permissions[2].from: Expected `str`, got `int`"),
        ("  from: lamp\n", "", "permissions[2]: Object missing required field `from`"),
        ("from: lamp", "form: lamp", "permissions[2]: Object contains unknown field `form`"),
        ("set:reading", "set:none", "permissions[1].command: There is no command set"),
        ("command: /v1/*", "command: /v1/*/x", "permissions[2].command: “*” may stand only"),
        ("command: /v1/*", "command: ''", "permissions[2].command: Which command?"),
        ("effect: deny", "effect: maybe", "permissions[0].effect: Value 'maybe' is not a valid"),
        ("enabled: false", "enabled: 0", "permissions[1].enabled: Expected `bool`, got `int`"),
        ("2030-01-01T00:00:00+00:00", "tomorrow", "permissions[1].valid_from: must be a moment"),
        ("2030-01-01T00:00:00+00:00", "2030-13-01T00:00:00Z", "must be a moment"),
        ("within: site", "within: rest", "groups[0].within: There is no group named “rest”"),
        ("  - /v1/Sys.*", "  - set:rest", "command_sets[0].commands: Choose the command set"),
        ("within: site", "within: none", "groups[0].within: There is no group named “none”"),
        ("within: site", "within: building", "A group cannot lie within itself"),
        ("- name: building", "- name: site", "groups: “site” is there twice"),
        ("  - /v1/Sys.*", "  - /v1/Sys*", "command_sets[0].commands: “*” must follow"),
        ("  - /v1/Sys.*", "  - 5", "command_sets[0].commands[1]: Expected `str`, got `int`"),
        ("command_sets:\n", "command_sets: []\nx:\n", "Object contains unknown field `x`"),
        ("- effect: deny", "- 5\n- effect: deny", "permissions[0]: Expected `object`, got `int`"),
        ("groups:\n", "groups: [\n", "neither YAML nor JSON"),
        ("permissions:\n", "groups: []\npermissions:\n", "“groups” stands twice"),
        ("- effect: deny", '- effect: deny\n  "effect": allow', "Line 18: “effect” stands"),
        ("groups:\n", "groups: !!python/object:os.system\n", "neither YAML nor JSON"),
        ("- effect: deny", "- <<: {effect: allow}\n  effect: deny", "Line 17: merge keys (<<) are"),
    ],
)
def test_a_document_that_makes_no_sense_changes_nothing(
    devices: None, make_rule: Any, make_group: Any, old: str, new: str, message: str
) -> None:
    make_rule()
    make_group("rest")  # which the document removes
    before = everything()
    assert old in DOCUMENT
    with pytest.raises(ValidationError) as caught:
        import_document(load(DOCUMENT.replace(old, new, 1)))
    assert any(message in text for text in caught.value.messages), caught.value.messages
    assert everything() == before


@pytest.mark.parametrize("text", ["", "[]", "5", "null", '{"format": 1, "groups": 5}'])
def test_other_values_are_no_document(db: None, text: str) -> None:
    with pytest.raises(ValidationError):
        import_document(load(text))


def test_a_document_with_many_mistakes_names_the_first_of_them(devices: None) -> None:
    entry = {"effect": "allow", "from": "x", "to": "everyone", "command": "*"}
    document = {"format": 1, "groups": [], "command_sets": [], "permissions": [entry] * 25}
    with pytest.raises(ValidationError) as caught:
        import_document(document)
    assert len(caught.value.messages) == 21
    assert caught.value.messages[-1] == "and 5 more"


def test_the_commands_export_and_import(devices: None, tmp_path: Path) -> None:
    file = tmp_path / "permissions.yaml"
    file.write_text(DOCUMENT)
    Assertion.objects.create(text="lamp may not /v1/X hub")
    printed, complaint = run("import_permissions", str(file), "--dry-run")
    assert "+- effect: deny" in printed
    assert "warning: an assertion would break: lamp may not /v1/X hub" in complaint
    refused = run("import_permissions", str(file), code=1)[1]
    assert "breaks an assertion: lamp may not /v1/X hub" in refused
    assert not CommandPermission.objects.exists()
    complaint = run("import_permissions", "-", "--break-assertions", stdin=DOCUMENT)[1]
    assert "warning: an assertion does not hold any more: lamp may not /v1/X hub" in complaint
    assert answer("import_permissions", str(file))["changed"] is False
    exported, said = run("export_permissions")
    assert exported == DOCUMENT
    assert said.startswith("2 groups, 1 command set, 3 permissions; digest ")
    run("export_permissions", str(file), "--format", "json")
    assert json.loads(file.read_text())["format"] == 1
    run("import_permissions", str(tmp_path / "none.yaml"), code=2)
    run("export_permissions", "--output", str(file))
    assert file.read_text() == DOCUMENT
    assert list(tmp_path.iterdir()) == [file]
    run("export_permissions", str(tmp_path), code=2)


def test_import_refuses_where_others_changed_the_registry(devices: None, tmp_path: Path) -> None:
    file = tmp_path / "permissions.yaml"
    file.write_text(DOCUMENT)
    digest = answer("import_permissions", str(file), "--dry-run")["digest"]
    others = CommandSet.objects.create(name="added by others")
    refused = run("import_permissions", str(file), "--expect", digest, code=1)[1]
    assert "changed since that dry run" in refused
    assert CommandSet.objects.get() == others
    others.delete()
    run("import_permissions", str(file), "--expect", digest)
    assert dump(export_document()) == DOCUMENT


def test_an_export_that_breaks_off_leaves_the_file(
    devices: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_document(load(DOCUMENT))
    file = tmp_path / "permissions.yaml"
    file.write_text("before")

    def break_off(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("devices.management.base.shutil.copyfileobj", break_off)
    assert "No space left" in run("export_permissions", str(file), code=2)[1]
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 100_000, '{"a":' * 50_000, "- " * 50_000 + "x", "a: &a [*a]", "\x00"),
        *('a: !!int ""', "a: !!float _", "a: !!bool maybe", f"a: {'1:' * 300}1.5"),
        *("!!map [a]", "!!map ab", "a: !!timestamp [b]"),
    ],
)
def test_a_hostile_text_is_refused(db: None, text: str) -> None:
    with pytest.raises(ValidationError):
        import_document(load(text))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": True}, "must hold “format: 1”"),
        ({"format": 1.0}, "must hold “format: 1”"),
        ({"groups": [{"name": "nul\x00"}]}, "NUL character"),
        *(
            (
                {
                    "permissions": [
                        {
                            "effect": "allow",
                            "from": "everyone",
                            "to": "itself",
                            "command": "*",
                            "valid_from": moment,
                        }
                    ]
                },
                "a moment with its time zone",
            )
            for moment in ("0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00")
        ),
    ],
)
def test_values_that_no_database_holds_are_refused(
    db: None, change: dict[str, Any], complaint: str
) -> None:
    document = {"format": 1, "groups": [], "command_sets": [], "permissions": []} | change
    with pytest.raises(ValidationError, match=complaint):
        import_document(document)
