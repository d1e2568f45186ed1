"""The decision corpus: rows that staff can read and add to, one by one and all in one batch."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from acl.as_code import import_document
from acl.engine.decisions import Decision, Reason, decide, decide_many
from acl.models import CommandPermission
from devices.models import Device

HERE = Path(__file__).parent
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Row(NamedTuple):
    """One line of decisions.tsv."""

    allowed: str
    by: str
    source: str
    destination: str
    command: str
    when: str

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.when) if self.when else NOON


def rows() -> list[Row]:
    lines = (HERE / "decisions.tsv").read_text("utf-8").splitlines()
    table = csv.reader(
        (line for line in lines if not line.startswith("#")),
        delimiter="\t",
        quoting=csv.QUOTE_NONE,
    )
    header, *body = table
    assert header == list(Row._fields)
    return [Row(*line) for line in body]


ROWS = rows()


@pytest.fixture
def registry(db: None) -> dict[int, str]:
    """Store the corpus's registry; return the notes of its rules."""
    document: dict[str, Any] = yaml.safe_load((HERE / "decisions.yaml").read_text("utf-8"))
    for name, enabled in (("devices", True), ("disabled", False)):
        for identifier in document[name]:
            device = Device(identifier=identifier, enabled=enabled)
            device.full_clean()
            device.save()
    import_document(document["permissions"])
    return dict(CommandPermission.objects.values_list("pk", "note"))


def by(decision: Decision, notes: dict[int, str]) -> str:
    if decision.rule is not None:
        return notes[decision.rule]
    return "" if decision.reason is Reason.NO_RULE else str(decision.reason)


def test_the_corpus_is_worth_its_name() -> None:
    assert len(ROWS) >= 120
    assert len(set(ROWS)) == len(ROWS)
    assert {row.allowed for row in ROWS} == {"yes", "no"}


def test_every_row_is_decided_as_it_says(registry: dict[int, str]) -> None:
    wrong = []
    for row in ROWS:
        decision = decide(row.source, row.destination, row.command, now=row.moment)
        if ("yes" if decision.allowed else "no", by(decision, registry)) != row[:2]:
            wrong.append((row, decision.reason, by(decision, registry)))
    assert not wrong


def test_rows_of_one_moment_are_decided_alike_in_one_batch(registry: dict[int, str]) -> None:
    for moment in {row.moment for row in ROWS}:
        alike = [row for row in ROWS if row.moment == moment]
        decisions = decide_many(
            [(row.source, row.destination, row.command) for row in alike], now=moment
        )
        assert [by(decision, registry) for decision in decisions] == [row.by for row in alike]


def test_every_rule_of_the_registry_has_its_part(registry: dict[int, str]) -> None:
    named = {row.by for row in ROWS}
    assert set(registry.values()) - named == {"switched-off", "guest-hello"}
