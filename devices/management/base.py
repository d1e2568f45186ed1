"""What the registry's commands have in common: exit codes, `--json`, refusals in plain words.

Exit codes: 0 done, or the answer is yes; 1 the answer is no, or the registry refuses; 2 the
command line makes no sense, or the registry cannot be asked.
"""

import getpass
import io
import json
import os
import re
import shutil
import signal
import sys
import threading
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection, transaction
from django.db.models import BigIntegerField

from devices import history
from devices.credentials import x509
from devices.credentials.hashing import weakness
from devices.database.conflicts import Gone, is_conflict, is_locked
from devices.database.slots import session_options, with_session
from devices.extension_points import WATCHES
from devices.history.context import because
from devices.management.files import FileRefused, new_file
from devices.management.options import DJANGO_OPTIONS
from devices.models import CertificateAuthority, Device, DeviceGroup, PreSharedKey
from devices.values.moments import parse_moment, written
from devices.values.text import printable

EXIT_CODES = "exit codes: 0 done or yes; 1 no or refused; 2 bad usage or no database"
CHANGED_MEANWHILE = "others changed the same at this moment; nothing was changed: try again"
DELETED_MEANWHILE = "others deleted at this moment what this is about; nothing was changed"

LOCK_WAIT = 30  # seconds that a statement waits for what others have locked
LOCKED = "others have locked what this needs: try again"

ENDING = (signal.SIGTERM, signal.SIGHUP)
MAX_TEXT = 64 * 1024 * 1024  # bytes of a document
MAX_SECONDS = 10**8  # some years: longer than anybody waits, and as long as a timer can
NONE = "none"  # a text that is no moment: an empty one is what a script's unset variable leaves
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """Return the span that a text such as `30d`, `12h`, `2w` or `0m` means."""
    match = re.fullmatch(r"([0-9]{1,5})([mhdw])", text)
    if match is None:
        raise ArgumentTypeError(f"“{text}” is no duration such as 15m, 12h, 30d or 2w")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def seconds(text: str) -> float:
    """Return the number of seconds, above 0, that a text says."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < MAX_SECONDS:
        raise ArgumentTypeError(f"“{text}” is no number of seconds above 0")
    return number


def moment(text: str) -> datetime:
    """Return the moment that an ISO 8601 date or time means; UTC unless it says otherwise."""
    parsed = parse_moment(text, zone=UTC)
    if parsed is None:
        raise ArgumentTypeError(f"“{text}” is no time such as 2027-01-31 or 2027-01-31T12:00Z")
    return parsed


def moment_or_none(text: str) -> datetime | None:
    """Return the moment that a text means; None for the word that takes a bound away."""
    try:
        return None if text == NONE else moment(text)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{error}, or {NONE}") from None


def named(text: str) -> str:
    """Return a text that names something: an empty one is what a script's unset variable leaves."""
    if not text.strip():
        raise ArgumentTypeError("it is empty")
    return text


def trimmed(text: str) -> str:
    """Return a text as forms take it: without white space at its ends."""
    return text.strip()


def new_name(text: str) -> str:
    """Return what something is to be called: as forms take it, and not empty."""
    return named(text).strip()


def number(text: str) -> int:
    """Return a number that counts rows, or is that of one; a database can hold the next, too."""
    if not re.fullmatch(r"[0-9]{1,19}", text) or not 0 < int(text) < BigIntegerField.MAX_BIGINT:
        raise ArgumentTypeError(f"“{text}” is no number such as 1 or 250")
    return int(text)


def add_limit(parser: CommandParser, default: int) -> None:
    """Let a command that lists rows be told how many at most."""
    parser.add_argument(
        "--limit",
        type=number,
        default=default,
        metavar="N",
        help=f"at most so many (default: {default})",
    )


def faults(error: ValidationError) -> list[str]:
    """Return what is wrong, each with the name of its field unless the text names that itself."""
    if not hasattr(error, "error_dict"):
        return error.messages
    return [
        text if name == NON_FIELD_ERRORS or one.code == "unique" else f"{name}: {text}"
        for name, found in error.error_dict.items()
        for one in found
        for text in one.messages
    ]


def os_user() -> str:
    """Return the name of the account that runs the command; empty where the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, say; from Python 3.13 on it is an OSError
        return ""


def signature() -> str:
    """Return who revokes or loads something by a command."""
    return f"{os_user()} (command line)".lstrip()


def as_json(value: object) -> str:
    """Return what JSON has no form for, as the documents of commands write it."""
    return written(value) if isinstance(value, datetime) else str(value)


def counted(n: int, one: str, many: str = "") -> str:
    """Return how many there are of what, as `1 device` and `1,200 devices`."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def fields_of(row: object, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def summary(gone: Mapping[str, int]) -> tuple[dict[str, int], str]:
    """Return what a deletion took along, by model, for a document and as text."""
    deleted = {label.lower(): n for label, n in sorted(gone.items()) if n}
    return deleted, ", ".join(f"{n} {label}" for label, n in deleted.items())


@contextmanager
def ends_in_order() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end what runs as an error does: nothing half done stays behind.

    One that is ignored, as under nohup, stays so.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    is_main = threading.current_thread() is threading.main_thread()
    ours = [one for one in ENDING if is_main and signal.getsignal(one) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def bounded_locks() -> Iterator[None]:
    """Let no statement of the block wait for a lock without end, if it opens the connection.

    A lock_timeout in the options of DATABASE_URL counts, or in PGOPTIONS. Behind a pooler sessions
    are not ours to set: the server's own counts.
    """
    own = connection.settings_dict
    is_set = "lock_timeout" in session_options(own).lower().replace("-", "_")
    if connection.vendor == "sqlite":
        options = own["OPTIONS"] | {"timeout": max(LOCK_WAIT, own["OPTIONS"]["timeout"])}
        connection.settings_dict = {**own, "OPTIONS": options}
    elif not (settings.DATABASE_POOLER or is_set):
        connection.settings_dict = with_session(own, {"lock_timeout": f"{LOCK_WAIT}s"})
    try:
        yield
    finally:
        connection.settings_dict = own


def closed_streams() -> dict[str, IO[str]]:
    """Return what takes the place of standard output for a command, where that is closed.

    Whoever closes it, or standard error, wants to hear of nothing.
    """
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 (as long as the process)
    return {"stdout": io.StringIO()} if sys.stdout is None else {}


class RecordedCommand(BaseCommand):
    """A command whose changes are recorded as its own, and that ends as all do."""

    suppressed_base_arguments = DJANGO_OPTIONS

    takes_reason = False  # whether the history keeps what it does, and says why
    has_printed = False  # an answer, before its change is committed
    prints_json = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= closed_streams()
        if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without UTF-8 shows escapes
            sys.stdout.reconfigure(errors="backslashreplace")
        super().__init__(*args, **kwargs)

    @property
    def name(self) -> str:
        """What the command is called, which the history keeps."""
        return type(self).__module__.rpartition(".")[2]

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(
            prog_name,
            subcommand,
            epilog=EXIT_CODES,
            formatter_class=RawDescriptionHelpFormatter,
            **kwargs,
        )
        if self.takes_reason:
            parser.add_argument("--reason", type=trimmed, default="", help="why, for the record")
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run; an error is told so that a terminal can show it."""
        try:
            return self.run(*args, **options)
        except CommandError as error:
            error.args = (printable(str(error)),)
            raise

    def run(self, *args: Any, **options: Any) -> str | None:
        """Run; a rule's refusal ends with 1 and its message, an unreachable database with 2."""
        reason = because(self.name, options.get("reason", ""))
        self.prints_json = options.get("json", False)
        try:
            with (
                ends_in_order(),
                bounded_locks(),
                history.origin(history.Origin.COMMAND, user=os_user(), reason=reason),
            ):
                return super().execute(*args, **options)
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=128 + signal.SIGINT) from None
        except ValidationError as error:
            raise CommandError("; ".join(faults(error)), returncode=1) from error
        except Gone as error:
            raise CommandError(DELETED_MEANWHILE, returncode=1) from error
        except DatabaseError as error:
            if is_conflict(error):
                raise CommandError(CHANGED_MEANWHILE, returncode=1) from error
            locked = is_locked(error)
            text = LOCKED if locked else f"the registry cannot be asked: {str(error).strip()}"
            if self.has_printed:
                text += "\nWhat is printed above may not be stored: look before you use it."
            raise CommandError(text, returncode=1 if locked else 2) from error
        except UnicodeEncodeError as error:  # Python's sign for a byte of an argument is no text
            raise CommandError(f"{error.object!a} is not UTF-8", returncode=2) from error
        except BrokenPipeError:  # manage.py ends it
            raise
        except OSError as error:
            raise CommandError(str(error), returncode=2) from error


class RegistryCommand(RecordedCommand):
    """A command that answers people in text and machines in JSON."""

    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object, for scripts"
        )
        return parser

    def answer(self, text: str, document: dict[str, Any], *, yes: bool = True) -> None:
        """Print the answer in the form that was asked for; exit with 1 where it is no."""
        with self.printing():
            made = json.dumps(document, default=as_json) if self.prints_json else printable(text)
            self.stdout.write(made)
        if not yes:
            sys.exit(1)

    @contextmanager
    def printing(self) -> Iterator[None]:
        """Print within the block, to the last byte; ends with 2 where nobody can read it.

        What is printed once, a secret, is printed before it is committed. Raises BrokenPipeError
        where whoever reads has read enough.
        """
        if sys.stdout is None:
            raise CommandError("standard output is closed", returncode=2)
        try:
            yield
            self.stdout.flush()
            self.has_printed = True
        except BrokenPipeError:
            raise
        except OSError as error:
            with suppress(OSError):  # or Python tries once more, and complains, when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise CommandError(
                f"standard output cannot be written: {error.strerror}", returncode=2
            ) from error

    @staticmethod
    def stdin() -> IO[bytes]:
        """Return standard input; texts in it are UTF-8 as in files, whatever the locale says."""
        if sys.stdin is None:
            raise CommandError("standard input is closed", returncode=2)
        return sys.stdin.buffer

    def secret_from_stdin(self) -> str:
        """Return the first line of standard input without its line end; white space stays."""
        try:
            line = self.stdin().readline().decode()
        except UnicodeDecodeError as error:
            raise CommandError("standard input is not UTF-8", returncode=2) from error
        secret = line.removesuffix("\n").removesuffix("\r")
        if not secret:
            raise CommandError("no secret on standard input", returncode=2)
        return secret

    @staticmethod
    def lines(document: dict[str, Any]) -> str:
        """Return a document as text, one name and value a line."""
        width = max(len(name) for name in document)
        return "\n".join(
            f"  {name.replace('_', ' '):{width}}  {value}" for name, value in document.items()
        )

    def certificate(self, path: str) -> str:
        """Return the certificates in a file (PEM, or DER), as the registry reads them."""
        return x509.text_of(self.content(path, x509.MAX_TEXT_LENGTH))

    def warn_if_weak(self, secret: str, device: Device) -> None:
        """Say on standard error what makes a chosen secret easy to guess."""
        if warning := weakness(secret, identifier=device.identifier):
            self.stderr.write(f"warning: the secret is weak. {warning}")

    @classmethod
    def content(cls, path: str, most: int) -> bytes:
        """Return what a file (`-`: standard input) holds, up to one byte more than `most`."""
        try:
            if path == "-":
                return cls.stdin().read(most + 1)
            with Path(path).open("rb") as file:
                return file.read(most + 1)
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}", returncode=2) from error

    def write_output(self, file: IO[bytes], output: str | None) -> None:
        """Copy a complete file to where it goes (None and `-`: standard output).

        A file is then complete or as it was before; a pipe gets what there is. Bytes go where
        standard output takes them.
        """
        if output is not None and output != "-":
            target = Path(output).resolve()
            try:
                if target.exists() and not target.is_file():
                    with target.open("wb") as written:
                        shutil.copyfileobj(file, written)
                    return
                with new_file(target, replace=True, mode=0o666) as part, part.open("wb") as written:
                    shutil.copyfileobj(file, written)
                    if target.exists():
                        shutil.copymode(target, part)
            except FileRefused as error:
                raise CommandError(f"{output} cannot be written: {error}", returncode=2) from error
            except OSError as error:  # of what is no file
                text = f"{output} cannot be written: {error.strerror}"
                raise CommandError(text, returncode=2) from error
            return
        with self.printing():
            raw = getattr(self.stdout, "buffer", None)
            if raw is None:
                self.stdout.write(file.read().decode(), ending="")
            else:
                shutil.copyfileobj(file, raw)

    @classmethod
    def text(cls, path: str) -> str:
        """Return the text of a UTF-8 file (`-`: standard input), with or without its mark."""
        content = cls.content(path, MAX_TEXT)
        if len(content) > MAX_TEXT:
            raise CommandError(f"{path} is larger than {MAX_TEXT // 1024**2} MiB", returncode=2)
        try:
            return content.decode().removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise CommandError(f"{path} cannot be read: {error}", returncode=2) from error

    def device(self, address: str) -> Device:
        """Return the registered device of an ID or an address; ends with 1 where there is none."""
        address.encode()  # or it is told as what it is, an argument that is not UTF-8
        try:
            return Device.objects.at(address)
        except ValidationError:
            raise CommandError(f"no device {address} is registered", returncode=1) from None

    def group(self, name: str) -> DeviceGroup:
        try:
            return DeviceGroup.objects.get(name=name)
        except DeviceGroup.DoesNotExist:
            raise CommandError(f"there is no group named “{name}”", returncode=1) from None

    def anchor(self, name: str) -> CertificateAuthority:
        try:
            return CertificateAuthority.objects.get(name=name)
        except CertificateAuthority.DoesNotExist:
            raise CommandError(f"there is no trust anchor named “{name}”", returncode=1) from None

    def devices(self, addresses: Sequence[str]) -> list[Device]:
        """Return the devices that addresses name; ends with 1 where one is not registered."""
        return list(dict.fromkeys(map(self.device, addresses)))  # two may name the same


class ChangeCommand(RegistryCommand):
    """A command whose change may break an assertion: it is then refused, as in the admin."""

    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--break-assertions",
            action="store_true",
            help="do it even if a saved assertion then no longer holds",
        )

    @contextmanager
    def change(self, options: dict[str, Any], said: str | None = None) -> Iterator[list[str]]:
        """Make a change within the block, all or nothing; raises ValidationError if refused.

        Yields a list that then holds the assertions that it breaks. A dry run is rolled back, and
        refused for none of them. `said` is the reason, where it is not what was typed alone.
        """
        reason = because(self.name, options["reason"] if said is None else said)
        dry_run = options.get("dry_run", False)
        broken: list[str] = []
        with transaction.atomic(), history.origin(history.Origin.COMMAND, reason=reason):
            watches = [watch(only_assertions=True) for watch in WATCHES]
            yield broken
            broken += [str(one) for compare in watches for one in compare().broken]
            if broken and not (dry_run or options["break_assertions"]):
                raise ValidationError(
                    [f"This breaks an assertion: {one}" for one in broken]
                    + ["Nothing was changed; --break-assertions does it all the same."]
                )
            said = "would break" if dry_run else "does not hold any more"
            for one in broken:
                self.stderr.write(f"warning: an assertion {said}: {one}")
            if dry_run:
                transaction.set_rollback(True)

    @staticmethod
    def given(options: dict[str, Any], *names: str) -> dict[str, Any]:
        """Return those of these options that the command line says."""
        return {name: options[name] for name in names if options[name] is not None}

    @staticmethod
    def set_fields(row: Any, changed: Mapping[str, Any]) -> None:
        """Change fields of a row, as it is once others are through with it, within `change`."""
        row.hold()
        for name, value in changed.items():
            setattr(row, name, value)
        row.full_clean()
        if changed:
            row.save(update_fields=[*changed])


class DevicesCommand(ChangeCommand):
    """A change of registered devices, which its arguments name."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("identifiers", nargs="+", metavar="identifier", help="a device's ID")


class PruneCommand(RegistryCommand):
    """A command that deletes what is older than a span, or only counts it."""

    span_help: str

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than", type=duration, required=True, metavar="SPAN", help=self.span_help
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only count what would be deleted"
        )


class DeviceCommand(RegistryCommand):
    """A command about one registered device, which its first argument names."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("identifier", help="the device's ID")

    def handle(self, *args: Any, **options: Any) -> None:
        """Find the device, by its ID or an address that names it; ends with 1 where none is."""
        self.handle_device(self.device(options["identifier"]), **options)

    def handle_device(self, device: Device, **options: Any) -> None:
        raise NotImplementedError


class KeyCommand(DeviceCommand):
    """A command that changes a key of a device; where one is live, it need not be named."""

    takes_reason = True

    @staticmethod
    def only(device: Device, keys: Sequence[PreSharedKey], *, others: str = "") -> PreSharedKey:
        """Return the one key of these; ends with 1 where there is none, with 2 where are several.

        `others` says what else than a choice the command takes.
        """
        if not keys:
            raise CommandError(f"{device.identifier} has no such live key", returncode=1)
        if len(keys) > 1:
            numbers = ", ".join(f"{key.pk} ({key})" for key in keys)
            raise CommandError(
                f"{device.identifier} has several live keys; choose one with --key{others}: "
                f"{numbers}",
                returncode=2,
            )
        return keys[0]
