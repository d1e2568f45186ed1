"""Assertions: what can be expected, when it is broken, and by what."""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from acl import notation
from acl.analysis import assertions, what_if
from acl.models import Assertion, CommandPermission, CommandSet
from tests.support.commands import answer, run

pytestmark = pytest.mark.once(on="sqlite")


@pytest.fixture
def registry(make_device: Any, make_group: Any) -> dict[str, Any]:
    """A site with a building that holds `lamp`; `hub` is in the ops group, `loner` nowhere."""
    site, ops = make_group("site"), make_group("field ops")
    building = make_group("building", parent=site)
    return {
        "site": site,
        "building": building,
        "ops": ops,
        "lamp": make_device("lamp", groups=[building]),
        "hub": make_device("hub", groups=[ops]),
        "loner": make_device("loner"),
    }


def holds(text: str) -> bool:
    return not assertions.check([text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lamp may", "Write: SENDER may"),
        ("lamp should /v1/X hub", "Write: SENDER may"),
        ('lamp may "/v1/X hub', "quotation mark"),
        ("lamp may /v1/* hub", "Name one command"),
        ("lamp may " + "/" * 40 + " hub", "Name one command"),
        ("everyone may /v1/X hub", "write “nobody … may”"),
        ("lamp may /v1/X same-group", "write “nobody … may”"),
        ("nobody may /v1/*/X", "only at the end"),
        ("nobody may set:reading", "Choose the command set"),
        ("lamp may not set:reading hub", "Name one command"),
        ("lamp may not /v1/X hub#2", "No device “hub#2”"),
        ("nobody may /v1/X itself", "Write: SENDER may"),
        ("nobody outside hub may /v1/X", "Write the group as group:NAME"),
        ("lamp may /v1/X stranger", "No device “stranger”"),
        ("group:none may /v1/X hub", "no group named “none”"),
        ("nobody outside group:none may /v1/X", "no group named “none”"),
    ],
)
def test_what_cannot_be_read_is_refused_and_checked_as_broken(
    registry: dict[str, Any], text: str, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        assertions.validated(text)
    assert message in assertions.check([text])[0].why


def test_a_line_is_saved_with_single_spaces_but_within_quotation_marks(
    registry: dict[str, Any], make_group: Any
) -> None:
    make_group("two  spaces"), make_group("two spaces")
    text = '"group:two  spaces" may /v1/X lamp # of  two'
    written = f"  {text.replace(' may', '   may')} "
    assert assertions.validated(written) == text.replace("of  ", "of ")
    assert assertions.read(text) == assertions.Concrete("group:two  spaces", "lamp", "/v1/X", True)


def test_a_remark_begins_where_a_word_could(registry: dict[str, Any], make_device: Any) -> None:
    make_device("hub#2")
    for quoted in ("hub#2", "'hub#2'", "hub\\#2", "'hub'#2"):
        for remark in ("", " # of 'two", "  #2"):
            parsed = assertions.read(f"lamp may not /v1/X {quoted}{remark}")
            assert parsed == assertions.Concrete("lamp", "hub#2", "/v1/X", False)
    assert list(what_if.read_requests(["lamp hub#2 /v1/X#y # no"])) == [
        ("lamp", "hub#2", "/v1/X#y")
    ]


def test_an_escaped_space_ends_no_word() -> None:
    text = "lamp may not /v1/X group:floor\\ #2"
    assert assertions.read(text) == assertions.Concrete("lamp", "group:floor #2", "/v1/X", False)
    assert assertions.read(f"{text} #3") == assertions.read(text)
    assert notation.with_single_spaces(" lamp may /v1/X  hub\\  ") == "lamp may /v1/X hub\\ "
    assert notation.words_of("hub\\ ") == ["hub "]


@pytest.mark.parametrize(
    "part",
    ["a", "'", '"', "\\", "' \"", "\\\"'", '" \\', "'a'\\\n\"", " #'"],
)
def test_a_hostile_line_is_read_at_once(part: str) -> None:
    line = part * (100_000 // len(part))
    began = time.process_time()
    notation.with_single_spaces(line)
    with suppress(ValueError):
        notation.words_of(line)
    assert time.process_time() - began < 5


def test_an_assertion_of_devices_is_decided_by_the_engine(
    registry: dict[str, Any], make_rule: Any
) -> None:
    assert not holds("lamp may /v1/X hub")
    assert holds("lamp may not /v1/X hub")
    make_rule(registry["lamp"], registry["hub"], "/v1/*")
    assert holds("lamp may /v1/X hub")
    assert "(lamp may send /v1/* to hub)" in assertions.check(["lamp may not /v1/X hub"])[0].why
    assert not holds("lamp may /v1/X itself")


def test_an_assertion_of_a_group_is_about_each_device_below_it(
    registry: dict[str, Any], make_rule: Any
) -> None:
    make_rule(registry["lamp"], "everyone", "*")
    assert holds("group:site may /v1/X 'group:field ops'")
    registry["loner"].groups.add(registry["site"])
    assert not holds("group:site may /v1/X 'group:field ops'")


@pytest.mark.parametrize(
    ("source", "destination", "command", "expected"),
    [
        ("ops", "everyone", "*", True),
        ("hub", "lamp", "/v1/Sys.Reboot", True),
        ("lamp", "lamp", "/v1/Sys.Reboot", False),
        ("lamp", "everyone", "/v1/Sys.*", False),
        ("site", "everyone", "*", False),
        ("everyone", "itself", "/v1/*", False),
        ("lamp", "everyone", "/v1/Config.*", True),
        ("lamp", "everyone", "/v1/sys.Reboot", True),
    ],
)
def test_nobody_outside_a_group(
    registry: dict[str, Any],
    make_rule: Any,
    source: str,
    destination: str,
    command: str,
    expected: bool,
) -> None:
    make_rule(registry.get(source, source), registry.get(destination, destination), command)
    assert holds("nobody outside 'group:field ops' may /v1/Sys.*") is expected


def test_nobody_may_by_a_command_set(
    registry: dict[str, Any], make_rule: Any, make_set: Any
) -> None:
    make_rule(registry["lamp"], "everyone", make_set("some", "/v1/A.*", "/v1/Sys.Reboot"))
    assert not holds("nobody may /v1/Sys.*")
    assert not holds("nobody may /v1/Sys.Reboot")
    assert not holds("nobody may *")
    assert holds("nobody may /v1/Sys.Info")


def test_nobody_may_reach_a_receiver(registry: dict[str, Any], make_rule: Any) -> None:
    make_rule("everyone", registry["site"], "/v1/Sys.*")
    assert not holds("nobody may /v1/Sys.* lamp")
    assert not holds("nobody may /v1/Sys.* group:building")
    assert holds("nobody may /v1/Sys.* loner")
    assert holds("nobody may /v1/Sys.* 'group:field ops'")


def test_a_rule_about_the_sender_itself_or_its_group_reaches_nobody_else(
    registry: dict[str, Any], make_rule: Any
) -> None:
    make_rule(registry["lamp"], "itself", "*")
    make_rule(registry["hub"], "same-group", "*")
    assert holds("nobody may /v1/X loner")
    assert not holds("nobody may /v1/X lamp")
    assert not holds("nobody may /v1/X group:site")
    assert not holds("nobody may /v1/X hub")
    assert holds("nobody outside 'group:field ops' may /v1/X hub")


def test_a_wider_denial_makes_it_hold(registry: dict[str, Any], make_rule: Any) -> None:
    make_rule(registry["lamp"], "everyone", "*")
    assert not holds("nobody may /v1/Sys.*")
    deny = make_rule(registry["building"], "everyone", "/v1/Sys.*", effect="deny")
    assert holds("nobody may /v1/Sys.*")
    deny.enabled = False
    deny.save()
    assert not holds("nobody may /v1/Sys.*")


def test_a_denial_of_all_that_reaches_the_receiver_makes_it_hold(
    registry: dict[str, Any], make_rule: Any
) -> None:
    make_rule("everyone", "everyone", "*")
    make_rule("everyone", "itself", "*")
    assert not holds("nobody may /v1/Sys.* lamp")
    deny = make_rule("everyone", registry["building"], "/v1/Sys.*", effect="deny")
    assert holds("nobody may /v1/Sys.* lamp")
    assert holds("nobody may /v1/Sys.Reboot group:building")
    assert not holds("nobody may /v1/Sys.* group:site")
    assert not holds("nobody may /v1/Sys.* hub")
    assert not holds("nobody may /v1/* lamp")
    deny.source_kind, deny.source_device = "device", registry["hub"]
    deny.save()
    assert not holds("nobody may /v1/Sys.* lamp")


def test_a_rule_about_disabled_devices_reaches_nobody(
    registry: dict[str, Any], make_rule: Any
) -> None:
    make_rule(registry["lamp"], "everyone", "*")
    registry["lamp"].enabled = False
    registry["lamp"].save()
    assert holds("nobody may /v1/Sys.*")


def test_a_file_is_checked_line_by_line(registry: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "expected.txt"
    file.write_text("# what we expect\n\nlamp may not /v1/X hub  # never\nlamp may /v1/X hub\n")
    assert run("check_permissions", str(file), code=1)[0] == (
        f"{file}:4: lamp may /v1/X hub: lamp → hub: no rule allows it\n1 of 2 hold.\n"
    )
    run("check_permissions", str(tmp_path / "none.txt"), code=2)


def test_saved_assertions_are_checked_without_a_file(registry: dict[str, Any]) -> None:
    printed, _ = run("check_permissions", code=1)
    assert printed == "There are no assertions: nothing was checked.\n"
    Assertion.objects.create(text="lamp may not /v1/X hub")
    assert run("check_permissions")[0] == "1 of 1 hold.\n"


def test_a_trial_says_what_will_be_and_leaves_nothing(
    registry: dict[str, Any], make_rule: Any
) -> None:
    rule = CommandPermission(source_kind="everyone", destination_kind="everyone", pattern="/v1/*")
    requests = what_if.read_requests(["lamp hub /v1/X  # remark", "", "lamp hub /v2/X"])
    consequences = what_if.consequences_of(what_if.saving(rule), requests)
    assert list(map(str, consequences.changed_decisions)) == ["lamp → hub: /v1/X: denied → allowed"]
    assert rule.pk is None
    assert not CommandPermission.objects.exists()


def test_a_trial_of_a_rule_that_begins_later_says_what_will_be_then(
    registry: dict[str, Any], make_rule: Any
) -> None:
    begins = datetime(2126, 1, 31, tzinfo=UTC)
    make_rule(registry["lamp"], registry["hub"], "/v2/X", valid_from=begins)  # not what is tried
    nobody, broken_already = 'nobody outside "group:field ops" may /v1/X', "hub may /v1/Z hub"
    for text in ("lamp may not /v1/X hub", nobody, broken_already):
        Assertion.objects.create(text=text)
    rule = CommandPermission(
        source_kind="everyone", destination_kind="everyone", pattern="/v1/X", valid_from=begins
    )
    requests = what_if.read_requests(["lamp hub /v1/X", "lamp hub /v2/X"])
    consequences = what_if.consequences_of(what_if.saving(rule), requests)
    told = "lamp → hub: /v1/X: denied → allowed, from 2126-01-31 00:00 UTC on"
    assert list(map(str, consequences.changed_decisions)) == [told]
    assert [one["begins"] for one in consequences.as_json()["changed_decisions"]] == [
        "2126-01-31T00:00:00Z"
    ]
    assert len(consequences.broken) == 2
    assert all(one.why.startswith("from 2126-01-31 00:00 UTC on: ") for one in consequences.broken)
    assert CommandPermission.objects.get().enabled
    after = what_if.consequences_of(what_if.saving(rule), requests, now=begins)
    assert [one.begins for one in after.changed_decisions] == [None]


ENDS = datetime(2126, 1, 31, tzinfo=UTC)
FROM_THEN_ON = "from 2126-01-31 00:00 UTC on: "


def end(rule: CommandPermission) -> what_if.Change:
    rule.valid_until = ENDS
    return what_if.saving(rule)


def disable(rule: CommandPermission) -> what_if.Change:
    rule.enabled = False
    return what_if.saving(rule)


@pytest.mark.parametrize("text", ["lamp may /v1/X hub", "hub may not /v1/X hub"])
def test_a_rule_in_force_that_gets_an_end_breaks_an_assertion_then(
    text: str, registry: dict[str, Any], make_rule: Any
) -> None:
    Assertion.objects.create(text=text)
    allowed = make_rule("everyone", registry["hub"], "/v1/X")
    denied = make_rule(registry["hub"], registry["hub"], "/v1/*", effect="deny")
    deciding, other = (denied, allowed) if "not" in text else (allowed, denied)
    assert not what_if.consequences_of(end(other), {}).broken
    consequences = what_if.consequences_of(end(deciding), {})
    assert [one.text for one in consequences.broken] == [text]
    assert consequences.broken[0].why.startswith(FROM_THEN_ON)


def test_a_change_is_told_what_it_breaks_once_another_rule_ends_or_begins(
    registry: dict[str, Any], make_rule: Any
) -> None:
    Assertion.objects.create(text="lamp may /v1/X hub")
    make_rule(registry["lamp"], registry["hub"], "/v1/X", valid_until=ENDS)
    lasting = make_rule(registry["lamp"], registry["hub"], "/v1/*")
    assert assertions.check_later(assertions.saved()) == []
    for change in (disable(lasting), what_if.removing(lasting)):
        (broken,) = what_if.consequences_of(change, {}).broken
        assert broken.why.startswith(FROM_THEN_ON)
    make_rule(registry["site"], registry["hub"], "/v1/X", effect="deny", valid_from=ENDS)
    groups = registry["lamp"].groups
    assert not what_if.consequences_of(groups.clear, {}).broken
    groups.clear()
    (broken,) = what_if.consequences_of(partial(groups.add, registry["site"]), {}).broken
    assert broken.why.startswith(FROM_THEN_ON)


def test_what_breaks_at_several_moments_is_told_once(
    registry: dict[str, Any], make_rule: Any
) -> None:
    Assertion.objects.create(text="lamp may /v1/X hub")
    make_rule(registry["lamp"], registry["hub"], "/v1/X", valid_until=ENDS)
    make_rule(registry["hub"], registry["lamp"], "/v1/X", valid_until=ENDS + timedelta(days=1))
    lasting = make_rule(registry["lamp"], registry["hub"], "/v1/*")
    (broken,) = what_if.consequences_of(disable(lasting), {}).broken
    assert broken.why.startswith(FROM_THEN_ON)
    lasting.save()
    assert assertions.check_later(assertions.saved()) == [broken]


def test_what_a_change_turns_now_and_again_later_is_told_once(
    registry: dict[str, Any], make_rule: Any
) -> None:
    Assertion.objects.create(text="hub may not /v1/Y lamp")

    def change() -> None:
        for window in ({"valid_until": ENDS}, {"valid_from": ENDS}):
            make_rule(registry["hub"], registry["lamp"], "/v1/Y", **window)

    requests = what_if.read_requests(["hub lamp /v1/Y"])
    consequences = what_if.consequences_of(change, requests)
    assert [one.begins for one in consequences.changed_decisions] == [None]
    (broken,) = consequences.broken
    assert not broken.why.startswith(FROM_THEN_ON)


def test_a_later_rule_is_told_again_where_more_than_its_note_changes(
    registry: dict[str, Any], make_rule: Any
) -> None:
    Assertion.objects.create(text="hub may not /v1/Y lamp")
    rule = make_rule(registry["hub"], registry["lamp"], "/v1/Z", valid_from=ENDS)
    rule.pattern = "/v1/Y"
    rule.save()
    requests = what_if.read_requests(["hub lamp /v1/Y"])
    rule.note = "why it is there"
    told = what_if.consequences_of(what_if.saving(rule), requests)
    assert (told.changed_decisions, told.broken) == ([], [])
    rule.valid_until = ENDS + timedelta(days=1)
    told = what_if.consequences_of(what_if.saving(rule), requests)
    assert [one.begins for one in told.changed_decisions] == [ENDS]
    assert [one.text for one in told.broken] == ["hub may not /v1/Y lamp"]


def test_a_change_is_not_told_what_breaks_without_it(
    registry: dict[str, Any], make_rule: Any
) -> None:
    Assertion.objects.create(text="lamp may /v1/X hub")
    make_rule(registry["lamp"], registry["hub"], "/v1/X", valid_until=ENDS)
    rule = make_rule(registry["hub"], registry["lamp"], "/v1/X")
    assert not what_if.consequences_of(end(rule), {}).broken
    assert not what_if.consequences_of(disable(rule), {}).broken


def test_moments_are_asked_up_to_a_number_of_them(
    registry: dict[str, Any], make_rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (assertions, what_if):
        monkeypatch.setattr(module, "MAX_MOMENTS", 1)
    Assertion.objects.create(text="lamp may /v1/X hub")
    make_rule(registry["lamp"], registry["hub"], "/v1/X", valid_until=ENDS)
    earlier = make_rule(
        registry["hub"], registry["lamp"], "/v1/X", valid_until=ENDS - timedelta(days=1)
    )
    assert len(assertions.moments(assertions.saved(), now=timezone.now())) == 1
    assert not what_if.consequences_of(disable(earlier), {}).broken  # what was then is not known


def test_each_moment_is_asked_about_what_its_rules_concern(
    registry: dict[str, Any], make_rule: Any
) -> None:
    texts = ["lamp may /v1/X hub", "nobody may /v2/*", "hub may /v2/Y lamp", "lamp may /x hub"]
    commands = CommandSet.objects.create(name="commands")
    for pattern in ("/v2/Y", "/other"):
        commands.patterns.create(pattern=pattern)
    make_rule("everyone", "everyone", "/v1/*", valid_from=ENDS)
    make_rule("everyone", "everyone", commands, valid_until=ENDS + timedelta(days=1))
    make_rule("everyone", "everyone", "*", enabled=False, valid_until=ENDS)
    assert assertions.moments(texts, now=timezone.now()) == {
        ENDS: texts[:1],
        ENDS + timedelta(days=1): texts[1:3],
    }


def test_what_will_not_hold_is_told_before(
    registry: dict[str, Any],
    make_rule: Any,
    admin_client: Client,
    django_assert_num_queries: Any,
) -> None:
    texts = ["lamp may /v1/X hub", "lamp may not /v1/Y hub", "hub may /v1/X hub", "nonsense"]
    for text in texts[:3]:
        Assertion.objects.create(text=text)
    make_rule(registry["lamp"], registry["hub"], "/v1/X", valid_until=ENDS)
    make_rule(registry["hub"], registry["lamp"], "/v2/Z", valid_until=ENDS - timedelta(days=1))
    (later,) = assertions.check_later(texts)
    assert (later.text, later.why[: len(FROM_THEN_ON)]) == (texts[0], FROM_THEN_ON)
    with django_assert_num_queries(0):
        assert assertions.check_later([]) == []
    told = answer("check_permissions", code=1)
    assert [one["text"] for one in told["broken"]] == [texts[2]]
    assert [one["text"] for one in told["broken_later"]] == [texts[0]]
    for page in ("/admin/acl/assertion/", "/admin/acl/commandpermission/report/"):
        assert FROM_THEN_ON in admin_client.get(page).content.decode()


def test_a_trial_of_a_change_and_of_a_removal(registry: dict[str, Any], make_rule: Any) -> None:
    rule = make_rule(registry["lamp"], registry["hub"], "/v1/X")
    requests = what_if.read_requests(["lamp hub /v1/X", "lamp hub /v1/Y"])
    rule.pattern = "/v1/Y"
    saving, removing = what_if.saving(rule), what_if.removing(rule)
    assert len(what_if.consequences_of(saving, requests).changed_decisions) == 2
    assert len(what_if.consequences_of(removing, requests).changed_decisions) == 1
    assert CommandPermission.objects.get().pattern == "/v1/X"
    assert rule.pk is not None


@pytest.mark.parametrize("line", ["a b", "a b c d", 'a "b c'])
def test_a_line_that_is_no_request_is_named(line: str) -> None:
    with pytest.raises(ValidationError, match="Line 2 is not SOURCE DESTINATION COMMAND: a"):
        what_if.read_requests(["a b c", line])


def test_an_assertion_is_about_the_enabled_devices_of_a_group(
    registry: dict[str, Any], make_device: Any
) -> None:
    make_device("off", enabled=False, groups=[registry["building"]])
    Assertion.objects.create(text="group:site may not /v1/X hub")
    assert [tuple(request) for request in assertions.saved_requests()] == [("lamp", "hub", "/v1/X")]


@pytest.mark.django_db
def test_an_unknown_name_is_no_fault_of_a_field() -> None:
    with pytest.raises(ValidationError) as refused:
        assertions.validated("group:none may /v1/X hub")
    assert not hasattr(refused.value, "error_dict")


def test_an_assertion_is_about_a_bounded_number_of_devices(
    registry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry["loner"].groups.add(registry["site"])
    assert holds("group:site may not /v1/X group:site")
    monkeypatch.setattr(assertions, "MAX_PAIRS", 3)
    with pytest.raises(ValidationError, match="more than 3 pairs"):
        assertions.validated("group:site may not /v1/X group:site")


def test_only_the_first_failures_are_shown(registry: dict[str, Any], make_device: Any) -> None:
    for _ in range(4):
        make_device(groups=[registry["site"]])
    (broken,) = assertions.check(["group:site may /v1/X hub"])
    assert broken.why.count("no rule allows it") == 3
    assert broken.why.endswith("and 2 more")


def test_an_assertion_whose_device_is_gone_is_broken_and_no_trial_fails_of_it(
    registry: dict[str, Any],
) -> None:
    Assertion.objects.create(text="gone may /v1/X hub")
    Assertion.objects.create(text="lamp may not /v1/X hub")
    assert [tuple(request) for request in assertions.saved_requests()] == [("lamp", "hub", "/v1/X")]
    assert [broken.text for broken in assertions.check(assertions.saved())] == [
        "gone may /v1/X hub"
    ]


def test_the_command_tries_a_rule(registry: dict[str, Any], tmp_path: Path) -> None:
    Assertion.objects.create(text="lamp may not /v1/X hub")
    (tmp_path / "requests.txt").write_text("lamp loner /v1/X\nlamp loner /v2/X\n")
    arguments = ["--source", "lamp", "--destination", "everyone", "--command", "/v1/*"]
    requests = ("--requests", str(tmp_path / "requests.txt"))
    printed, _ = run("try_permission", *arguments, *requests, code=1)
    assert "lamp → hub: /v1/X: denied → allowed\n" in printed
    assert "lamp → loner: /v1/X: denied → allowed\n" in printed
    assert "breaks: lamp may not /v1/X hub: lamp → hub: a rule allows it" in printed
    assert "2 of 3 answers change." in printed
    assert not CommandPermission.objects.exists()
    assert "0 of 1 answers change." in run("try_permission", *arguments, "--deny")[0]
    refused = run("try_permission", *arguments, "--requests", str(tmp_path), code=2)[1]
    assert "cannot be read" in refused
    removal = ["--remove", "1"]
    for unclear in ([], arguments[:4], [*removal, *arguments[:2]], [*removal, "--deny"]):
        assert "--remove alone" in run("try_permission", *unclear, code=2)[1]
    assert "no rule #99999" in run("try_permission", "--remove", "99999", code=1)[1]


def test_whoever_shares_any_group_with_a_receiver_is_looked_at(
    registry: dict[str, Any], make_device: Any, make_group: Any, make_rule: Any
) -> None:
    party = make_group("party")
    registry["lamp"].groups.add(party)
    make_device("guest", groups=[party])
    rule = make_rule(party, "same-group", "/v1/Sys.*")
    assert not holds("nobody outside group:site may /v1/Sys.* group:site")
    rule.delete()
    make_rule(registry["loner"], party, "/v1/Sys.*")
    assert not holds("nobody may /v1/Sys.* group:site")


def test_assertions_are_checked_together(
    registry: dict[str, Any], make_rule: Any, django_assert_max_num_queries: Any
) -> None:
    for number in range(10):
        make_rule(registry["hub"], registry["site"], f"/v1/Sys.{number}")
    texts = [
        text
        for number in range(10)
        for text in (
            f"hub may /v1/Sys.{number} group:site",
            f"nobody outside group:site may /v1/Sys.{number} lamp",
            f'nobody outside "group:field ops" may /v1/Sys.{number}',
        )
    ]
    with django_assert_max_num_queries(16):
        broken = assertions.check(texts)
    assert [one.text for one in broken] == texts[1::3]
