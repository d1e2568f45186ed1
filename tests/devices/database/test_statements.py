"""Statements that are compiled once: what the driver is handed, and a connection that died."""

import pytest
from django.db import connection
from django.utils import timezone

from devices.credentials.pre_shared_keys import KEYS_OF_DEVICES
from devices.database.statements import execute

RUN_TWICE = "SELECT '100%%', %s"


@pytest.mark.django_db
def test_a_percent_sign_is_no_placeholder() -> None:
    assert execute(connection, RUN_TWICE, ["x"]) == [("100%", "x")]


@pytest.mark.django_db
def test_a_logged_run_answers_as_an_unlogged_one(
    django_assert_num_queries: object, make_device: object
) -> None:
    device = make_device()  # type: ignore[operator]
    values = (timezone.now(), timezone.now(), [device.identifier])
    unlogged = KEYS_OF_DEVICES.rows(*values)
    with django_assert_num_queries(1):  # type: ignore[operator]
        logged = KEYS_OF_DEVICES.rows(*values)

    assert logged == unlogged
    assert unlogged[0][:2] == (device.identifier, device.pk)


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_died_is_opened_anew() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("a file has no server that could end a connection")
    execute(connection, RUN_TWICE, ["x"])
    connection.connection.close()

    assert execute(connection, RUN_TWICE, ["y"]) == [("100%", "y")]
