"""Explanations: the decision, who took part, who nearly did, and how it is rendered."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from acl.engine.explanations import Standing, explain
from tests.support.commands import answer, run

COMMAND = "/v1/Config.Get"


def standings(*request: str) -> dict[int, str]:
    return {part.rule.pk: part.standing for part in explain(*request).parts}


def test_every_rule_has_its_standing(make_device: Any, make_group: Any, make_rule: Any) -> None:
    now, hour = timezone.now(), timedelta(hours=1)
    room, other = make_group("room"), make_group("other")
    lamp, hub = make_device("lamp", groups=[room]), make_device("hub")
    expected = {
        make_rule(lamp, hub, COMMAND).pk: Standing.DECIDED,
        make_rule(room, hub, "/v1/*").pk: Standing.AGREED,
        make_rule(enabled=False).pk: Standing.DISABLED,
        make_rule(valid_from=now + hour).pk: Standing.NOT_YET,
        make_rule(valid_until=now - hour).pk: Standing.EXPIRED,
        make_rule(hub, lamp, COMMAND).pk: Standing.OTHER_DIRECTION,
        make_rule(other, hub, COMMAND).pk: Standing.OTHER_SOURCE,
        make_rule(lamp, other, COMMAND).pk: Standing.OTHER_DESTINATION,
        make_rule(lamp, hub, "/v1/Sys.*").pk: Standing.OTHER_COMMAND,
    }
    make_rule(other, other, COMMAND)
    make_rule(other, hub, COMMAND, valid_until=now - hour)  # it lacks two things
    make_rule(lamp, other, "/v1/Sys.*")
    assert standings("lamp", "hub", COMMAND) == expected
    assert explain("lamp", "hub", COMMAND).parts[0].standing is Standing.DECIDED


def test_another_moment_has_the_rules_of_then(make_device: Any, make_rule: Any) -> None:
    lamp, hub = make_device("lamp"), make_device("hub")
    begin, end = (datetime(2126, 1, day, 9, tzinfo=UTC) for day in (3, 5))
    made = make_rule(lamp, hub, COMMAND, valid_from=begin, valid_until=end)
    for moment, standing in (
        (begin - timedelta(microseconds=1), Standing.NOT_YET),
        (begin, Standing.DECIDED),
        (end, Standing.EXPIRED),
    ):
        told = explain("lamp", "hub", COMMAND, now=moment)
        assert [part.standing for part in told.parts] == [standing]
        assert told.decision.allowed is (standing is Standing.DECIDED)
    assert explain("lamp", "hub", COMMAND).as_document()["at"] is None
    printed, _ = run("explain", "lamp", "hub", COMMAND, "--at", "2126-01-04")
    assert "at 2126-01-04T00:00:00Z, by the rules and devices as they are now" in printed
    document = answer("explain", "lamp", "hub", COMMAND, "--at", "2126-01-03T11:00+02:00")
    assert (document["rule"], document["at"]) == (made.pk, "2126-01-03T09:00:00Z")
    refused = run("explain", "lamp", "hub", COMMAND, "--at", "tomorrow", code=1)[1]
    assert "no time such as" in refused


def test_near_misses_neither_decide_nor_take_part(make_device: Any, make_rule: Any) -> None:
    lamp = make_device("lamp")
    hub = make_device("hub")
    near = make_rule(hub, lamp, COMMAND)
    rule = make_rule("everyone", lamp, COMMAND)
    told = explain("lamp", "hub", COMMAND)
    assert (told.decider, told.out_of_force, told.took_part) == (None, None, [])
    assert [part.rule for part in told.near_misses] == [near, rule]  # each once
    assert told.lines()[1].startswith("denied: ")


def test_a_near_miss_says_in_words_what_the_receiver_would_have_to_be(
    make_device: Any, make_rule: Any
) -> None:
    make_device("lamp"), make_device("hub")
    make_rule("everyone", "itself", COMMAND)
    make_rule("everyone", "same-group", COMMAND)
    assert {part.remedy for part in explain("lamp", "hub", COMMAND).near_misses} == {
        "the receiver were the sender itself",
        "the receiver shared a group with the sender",
    }


def test_a_denial_overrules(make_device: Any, make_rule: Any) -> None:
    make_device("lamp")
    allow, deny = make_rule(), make_rule(effect="deny")
    second = make_rule("everyone", "itself", effect="deny")
    assert standings("lamp", "lamp", COMMAND) == {
        second.pk: Standing.DECIDED,
        deny.pk: Standing.AGREED,
        allow.pk: Standing.OVERRULED,
    }
    decider = explain("lamp", "lamp", COMMAND).decider
    assert decider is not None
    assert decider.pk == second.pk


def test_rules_of_a_disabled_device_are_not_asked(make_device: Any, make_rule: Any) -> None:
    make_device("lamp", enabled=False)
    rule = make_rule()
    assert standings("lamp", "lamp", COMMAND) == {rule.pk: Standing.NOT_ASKED}


def test_near_misses_are_few(make_device: Any, make_rule: Any) -> None:
    make_device("lamp")
    make_device("hub")
    for _ in range(12):
        make_rule(make_device(), "everyone", COMMAND)
    assert len(explain("lamp", "hub", COMMAND).near_misses) == 10


def test_an_explanation_costs_the_same_for_any_number_of_rules(
    make_device: Any, make_rule: Any, django_assert_max_num_queries: Any
) -> None:
    make_device("lamp")
    for _ in range(30):
        make_rule(command=COMMAND)
    with django_assert_max_num_queries(8):
        explanation = explain("lamp", "lamp", COMMAND)
        assert len(explanation.lines()) == 33
        assert len(explanation.as_document()["rules"]) == 30


def test_an_unknown_device_or_a_malformed_command_has_no_parts(
    make_device: Any, make_rule: Any
) -> None:
    make_device("lamp")
    make_rule()
    assert explain("lamp", "nobody", COMMAND).parts == ()
    assert explain("lamp", "lamp", "/" * 1000).parts == ()


def test_the_text_begins_with_the_answer(make_device: Any, make_group: Any, make_rule: Any) -> None:
    site = make_group("site")
    make_device("lamp", groups=[make_group("room", parent=site)])
    rule = make_rule(site, "itself", "/v1/Config.*", note="why not")
    assert explain("lamp", "lamp", COMMAND).lines() == [
        "lamp → lamp: /v1/Config.Get",
        "allowed: a rule allows it and none denies it",
        "groups of the sender: room, site",
        "groups of the receiver: room, site",
        "rules that match:",
        f"  #{rule.pk} allow group:site → itself: /v1/Config.* (decided)",
    ]


def test_the_command_answers_with_its_exit_code(make_device: Any, make_rule: Any) -> None:
    lamp = "//api.example.com/lamp"
    make_device(lamp)
    assert answer("explain", lamp, f"{lamp}.led", COMMAND, code=1)["reason"] == "no-rule"
    make_rule()
    assert "allowed: a rule allows it" in run("explain", lamp, lamp, COMMAND)[0]


def test_the_command_refuses_what_is_no_address(db: None) -> None:
    assert "one dot" in run("explain", "//a/b.c.d", "x", COMMAND, code=2)[1]
