"""Backup and restore of the database: a file, and a manifest beside it that says what is in it.

A file of SQLite is a database, one of PostgreSQL an archive of `pg_dump`: other tools read both.
docs/operations.md describes the use.
"""

import hashlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from django.apps import apps
from django.conf import settings
from django.db import (
    DatabaseError,
    DataError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)
from psycopg.conninfo import make_conninfo

from devices.credentials.hashing import check_of
from devices.extension_points import PEPPERED
from devices.management.files import check_free, new_file
from devices.models import PreSharedKey

FORMAT = 1
TABLE_DATA = re.compile(r" TABLE DATA \S+ (\S+) ")  # of a line of `pg_restore --list`
STEPS = 100_000  # of SQLite's machine, a few milliseconds
MIGRATIONS = "django_migrations"
LOCK_SECONDS = 10  # that a dump waits for a table which somebody changes the columns of

Rows = list[tuple[Any, ...]]


class BackupError(Exception):
    """The backup or the restoration was not done; the text says why."""


class Manifest(msgspec.Struct, frozen=True):
    """What is in a backup: read from the file, or in the transaction that wrote it."""

    format: int
    created: str
    vendor: str
    server: str  # version
    size: int  # bytes
    sha256: str
    migrations: list[tuple[str, str]]
    rows: dict[str, int]
    peppers: dict[str, int]  # keys, tokens and webhooks by the ID of the pepper that they need
    checks: dict[str, str] = {}  # of these peppers, as `hashing.check_of`; none in older backups

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def manifest_of(file: Path) -> Path:
    """Return where the manifest of a backup lies; raises BackupError for `/`, which has no name."""
    if not file.name:
        raise BackupError(f"{file} is a folder: name a file")
    return file.with_name(f"{file.name}.json")


def backup(file: Path) -> Manifest:
    """Write a backup, consistent while servers go on, and its manifest.

    Raises BackupError, and FileRefused where it cannot be written.
    """
    for path in (file, manifest_of(file)):
        check_free(path)
    with new_file(file) as part:
        dump = _dump_sqlite if connection.vendor == "sqlite" else _dump_postgresql
        described = dump(part)
        manifest = Manifest(
            format=FORMAT,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            vendor=connection.vendor,
            size=part.stat().st_size,
            sha256=_digest(part),
            checks=_checks(described["peppers"]),
            **described,
        )
        with new_file(manifest_of(file)) as beside:
            beside.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def restore(file: Path, *, replace: str | None = None) -> Manifest:
    """Restore a backup into the database of the settings.

    It must be empty, unless `replace` is its name: then what it holds is lost. Raises BackupError,
    and FileRefused where it cannot be written.
    """
    manifest = read_manifest(file)
    if manifest.vendor != connection.vendor:
        raise BackupError(
            f"this is a backup of {manifest.vendor}, and DATABASE_URL names {connection.vendor}"
        )
    if newer := [f"{app}.{name}" for app, name in manifest.migrations if not _is_known(app, name)]:
        raise BackupError(f"the backup is of a newer release: {', '.join(newer)} is not known here")
    if connection.vendor == "sqlite":
        _restore_sqlite(file, manifest, replace)
    else:
        _restore_postgresql(file, manifest, replace)
    return manifest


def _is_known(app: str, migration: str) -> bool:
    """Whether a migration is among those of this release; no database is asked."""
    installed = {config.label: config.name for config in apps.get_app_configs()}
    try:
        return app in installed and bool(find_spec(f"{installed[app]}.migrations.{migration}"))
    except ModuleNotFoundError:  # the app has none any more
        return False


def read_manifest(file: Path) -> Manifest:
    """Return the manifest of a backup once the file is what it says; raises BackupError."""
    try:
        manifest = msgspec.json.decode(manifest_of(file).read_bytes(), type=Manifest)
        size, digest = file.stat().st_size, _digest(file)
    except OSError as error:
        raise BackupError(f"{error.filename} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BackupError(f"{manifest_of(file)} is no manifest: {error}") from error
    if manifest.format != FORMAT:
        raise BackupError(f"{manifest_of(file)} has a format that is not known here")
    if (size, digest) != (manifest.size, manifest.sha256):
        raise BackupError(f"{file} is not what its manifest describes: it was cut off or changed")
    return manifest


def differences(manifest: Manifest) -> list[str]:
    """Return what the database of the settings lacks of a backup, in words."""
    with connection.cursor() as cursor:
        found = _counted(lambda sql: _fetch(cursor, sql), connection.introspection.table_names())
    tables = sorted(manifest.rows.keys() | found.keys())
    return [
        f"{table}: {manifest.rows.get(table, 0)} rows in the backup, {found.get(table, 0)} here"
        for table in tables
        if manifest.rows.get(table, 0) != found.get(table, 0)
    ]


def missing_peppers(manifest: Manifest) -> list[str]:
    """Return the IDs of the peppers that something needs and PEPPERS does not have."""
    return sorted(manifest.peppers.keys() - settings.PEPPERS.keys())


def other_peppers(manifest: Manifest) -> list[str]:
    """Return the IDs under which PEPPERS has another pepper than where the backup was made."""
    here = _checks(manifest.checks)
    return sorted(name for name in here if here[name] != manifest.checks[name])


def _checks(names: Iterable[str]) -> dict[str, str]:
    """Return what tells the configured ones of these peppers from others of the same ID."""
    return {name: check_of(settings.PEPPERS[name]) for name in names if name in settings.PEPPERS}


# --- What is in a database ------------------------------------------------------------------


def _counted(fetch: Callable[[str], Rows], tables: Iterable[str]) -> dict[str, int]:
    return {
        table: fetch(f"SELECT COUNT(*) FROM {connection.ops.quote_name(table)}")[0][0]  # noqa: S608
        for table in sorted(tables)
    }


def _described(fetch: Callable[[str], Rows], tables: Iterable[str]) -> dict[str, Any]:
    """Return the rows of each table, the migrations, and the peppers that are needed."""
    tables = set(tables)
    peppers = Counter[str]()
    models: list[type[Any]] = [PreSharedKey, *PEPPERED.values()]
    for model in models:
        meta = model._meta
        if meta.db_table not in tables:  # of a later release than the database's
            continue
        ends = any(field.name == "revoked_at" for field in meta.fields)
        where = " WHERE revoked_at IS NULL" if ends else ""
        name = connection.ops.quote_name(meta.db_table)
        counted = fetch(f"SELECT pepper, COUNT(*) FROM {name}{where} GROUP BY pepper")  # noqa: S608
        peppers.update(dict(counted))
    return {
        "rows": _counted(fetch, tables),
        "migrations": fetch("SELECT app, name FROM django_migrations ORDER BY id"),
        "peppers": dict(sorted(peppers.items())),
    }


def _fetch(cursor: Any, sql: str) -> Rows:
    cursor.execute(sql)
    rows: Rows = cursor.fetchall()
    return rows


# --- SQLite ---------------------------------------------------------------------------------


def _dump_sqlite(part: Path) -> dict[str, Any]:
    """Write a copy by VACUUM INTO: of one moment, in one go, while others write."""
    source = _database_file()
    with _open(source) as database:
        database.set_progress_handler(lambda: 0, STEPS)  # where Python sees that it is to end
        try:
            database.execute("VACUUM INTO ?", [str(part)])
        except sqlite3.OperationalError as error:
            raise BackupError(f"{source} cannot be copied to {part}: {error}") from error
    with _open(part) as copy:
        _check_sqlite(copy, part)
        tables = _tables_of(copy)
        if MIGRATIONS not in tables:
            raise BackupError(f"{source} is no registry: it has not been migrated")
        described = _described(lambda sql: list(copy.execute(sql)), tables)
        return {"server": sqlite3.sqlite_version, **described}


def _tables_of(database: sqlite3.Connection) -> list[str]:
    found = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' "
        "ESCAPE '~'"
    )
    return [name for (name,) in found]


def _restore_sqlite(file: Path, manifest: Manifest, replace: str | None) -> None:
    """Put a copy in the place of the database, with nothing of the old one beside it."""
    named = _database_file()
    target = named.resolve()  # a link to the database stays one, and its log lies beside the file
    connections.close_all()
    if target.exists() and target.stat().st_size:
        if _holds_tables(target) and replace != named.name:
            raise _not_empty(named.name)
        _end_write_ahead_log(target)
    with new_file(target, replace=True) as part:
        shutil.copyfile(file, part)
        with _open(part) as copy:
            _check_sqlite(copy, part)
            counted = _counted(lambda sql: list(copy.execute(sql)), _tables_of(copy))
        if counted != manifest.rows:
            raise BackupError(f"{file} does not hold the rows that its manifest says")
        if target.exists():  # whoever could read it can read what takes its place
            shutil.copymode(target, part)
            with suppress(PermissionError):
                os.chown(part, target.stat().st_uid, target.stat().st_gid)
        # A write-ahead log of another database would be read as if it were this one's.
        for suffix in ("-wal", "-shm", "-journal"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)


def _database_file() -> Path:
    name = str(connection.settings_dict["NAME"])
    if ":memory:" in name or "mode=memory" in name:
        raise BackupError("the database is in memory: there is nothing to copy")
    return Path(name)


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file that exists, without a transaction; raises BackupError for what is none."""
    try:
        database = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=5
        )
        with closing(database):
            yield database
    except sqlite3.Error as error:
        raise BackupError(f"{path}: {error}") from error


def _check_sqlite(database: sqlite3.Connection, path: Path) -> None:
    problems = [row[0] for row in database.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
    if problems or database.execute("PRAGMA foreign_key_check").fetchone():
        raise BackupError(f"{path} is damaged: {'; '.join(problems) or 'rows refer to no row'}")


def _holds_tables(path: Path) -> bool:
    """Whether a file may hold something: a damaged database does, for all that can be said."""
    try:
        with _open(path) as database:
            return bool(database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0])
    except BackupError:
        return True


def _end_write_ahead_log(target: Path) -> None:
    """Take the database out of WAL mode, which only its last user can; raises BackupError."""
    try:
        with _open(target) as database:
            (mode,) = database.execute("PRAGMA journal_mode=DELETE").fetchone()
    except BackupError as error:
        if isinstance(error.__cause__, sqlite3.OperationalError):
            mode = "locked"
        else:
            return  # no database: nobody can have it open as one
    if mode != "delete":
        raise BackupError(f"{target} is in use: stop the servers first")


# --- PostgreSQL -----------------------------------------------------------------------------


def _dump_postgresql(part: Path) -> dict[str, Any]:
    """Write an archive of the moment at which its rows are counted."""
    _check_direct()
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        ((snapshot, version),) = _fetch(
            cursor, "SELECT pg_export_snapshot(), current_setting('server_version')"
        )
        tables = connection.introspection.table_names(cursor)
        if MIGRATIONS not in tables:
            name = connection.settings_dict["NAME"]
            raise BackupError(f"{name} is no registry: it has not been migrated")
        described = _described(lambda sql: _fetch(cursor, sql), tables)
        _run(
            *("pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={part}"),
            *("--no-owner", "--no-privileges", f"--lock-wait-timeout={LOCK_SECONDS}s"),
            _conninfo(),
        )
    _check_archive(part, described["rows"])
    return {"server": version, **described}


def _restore_postgresql(file: Path, manifest: Manifest, replace: str | None) -> None:
    """Restore an archive in one transaction, once the database is empty."""
    _check_direct()
    name = connection.settings_dict["NAME"]
    _check_archive(file, manifest.rows)
    words = ("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges")
    state = ""
    try:
        with transaction.atomic(durable=True), connection.cursor() as cursor:
            if tables := connection.introspection.table_names(cursor):
                if replace != name:
                    raise _not_empty(name)
                _check_unused(cursor, name)
                _check_preamble(cursor, file)
                quoted = ", ".join(map(connection.ops.quote_name, tables))
                cursor.execute(f"DROP TABLE {quoted} CASCADE")
                state = "may be empty now"  # a commit that is not answered may have been made
        state = "is empty now"
        _run("pg_restore", *words, _conninfo(), str(file))
    except (BackupError, DatabaseError) as error:
        if not state:
            raise
        raise BackupError(f"{error}\n{name} {state}: restore again once this is mended") from error


def _check_direct() -> None:
    """Raise BackupError where a pooler stands before the server: it tells a PID of its own.

    PostgreSQL's programs empty the search path of their session. A pooler in transaction mode would
    hand that on to the servers of the registry, which would find no table.
    """
    with connection.cursor() as cursor:
        ((pid,),) = _fetch(cursor, "SELECT pg_backend_pid()")
    if pid != connection.connection.info.backend_pid:
        raise BackupError("DATABASE_URL leads to a pooler: name PostgreSQL itself for this command")


def _check_unused(cursor: Any, name: str) -> None:
    """Raise BackupError where somebody else is connected to the database."""
    others = _fetch(
        cursor,
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND usename = current_user AND pid <> pg_backend_pid()",
    )
    if others[0][0]:
        raise BackupError(f"{name} is in use: stop the servers first")


def _check_preamble(cursor: Any, file: Path) -> None:
    """Raise BackupError where the server is too old for what this `pg_restore` sets first."""
    script = _run("pg_restore", f"--use-list={os.devnull}", "--file=-", str(file))
    first = [line for line in script.splitlines() if line.startswith("SET ")]
    try:
        with transaction.atomic():
            cursor.execute("\n".join(first))
            transaction.set_rollback(True)
    except (DataError, ProgrammingError) as error:
        raise BackupError(
            f"pg_restore is too new for this server: use that of its release ({error})"
        ) from error


def _check_archive(archive: Path, tables: dict[str, int]) -> None:
    """Read an archive to its end, and find the data of these tables in it."""
    listed = set(TABLE_DATA.findall(_run("pg_restore", "--list", str(archive))))
    if lost := tables.keys() - listed:
        raise BackupError(f"{archive} lacks {', '.join(sorted(lost))}")
    _run("pg_restore", f"--file={os.devnull}", str(archive))


def _conninfo() -> str:
    """Return where the connection leads, without its password, as PostgreSQL's programs read it.

    It holds what the settings say, and nothing that only the driver's libpq adds: programs of an
    older release refuse options that they do not know (`sslcertmode`, before 16).
    """
    info, given = connection.connection.info, {"hostaddr", *connection.get_connection_params()}
    said = {name: value for name, value in info.get_parameters().items() if name in given}
    here = {"host": info.host, "port": info.port, "dbname": info.dbname, "user": info.user}
    return f"--dbname={make_conninfo(**{**said, **here})}"


def _run(program: str, *words: str) -> str:
    """Run one of PostgreSQL's programs and return what it prints; raises BackupError."""
    path = shutil.which(program)
    if path is None:
        raise BackupError(
            f"{program} is not on PATH: install PostgreSQL's client programs, of the server's "
            "version or a newer one"
        )
    connection.ensure_connection()
    password = connection.connection.info.password
    done = subprocess.run(  # noqa: S603 (its path is found above, its words are ours)
        [path, *words],
        env=os.environ | ({"PGPASSWORD": password} if password else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [done.stderr.strip()] if done.stderr.strip() else []
        if done.returncode < 0:
            said.append(f"ended by {signal.Signals(-done.returncode).name}")
        raise BackupError(f"{program}: {'; '.join(said)}")
    return done.stdout


# --- Files ----------------------------------------------------------------------------------


def _not_empty(name: str) -> BackupError:
    return BackupError(f"{name} is not empty: --replace {name} loses what it holds")


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
