"""Changes that are made one after the other, since each is checked against all rows of a table."""

from django.db import connection


def take_turn(table: str) -> None:
    """Wait until no other transaction has its turn with a table; ends with the transaction.

    It locks no row: whoever changes one has locked that already, and two who did so and then asked
    for all rows waited for each other. SQLite has one writer anyway.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [table])
