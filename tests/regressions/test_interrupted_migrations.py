"""A migration that was interrupted while it made an index could never be run again.

PostgreSQL keeps the index, marked invalid: "already exists", or it was skipped and never used.
Public reports of this kind: https://github.com/ankane/strong_migrations/issues/233,
https://github.com/chatwoot/chatwoot/issues/15885.
"""

import threading
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.migrations.state import ProjectState
from psycopg import sql

from authsite.management.commands import migrate
from devices.database.indexes import AddIndexMeanwhile, RemoveIndexMeanwhile, patience
from devices.models import Device

pytestmark = pytest.mark.django_db(transaction=True)

needs_postgres = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="PostgreSQL")
NAME = "devices_device_disabled"  # made by AddIndexMeanwhile
TOLERANT = "devices_key_unrevoked"  # made by CREATE INDEX … IF NOT EXISTS
INDEX = next(index for index in Device._meta.indexes if index.name == NAME)


def run(operation: Any, *, back: bool = False) -> None:
    with_it, without = ProjectState.from_apps(apps), ProjectState.from_apps(apps)
    without.remove_index("devices", "device", NAME)
    adds = isinstance(operation, AddIndexMeanwhile) is not back
    states = (without, with_it) if adds else (with_it, without)
    with connection.schema_editor(atomic=False) as editor:
        go = operation.database_backwards if back else operation.database_forwards
        go("devices", editor, *states)


def is_there(name: str = NAME) -> bool:
    """Whether the index is there and can be used."""
    query = "SELECT true FROM sqlite_master WHERE name = %s"
    if connection.vendor == "postgresql":
        query = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
    with connection.cursor() as cursor:
        cursor.execute(query, [name])
        return bool(cursor.fetchone() == (True,))


def interrupt(name: str) -> None:
    """Leave an index as PostgreSQL does where its making ends before its time."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [name]
        )


def other_session() -> "psycopg.Connection[Any]":
    own = connection.settings_dict
    url = {"host": own["HOST"], "port": own["PORT"], "user": own["USER"]}
    return psycopg.connect(dbname=own["NAME"], password=own["PASSWORD"], **url)


ADD = AddIndexMeanwhile(model_name="device", index=INDEX)
REMOVE = RemoveIndexMeanwhile(model_name="device", name=NAME)


@pytest.mark.parametrize(
    ("add", "remove"), [((ADD, False), (REMOVE, False)), ((REMOVE, True), (ADD, True))]
)
def test_what_is_done_already_is_not_done_again(
    add: tuple[Any, bool], remove: tuple[Any, bool]
) -> None:
    assert is_there()
    run(add[0], back=add[1])
    assert is_there()
    for _attempt in range(2):
        run(remove[0], back=remove[1])
        assert not is_there()
    for _attempt in range(2):
        run(add[0], back=add[1])
        assert is_there()


@needs_postgres
def test_an_index_that_was_left_invalid_is_made_again() -> None:
    interrupt(NAME)
    run(ADD)
    assert is_there()


@needs_postgres
@pytest.mark.parametrize("name", [NAME, TOLERANT])
def test_a_migration_makes_what_was_left_invalid_anew(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(name)
    call_command("migrate", "--plan")
    assert not is_there(name)
    call_command("migrate")
    assert is_there(name)
    assert f"Made {name} anew" in capsys.readouterr().out


@needs_postgres
def test_a_copy_that_was_left_half_made_is_taken_away() -> None:
    copy = f"{NAME}_ccnew1"
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE INDEX {} ON devices_device (id)").format(sql.Identifier(copy))
        )
    interrupt(copy)
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [copy])
        assert cursor.fetchone() == (None,)
    assert is_there()


@needs_postgres
def test_an_index_waits_for_those_who_write_and_nobody_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The short wait for locks is for those behind which requests would wait."""
    monkeypatch.setattr(migrate, "PAUSE", 0.05)
    call_command("migrate", "devices", "0021", verbosity=0)
    try:
        with other_session() as other:
            other.execute("LOCK TABLE devices_device IN ROW EXCLUSIVE MODE")  # as writers do
            threading.Timer(1.0, other.rollback).start()
            call_command("migrate", "devices", "0022", lock_timeout=0.1, verbosity=0)
        assert "A table is in use" not in capsys.readouterr().err
        assert is_there()
    finally:
        call_command("migrate", verbosity=0)


@needs_postgres
@pytest.mark.parametrize(("pooler", "waits"), [(False, "10min"), (True, "7s")])
def test_no_connection_of_a_pooler_is_left_with_a_setting(
    settings: Any, pooler: bool, waits: str
) -> None:
    settings.DATABASE_POOLER = pooler
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '7s'")
        try:
            with patience(connection):
                cursor.execute("SHOW lock_timeout")
                assert cursor.fetchone() == (waits,)
        finally:
            cursor.execute("RESET lock_timeout")
