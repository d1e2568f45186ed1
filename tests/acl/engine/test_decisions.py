"""The decision: what takes part, what wins, and what it costs."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from acl.engine.decisions import (
    Reason,
    Request,
    decide,
    decide_many,
    find_decisions_by_request,
)
from acl.engine.statements import CONTEXT_AND_RULES
from acl.models import CommandPermission, CommandSetPattern
from acl.models.command_permission import Effect
from devices.database.statements import MustWait, answered
from devices.models import DeviceGroup

COMMAND = "/v1/Config.Get"


@pytest.fixture
def pair(make_device: Any) -> tuple[str, str]:
    make_device("lamp")
    make_device("hub")
    return "lamp", "hub"


def test_without_a_rule_the_answer_is_no(pair: tuple[str, str]) -> None:
    decision = decide(*pair, COMMAND)
    assert (decision.allowed, decision.reason, decision.rule) == (False, Reason.NO_RULE, None)
    assert decision.effect is None


def test_a_rule_allows_and_is_named(pair: tuple[str, str], make_rule: Any) -> None:
    rule = make_rule(command="/v1/Config.*")
    decision = decide(*pair, COMMAND)
    assert (decision.allowed, decision.rule, decision.effect) == (True, rule.pk, Effect.ALLOW)


def test_any_deny_wins_over_a_closer_allow(make_device: Any, make_rule: Any) -> None:
    lamp, hub = make_device("lamp"), make_device("hub")
    make_rule(lamp, hub, COMMAND)
    deny = make_rule(effect="deny")
    decision = decide("lamp", "hub", COMMAND)
    assert (decision.reason, decision.rule) == (Reason.DENIED, deny.pk)
    assert decision.effect is Effect.DENY


@pytest.mark.parametrize(
    ("source", "destination", "command", "reason"),
    [
        ("nobody", "hub", COMMAND, Reason.UNKNOWN_SOURCE),
        ("lamp", "nobody", COMMAND, Reason.UNKNOWN_DESTINATION),
        ("off", "hub", COMMAND, Reason.DISABLED_SOURCE),
        ("lamp", "off", COMMAND, Reason.DISABLED_DESTINATION),
        ("LAMP", "hub", COMMAND, Reason.UNKNOWN_SOURCE),
        ("la\x00mp", "hub", COMMAND, Reason.UNKNOWN_SOURCE),
        ("\ud800", "hub", COMMAND, Reason.UNKNOWN_SOURCE),
        ("lamp", "h" * 10_000, COMMAND, Reason.UNKNOWN_DESTINATION),
        ("lamp", "hub", "", Reason.MALFORMED_COMMAND),
        ("lamp", "hub", "/" * 1000, Reason.MALFORMED_COMMAND),
        ("lamp", "hub", "/" * 33, Reason.MALFORMED_COMMAND),
        ("lamp", "hub", "x" * 256, Reason.MALFORMED_COMMAND),
        ("lamp", "hub", "/v1/\x00", Reason.MALFORMED_COMMAND),
        ("lamp", "hub", "/" * 32, Reason.ALLOWED),
    ],
)
def test_what_rules_cannot_open(
    make_device: Any,
    make_rule: Any,
    source: str,
    destination: str,
    command: str,
    reason: Reason,
) -> None:
    make_device("lamp")
    make_device("hub")
    make_device("off", enabled=False)
    make_rule()
    assert decide(source, destination, command).reason == reason


def test_a_rule_on_a_group_covers_the_groups_below_it(
    make_device: Any, make_group: Any, make_rule: Any
) -> None:
    site = make_group("site")
    floor = make_group("floor", parent=make_group("building", parent=site))
    make_device("lamp", groups=[floor])
    make_device("hub")
    make_rule(site, "everyone", "*")
    assert decide("lamp", "hub", COMMAND).allowed
    assert not decide("hub", "lamp", COMMAND).allowed


def test_the_walk_up_ends_in_a_tree_with_a_cycle(
    make_device: Any, make_group: Any, make_rule: Any
) -> None:
    upper = make_group("upper")
    lower = make_group("lower", parent=upper)
    DeviceGroup.objects.filter(pk=upper.pk).update(parent=lower)  # no form lets this through
    make_device("lamp", groups=[lower])
    make_rule(upper, "itself", "*")
    assert decide("lamp", "lamp", COMMAND).allowed


def test_itself_is_the_sender_and_nobody_else(pair: tuple[str, str], make_rule: Any) -> None:
    make_rule("everyone", "itself", "*")
    assert decide("lamp", "lamp", COMMAND).allowed
    assert not decide("lamp", "hub", COMMAND).allowed


def test_same_group_means_a_group_that_both_are_in_directly(
    make_device: Any, make_group: Any, make_rule: Any
) -> None:
    site = make_group("site")
    first, second = make_group("first", parent=site), make_group("second", parent=site)
    make_device("a", groups=[first])
    make_device("b", groups=[first, second])
    make_device("c", groups=[second])
    make_device("d", groups=[site])
    make_rule("everyone", "same-group", "*")
    allowed = {(x, y) for x in "abcd" for y in "abcd" if decide(x, y, COMMAND).allowed}
    assert allowed == {
        *(("a", "a"), ("b", "b"), ("c", "c"), ("d", "d")),
        *(("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")),
    }


def test_a_command_set_matches_by_any_of_its_patterns(
    pair: tuple[str, str], make_rule: Any, make_set: Any
) -> None:
    reading = make_set("reading", "/v1/Config.Get", "/v1/Sys.*")
    rule = make_rule(command=reading)
    assert decide(*pair, "/v1/Config.Get").rule == rule.pk
    assert decide(*pair, "/v1/Sys.Info").rule == rule.pk
    assert not decide(*pair, "/v1/Config.Set").allowed
    CommandSetPattern.objects.create(command_set=reading, pattern="/v1/Config.Set")
    assert decide(*pair, "/v1/Config.Set").allowed


def test_no_command_reaches_a_set_by_its_key(
    pair: tuple[str, str], make_rule: Any, make_set: Any
) -> None:
    rule = make_rule(command=make_set("reading", "/v1/Config.Get"))
    assert rule.command_key == f"*{rule.command_set_id}"
    assert not decide(*pair, rule.command_key).allowed


def test_a_rule_decides_within_its_window_only(pair: tuple[str, str], make_rule: Any) -> None:
    now = timezone.now()
    hour = timedelta(hours=1)
    make_rule(valid_from=now, valid_until=now + hour)
    at = {shift: decide(*pair, COMMAND, now=now + shift).allowed for shift in (-hour, 0 * hour)}
    assert at == {-hour: False, 0 * hour: True}
    assert not decide(*pair, COMMAND, now=now + hour).allowed


def test_a_rule_that_is_switched_off_decides_nothing(pair: tuple[str, str], make_rule: Any) -> None:
    make_rule(enabled=False)
    assert decide(*pair, COMMAND).reason == Reason.NO_RULE


def test_the_most_specific_rule_is_named(
    make_device: Any, make_group: Any, make_rule: Any, make_set: Any
) -> None:
    room = make_group("room")
    lamp, hub = make_device("lamp", groups=[room]), make_device("hub", groups=[room])
    widening = [
        make_rule(lamp, hub, COMMAND),
        make_rule(lamp, hub, make_set("configuration", "*", "/v1/Config.*")),
        make_rule(lamp, hub, "/v1/*"),
        make_rule(lamp, "same-group", COMMAND),
        make_rule(lamp, room, COMMAND),
        make_rule(lamp, "everyone", COMMAND),
        make_rule(room, hub, "*"),
        make_rule("everyone", hub, COMMAND),
        make_rule(),
        make_rule(),
    ]
    for rule in widening:
        assert decide("lamp", "hub", COMMAND).rule == rule.pk
        rule.delete()
    assert decide("lamp", "hub", COMMAND).reason == Reason.NO_RULE


def test_many_requests_are_answered_in_their_order(
    make_device: Any, make_rule: Any, make_set: Any
) -> None:
    lamp, hub = make_device("lamp"), make_device("hub")
    rule = make_rule(lamp, hub, "/v1/Config.*")
    deny = make_rule("everyone", hub, make_set("erasing", "/v1/Config.Erase"), effect="deny")
    answers = decide_many(
        [
            ("lamp", "hub", COMMAND),
            ("hub", "lamp", COMMAND),
            ("lamp", "nobody", COMMAND),
            ("lamp", "hub", ""),
            ("lamp", "hub", "/v1/Config.Erase"),
            ("lamp", "hub", COMMAND),
        ]
    )
    assert [(answer.reason, answer.rule) for answer in answers] == [
        (Reason.ALLOWED, rule.pk),
        (Reason.NO_RULE, None),
        (Reason.UNKNOWN_DESTINATION, None),
        (Reason.MALFORMED_COMMAND, None),
        (Reason.DENIED, deny.pk),
        (Reason.ALLOWED, rule.pk),
    ]
    assert decide_many([]) == []


@pytest.mark.parametrize("number", [1, 2, 1000])
def test_two_statements_whatever_the_number_of_requests(
    number: int, pair: tuple[str, str], make_rule: Any, django_assert_num_queries: Any
) -> None:
    make_rule()
    requests = [(*pair, f"/v1/Config.{n}/{n}.Get") for n in range(number)]
    with django_assert_num_queries(2):
        answers = decide_many(requests)
    assert all(answer.allowed for answer in answers)
    assert len(answers) == number


def test_one_statement_where_an_end_refuses(
    make_device: Any, django_assert_num_queries: Any
) -> None:
    make_device("lamp")
    with django_assert_num_queries(1):
        decide("lamp", "nobody", COMMAND)
    with django_assert_num_queries(0):
        decide("lamp", "lamp", "/" * 1000)


def plan_of(sql: str) -> str:
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {sql}".replace("%", "%%"), ())
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def looked_up() -> set[str]:
    """Return the columns of one look-up of rules; an older PostgreSQL chooses some of them."""
    if getattr(connection, "pg_version", 170_000) < 170_000:
        return set()
    return {"source_key", "destination_key", "command_key"}


def test_nothing_is_scanned_whatever_the_statistics(pair: tuple[str, str], make_group: Any) -> None:
    top = make_group()
    DeviceGroup.objects.bulk_create(DeviceGroup(name=f"g{n}", parent=top) for n in range(5_000))
    CommandPermission.objects.bulk_create(
        CommandPermission(
            source_kind="everyone", destination_kind="itself", pattern=f"/{n % 9}/{n}"
        )
        for n in range(20_000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with CaptureQueriesContext(connection) as captured:
        decide(*pair, COMMAND)
    context, rules = (plan_of(query["sql"]) for query in captured.captured_queries)
    scans = r"BLOOM FILTER ON|SCAN [pg]|Seq Scan on (acl_commandpermission|devices_devicegroup)\b"
    assert not re.search(scans, context), context
    assert not re.search("BLOOM FILTER ON|SCAN [pg]|Seq Scan", rules), rules
    look_up = next(line for line in rules.splitlines() if re.search("SEARCH p |Index Cond", line))
    assert looked_up() <= set(re.findall(r"\w+", look_up))


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite is asked two statements")
def test_the_loop_finds_few_decisions_by_one_statement_that_scans_nothing(
    make_device: Any, make_group: Any, make_rule: Any
) -> None:
    upper = make_group()
    lower = make_group(parent=upper)
    make_device("lamp", groups=[lower])
    make_device("hub", groups=[lower])
    allow = make_rule(upper, "same-group", "/v1/Config.*")
    CommandPermission.objects.bulk_create(
        CommandPermission(source_kind="everyone", destination_kind="itself", pattern=f"/{n}")
        for n in range(20_000)
    )
    DeviceGroup.objects.bulk_create(DeviceGroup(name=f"g{n}", parent=upper) for n in range(5_000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    requests = [Request("lamp", "hub", COMMAND), Request("hub", "lamp", "/v1/Valve.Open")]

    with CaptureQueriesContext(connection) as captured:
        found = answered(find_decisions_by_request(requests, vendor="postgresql"))

    assert list(found.values()) == [(Reason.ALLOWED, allow.pk), (Reason.NO_RULE, None)]
    plan = plan_of(captured.captured_queries[0]["sql"])
    assert len(captured) == 1
    assert not re.search(r"Seq Scan on (acl_commandpermission|devices_devicegroup)\b", plan), plan
    by_key = "Index Cond.*(source|command)_key"
    look_up = next(line for line in plan.splitlines() if re.search(by_key, line))
    assert looked_up() <= set(re.findall(r"\w+", look_up))


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite is asked two statements")
def test_the_loop_asks_again_where_more_rules_may_match_than_come_at_once(
    make_device: Any, make_rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lamp, hub = make_device("lamp"), make_device("hub")
    for device in (lamp, hub):
        make_rule(device, "everyone", "*")
    deny = make_rule(lamp, hub, COMMAND, effect="deny")
    requests = [Request("lamp", "hub", COMMAND), Request("hub", "lamp", COMMAND)]
    for most, statements in ((4, 1), (3, 2)):
        sql = CONTEXT_AND_RULES.sql["postgresql"].replace("LIMIT 500", f"LIMIT {most}")
        assert sql != CONTEXT_AND_RULES.sql["postgresql"]
        monkeypatch.setitem(CONTEXT_AND_RULES.sql, "postgresql", sql)
        monkeypatch.setattr("acl.engine.decisions.MAX_RULES_AT_ONCE", most)
        with CaptureQueriesContext(connection) as captured:
            found = answered(find_decisions_by_request(requests, vendor="postgresql"))
        assert len(captured) == statements
        assert found[requests[0]] == (Reason.DENIED, deny.pk)
        assert found[requests[1]].allowed
        monkeypatch.undo()


@pytest.mark.parametrize("number", [16, 17])
def test_the_loop_asks_the_same_of_few_and_of_many(
    number: int, pair: tuple[str, str], make_rule: Any, django_assert_num_queries: Any
) -> None:
    rule = make_rule()
    requests = [Request(*pair, f"/v1/Config.{n}") for n in range(number)]
    at_once = connection.vendor == "postgresql" and number == 16
    with django_assert_num_queries(1 if at_once else 2):
        found = answered(find_decisions_by_request(requests, vendor=connection.vendor))
    assert found == dict.fromkeys(requests, (Reason.ALLOWED, rule.pk))


def test_large_frames_scan_no_rules(
    pair: tuple[str, str], make_rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    CommandPermission.objects.bulk_create(
        CommandPermission(source_kind="everyone", destination_kind="itself", pattern=f"/{n}")
        for n in range(5_000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    monkeypatch.setattr("acl.engine.decisions.MAX_COMBINATIONS", 0)
    with CaptureQueriesContext(connection) as captured:
        decide(*pair, COMMAND)
    _context, rules = (plan_of(query["sql"]) for query in captured.captured_queries)
    assert not re.search("BLOOM FILTER ON|SCAN p|SCAN acl_|Seq Scan", rules), rules


def test_the_loop_leaves_many_combinations_on_sqlite_to_a_thread(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(*pair, COMMAND)
    found = answered(find_decisions_by_request([request], vendor="sqlite"))
    assert found == {request: decide(*pair, COMMAND)}
    monkeypatch.setattr("acl.engine.decisions.MAX_COMBINATIONS", 0)
    with pytest.raises(MustWait):
        answered(find_decisions_by_request([request], vendor="sqlite"))
