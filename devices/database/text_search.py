"""Search without regard to case on SQLite, whose own knows the letters of English only.

A text of other letters is compared by Python's case folding. Other searches, and PostgreSQL's, stay
what they were: they may use an index. Also texts without regard to the script of their letters.
"""

import unicodedata
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import CharField, Func, TextField, lookups
from django.dispatch import receiver

from devices.values.text import LOOKALIKES, in_latin


def fold(text: str | None) -> str | None:
    """Return a text as it is compared: composed characters, without a difference of case."""
    return unicodedata.normalize("NFC", text).casefold() if isinstance(text, str) else text


@receiver(connection_created)
def add_functions(*, connection: BaseDatabaseWrapper, **_signal: Any) -> None:
    """Give a connection to SQLite the functions that fold."""
    if connection.vendor == "sqlite":
        connection.connection.create_function("FOLD", 1, fold, deterministic=True)
        connection.connection.create_function("IN_LATIN", 1, in_latin, deterministic=True)


class FoldsOnSqlite(lookups.Lookup):
    """Add the folding to a look-up that ignores case."""

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper) -> Any:
        """Compile to Django's own look-up, of both sides folded where the text needs it."""
        if not isinstance(self.rhs, str) or self.rhs.isascii():
            return self.as_sql(compiler, connection)
        folded = Func(self.lhs, function="FOLD", output_field=TextField())
        (own,) = (base for base in type(self).__bases__ if base is not FoldsOnSqlite)
        return own(folded, fold(self.rhs)).as_sql(compiler, connection)


for lookup in (lookups.IExact, lookups.IContains, lookups.IStartsWith, lookups.IEndsWith):
    folding = type(lookup.__name__, (FoldsOnSqlite, lookup), {})
    CharField.register_lookup(folding)
    TextField.register_lookup(folding)


class InLatin(Func):
    """A column in lower case; what is ASCII but for letters that look so, as `in_latin` returns it.

    Most rows are ASCII, or hold other letters, which is seen at the first of them: to turn letters
    costs 20 times as much. PostgreSQL lowers other letters as its locale says.
    """

    arity = 1
    output_field = TextField()
    others, latin = ("".join(map(chr, codes)) for codes in (LOOKALIKES, LOOKALIKES.values()))

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler,
            connection,
            **context,
            template="CASE WHEN LENGTH(%(expressions)s) = LENGTH(CAST(%(expressions)s AS BLOB)) "
            f"OR %(expressions)s GLOB '*[^ -~{self.others}]*' "
            "THEN LOWER(%(expressions)s) ELSE IN_LATIN(%(expressions)s) END",
        )

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler,
            connection,
            **context,
            template="LOWER(CASE WHEN LENGTH(%(expressions)s) = OCTET_LENGTH(%(expressions)s) "
            f"OR %(expressions)s ~ '[^ -~{self.others}]' THEN %(expressions)s "
            f"ELSE TRANSLATE(%(expressions)s, '{self.others}', '{self.latin}') END)",
        )
