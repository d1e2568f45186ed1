"""Devices, groups and credentials out of a file: checked as a whole, then written as a whole.

An import goes through three generators, which yield how far they are: `check` reads and holds
every row against the registry and writes nothing, `prepare` makes the digests, `write` is one
transaction. No query is made for a row; batches share theirs. (docs/transfer.md)
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from devices import addresses, history
from devices.credentials import hashing
from devices.credentials.hashing import Scheme
from devices.extension_points import AccessEnd, end_access
from devices.models import Certificate, Device, DeviceGroup, PreSharedKey
from devices.models.group import MAX_DEPTH
from devices.models.pre_shared_key import HINT_CHARACTERS, MAX_LIVE_CHOSEN
from devices.moments import parse_moment
from devices.transfer.formats import Problem, Record

BATCH = 2_000
MAX_GROUPS = 2_000  # in a file; each is saved by itself
MAX_PROBLEMS = 1_000  # kept to be shown; all are counted
MAX_HASHES = 1_000  # memory-hard ones, of 45 ms each, that an upload may cost

MAX_NAME_LENGTH = 100  # of a group
FIELDS = ("kind", "name", "description", "enabled", "attributes")
DEVICE_COLUMNS = (
    *("identifier", "kind", "name", "groups", "enabled", "secret", "description", "attributes"),
    *("secret_until", "certificate", "created", "last_seen", "live_keys", "live_certificates"),
)
GROUP_COLUMNS = ("group", "parent", "description")
NAMES = re.compile(r"\d+([.,]0+|[.,]\d+E[+-]?\d+)|TRUE|FALSE", re.IGNORECASE)


class Columns:
    """Which columns a table may have: one with a column `group` is about groups."""

    def columns_of(self, header: Iterable[str]) -> Sequence[str]:
        """Return the columns of devices or those of groups, the one that is needed first."""
        return GROUP_COLUMNS if "group" in header else DEVICE_COLUMNS


# --- What cells mean ------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(_("This must be a text."))  # noqa: TRY004 - reported like any other
    return value


def _word(value: object) -> str:
    return _text(value).strip()


def _kind(value: object) -> str:
    kind = _word(value).lower()
    if kind not in Device.Kind.values:
        raise ValueError(_("Write “device” or “backend”."))
    return kind


TRUTHS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def _enabled(value: object) -> bool:
    truth = value if isinstance(value, bool) else TRUTHS.get(str(value).strip().lower())
    if truth is None:
        raise ValueError(_("Write “true” or “false”."))
    return truth


SEPARATED = re.compile(r"((?:[^|\\]|\\.)*)(?:\||$)", re.DOTALL)


def group_names(text: str) -> list[str]:
    r"""Return the names in a cell, separated by `|`; a `\|` belongs to a name."""
    if "\\" not in text:
        return [name.strip() for name in text.split("|")]
    cells = [match[1] for match in SEPARATED.finditer(text) if match.start() < len(text)]
    return [_unescaped(cell) for cell in cells]


def _unescaped(cell: str) -> str:
    # A space that is escaped belongs to the name: strip what is not, then take escapes away.
    cell = re.sub(r"(?<!\\)((?:\\\\)*)\s+$", r"\1", cell.lstrip())
    return re.sub(r"\\(.)", r"\1", cell, flags=re.DOTALL)


def group_cell(names: Iterable[str]) -> str:
    """Return the cell in which `group_names` finds these names."""
    return "|".join(re.sub(r"[\\|]|^\s|\s$", r"\\\g<0>", name) for name in names)


def _groups(value: object) -> frozenset[str]:
    names = group_names(value) if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(_("Write the names of groups."))
    if not all(addresses.is_storable(name) and len(name) <= MAX_NAME_LENGTH for name in names):
        raise ValueError(_("The name of a group has 1 to 100 characters."))
    return frozenset(names) - {""}


def _attributes(value: object) -> dict[str, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
        text = json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        raise ValueError(_("Attributes must be a JSON object.")) from None
    if not isinstance(found, dict):
        raise ValueError(_("Attributes must be a JSON object."))  # noqa: TRY004 - as above
    if re.search(r"\\u0000|\\ud[89a-f]", text.replace("\\\\", "")) and not _is_text(text):
        raise ValueError(_("The cell holds what is no character."))
    return found


def _is_text(dumped: str) -> bool:
    """Whether a JSON text holds no NUL and no lone surrogate, which no database takes."""
    try:
        plain = json.dumps(json.loads(dumped), ensure_ascii=False)
        plain.encode()
    except UnicodeEncodeError:
        return False
    return "\\u0000" not in plain.replace("\\\\", "")


def _moment(value: object) -> datetime:
    found = parse_moment(_word(value), zone=UTC)
    if found is None:
        raise ValueError(_("Write a time such as 2027-01-31 or 2027-01-31T12:00Z."))
    return found


def _secret(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(_("This must be a text."))


READERS: dict[str, Callable[[object], Any]] = {
    "identifier": _word,
    "kind": _kind,
    "name": _text,
    "description": _text,
    "groups": _groups,
    "enabled": _enabled,
    "attributes": _attributes,
    "secret": _secret,
    "secret_until": _moment,
    "certificate": _text,
    "group": _word,
    "parent": _word,
}
# What an empty cell sets. In other columns it leaves the value alone.
EMPTY: dict[str, Any] = {"name": "", "description": "", "groups": frozenset(), "attributes": {}}


# --- What an import is ----------------------------------------------------------------------


class Progress(NamedTuple):
    """How far an import is. `total` is None while the file is still being read."""

    stage: str
    done: int
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What is said of a file as a whole."""

    create_groups: bool = False
    generate: bool = False
    random: bool = False


@dataclass(slots=True)
class WantedKey:
    """A key to be made. The secret is there until its digest is."""

    scheme: Scheme
    secret: str
    pepper: str = ""
    digest: str = ""
    hint: str = ""
    not_after: datetime | None = None


@dataclass(slots=True)
class Entry:
    """A device that the file creates or changes."""

    row: int
    device: Device
    changed: set[str] = field(default_factory=set)
    joins: frozenset[str] = frozenset()
    leaves: frozenset[int] = frozenset()
    key: WantedKey | None = None
    certificate: Certificate | None = None

    @property
    def is_new(self) -> bool:
        """Whether the device is not registered yet."""
        return self.device.pk is None

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return bool(
            self.is_new or self.changed or self.joins or self.leaves or self.key or self.certificate
        )

    @property
    def summary(self) -> str:
        """What changes, by column; never a value of a secret."""
        touched = [name for name in FIELDS if name in self.changed]
        touched += ["groups"] if self.joins or self.leaves else []
        touched += ["secret"] if self.key else []
        touched += ["certificate"] if self.certificate else []
        return ", ".join(touched)


@dataclass(slots=True)
class GroupRow:
    """What a row says of a group; None where it says nothing."""

    row: int
    name: str
    parent: str | None = None
    description: str | None = None


@dataclass(slots=True)
class Known:
    """What the registry has of the devices of a batch, by their identifiers or primary keys."""

    devices: dict[str, Device]
    groups: dict[int, dict[str, int]]
    keys: dict[int, list[PreSharedKey]]
    certificates: dict[int, list[Certificate]]


def batches(rows: Iterable[Any], size: int = BATCH) -> Iterator[list[Any]]:
    """Yield the rows in lists of a size."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


class Import:
    """One file on its way into the registry."""

    def __init__(
        self,
        records: Iterable[Record],
        options: Options | None = None,
        *,
        user: object = None,
        reason: str = "",
        most_hashes: int | None = None,
        admit_secrets: Callable[[], None] | None = None,
        now: datetime | None = None,
    ) -> None:
        self.records = records
        self.options = options or Options()
        self.user, self.reason = user, reason
        self.most_hashes = most_hashes
        self.admit_secrets = admit_secrets  # raises ValidationError where they may not be added
        self.now = now or timezone.now()
        self.label = f"import {self.now:%Y-%m-%d %H:%M:%S}"
        self.devices: Counter[str] = Counter()
        self.groups: Counter[str] = Counter()
        self.problems: list[Problem] = []
        self.problem_total = 0
        self.warnings: list[Problem] = []
        self.warning_total = 0
        self.entries: list[Entry] = []
        self.new_groups: set[str] = set()
        self.generated: list[tuple[str, str]] = []  # identifier and secret, once written
        self.hashes = 0
        self._rejected: set[int] = set()
        self._rejected_groups: set[int] = set()
        self._seen: dict[str, int] = {}
        self._group_rows: dict[str, GroupRow] = {}
        self._group_pks: dict[str, int] = {}
        self._named: dict[
            str, list[int]
        ] = {}  # groups that are not there, and the rows they are in

    # --- Checking ---------------------------------------------------------------------------

    @property
    def is_sound(self) -> bool:
        """Whether there is nothing against the import."""
        return not self.problem_total

    @property
    def counts(self) -> dict[str, int]:
        """How many devices are new, changed, unchanged and rejected, and what comes with them."""
        return {
            "new": self.devices["new"],
            "changed": self.devices["changed"],
            "unchanged": self.devices["unchanged"],
            "rejected": len(self._rejected),
            "groups_new": self.groups["new"] + len(self.new_groups),
            "groups_changed": self.groups["changed"],
            "groups_unchanged": self.groups["unchanged"],
            "groups_rejected": len(self._rejected_groups),
            "secrets": sum(entry.key is not None for entry in self.entries),
            "certificates": sum(entry.certificate is not None for entry in self.entries),
        }

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to write."""
        groups = self.groups["new"] or self.groups["changed"] or self.new_groups
        return bool(self.entries or groups)

    def check(self) -> Iterator[Progress]:
        """Hold every row against the registry; raises ValidationError for the file as a whole."""
        self._group_pks = dict(DeviceGroup.objects.order_by().values_list("name", "pk"))
        done = 0
        for records in batches(self.records):
            self._check_batch(records)
            done += len(records)
            yield Progress("check", done)
        self._check_groups()
        self._check_named()
        self.problems.sort(key=lambda problem: problem.row)

    def _complain(self, row: int, column: str, message: str, *, group: bool = False) -> None:
        (self._rejected_groups if group else self._rejected).add(row)
        self.problem_total += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(row, column, message))

    def _warn(self, row: int, column: str, message: str) -> None:
        self.warning_total += 1
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(Problem(row, column, message))

    def _check_batch(self, records: Sequence[Record]) -> None:
        wanted: dict[str, tuple[int, dict[str, Any]]] = {}
        for record in records:
            if "group" in record.cells:
                self._read_group(record)
                continue
            values = self._values_of(record)
            identifier = self._identify(record, values)
            if identifier:
                wanted[identifier] = (record.row, values)
        if self.admit_secrets and any("secret" in values for _row, values in wanted.values()):
            self.admit_secrets()  # what is found of them says which are right
        known = self._known(wanted)
        for identifier, (row, values) in wanted.items():
            entry = self._entry(row, identifier, values, known)
            if row in self._rejected:
                continue
            if entry.is_new:
                self.devices["new"] += 1
            else:
                self.devices["changed" if entry.changes else "unchanged"] += 1
            if entry.changes:
                self.entries.append(entry)

    def _values_of(self, record: Record) -> dict[str, Any]:
        """Return what the cells of a row mean; what cannot be read is a problem of the row."""
        group = "group" in record.cells
        for problem in record.problems:
            self._complain(*problem, group=group)
        values: dict[str, Any] = {}
        for column, cell in record.cells.items():
            if (reader := READERS.get(column)) is None:
                continue
            if cell is None or cell in ("", []):
                if column in EMPTY:
                    values[column] = EMPTY[column]
                continue
            try:
                values[column] = reader(cell)
            except ValueError as error:
                self._complain(record.row, column, str(error), group=group)
        return values

    def _identify(self, record: Record, values: dict[str, Any]) -> str:
        """Return the ID that a row is about; "" where it names none that can be registered."""
        address = values.pop("identifier", "")
        if not address:
            if not any(problem.column == "identifier" for problem in record.problems):
                self._complain(record.row, "identifier", _("The identifier is missing."))
            return ""
        try:
            identifier = Device.registered_id(address)
        except ValidationError as error:
            self._complain_of(record.row, error)
            return ""
        if (before := self._seen.setdefault(identifier, record.row)) != record.row:
            self._complain(
                record.row,
                "identifier",
                _("The identifier is in row %(row)d already.") % {"row": before},
            )
            return ""
        if NAMES.fullmatch(identifier):
            self._warn(
                record.row,
                "identifier",
                _("A spreadsheet may have made “%(identifier)s” of another identifier.")
                % {"identifier": identifier},
            )
        return identifier

    def _complain_of(self, row: int, error: ValidationError, *, group: bool = False) -> None:
        for column, messages in error.message_dict.items():
            for message in messages:
                self._complain(row, column, message, group=group)

    def _known(self, wanted: dict[str, tuple[int, dict[str, Any]]]) -> Known:
        """Return what the registry has of these devices; a handful of queries."""
        devices = {
            device.identifier: device
            for device in Device.objects.order_by().filter(identifier__in=wanted)
        }
        known = Known(devices, {}, {}, {})
        of_these = {
            devices[name].pk: values for name, (_row, values) in wanted.items() if name in devices
        }
        if any("groups" in values for values in of_these.values()):
            memberships = Device.groups.through.objects.filter(device__in=of_these)
            for device, group, name in memberships.values_list(
                "device_id", "devicegroup_id", "devicegroup__name"
            ):
                known.groups.setdefault(device, {})[name] = group
        generate = self.options.generate
        if generate or any("secret" in values for values in of_these.values()):
            for key in PreSharedKey.objects.order_by("pk").filter(device__in=of_these):
                known.keys.setdefault(key.device_id, []).append(key)
        if generate or any("certificate" in values for values in of_these.values()):
            for one in Certificate.objects.order_by("pk").filter(device__in=of_these).defer("pem"):
                if one.device_id is not None:
                    known.certificates.setdefault(one.device_id, []).append(one)
        return known

    def _entry(self, row: int, identifier: str, values: dict[str, Any], known: Known) -> Entry:
        device = known.devices.get(identifier)
        entry = Entry(row, device or Device(identifier=identifier))
        for name in FIELDS:
            if name in values and _differs(getattr(entry.device, name), values[name]):
                setattr(entry.device, name, values[name])
                entry.changed.add(name)
        if entry.is_new or entry.changed:
            checked = entry.changed | ({"identifier"} if entry.is_new else set())
            try:
                entry.device.clean_fields(exclude=ALL_FIELDS - checked)
            except ValidationError as error:
                self._complain_of(row, error)
        if "groups" in values:
            now = known.groups.get(entry.device.pk or 0, {})
            entry.joins = values["groups"] - now.keys()
            entry.leaves = frozenset(now[name] for name in now.keys() - values["groups"])
            for name in entry.joins - self._group_pks.keys():
                self._named.setdefault(name, []).append(row)
        self._check_credentials(entry, values, known)
        return entry

    # --- Checking credentials ---------------------------------------------------------------

    def _check_credentials(self, entry: Entry, values: dict[str, Any], known: Known) -> None:
        keys = known.keys.get(entry.device.pk or 0, [])
        certificates = known.certificates.get(entry.device.pk or 0, [])
        try:
            if "certificate" in values:
                entry.certificate = self._certificate(entry, values["certificate"], certificates)
        except ValidationError as error:
            self._complain(entry.row, "certificate", " ".join(error.messages))
        until = values.get("secret_until")
        if until is not None and until <= self.now:
            self._complain(entry.row, "secret_until", _("This time is past."))
        elif until is not None and "secret" not in values and not self.options.generate:
            self._complain(entry.row, "secret_until", _("There is no secret that could end."))
        try:
            if "secret" in values:
                entry.key = self._key(entry, values["secret"], keys)
            elif self.options.generate and not self._has_live(entry, keys, certificates):
                entry.key = WantedKey(Scheme.HMAC_SHA256, "")
        except ValidationError as error:
            self._complain(entry.row, "secret", " ".join(error.messages))
        if entry.key is not None:
            entry.key.not_after = until

    def _has_live(
        self, entry: Entry, keys: Sequence[PreSharedKey], certificates: Sequence[Certificate]
    ) -> bool:
        """Whether the device can show anything, or will after this import."""
        return (
            entry.certificate is not None
            or any(self._is_live(key) for key in keys)
            or any(
                one.revoked_at is None and (one.pin != "certificate" or one.not_after >= self.now)
                for one in certificates
            )
        )

    def _is_live(self, key: PreSharedKey) -> bool:
        return key.revoked_at is None and (key.not_after is None or key.not_after > self.now)

    def _key(self, entry: Entry, secret: str, keys: Sequence[PreSharedKey]) -> WantedKey | None:
        """Return the key to make of a cell, or None where the device has it; ValidationError."""
        if hashing.is_hashed(secret):
            scheme, pepper, digest = hashing.parse_hashed(secret)
            wanted = WantedKey(scheme, "", pepper, digest)
        else:
            hashing.check_usable(secret, random=self.options.random)
            scheme = Scheme.HMAC_SHA256 if self.options.random else Scheme.ARGON2ID
            wanted = WantedKey(scheme, secret)
        for key in keys:
            if not (self._is_live(key) or key.revoked_at) or not self._is_secret_of(key, wanted):
                continue
            if key.revoked_at is None:
                return None
            raise ValidationError(
                _("This secret was revoked on %(day)s and stays so. Choose another."),
                params={"day": f"{key.revoked_at:%Y-%m-%d}"},
            )
        if wanted.scheme == Scheme.ARGON2ID:
            live = sum(key.is_chosen and self._is_live(key) for key in keys)
            if live >= MAX_LIVE_CHOSEN:
                raise ValidationError(
                    _("A device has at most %(most)d live chosen secrets; revoke one first."),
                    params={"most": MAX_LIVE_CHOSEN},
                )
            if wanted.secret:
                self._count_hash()
                weakness = hashing.weakness(secret, identifier=entry.device.identifier)
                if weakness:
                    self._warn(
                        entry.row, "secret", _("The secret is weak. %(why)s") % {"why": weakness}
                    )
        return wanted

    def _is_secret_of(self, key: PreSharedKey, wanted: WantedKey) -> bool:
        if not wanted.secret:
            return (key.scheme, key.pepper, key.digest) == (
                wanted.scheme,
                wanted.pepper,
                wanted.digest,
            )
        pepper = hashing.peppers().get(key.pepper)
        if pepper is None:
            return False
        if key.is_chosen:
            self._count_hash()
        return hashing.matches(wanted.secret, key.scheme, key.digest, pepper)

    def _count_hash(self) -> None:
        self.hashes += 1
        if self.most_hashes is not None and self.hashes > self.most_hashes:
            raise ValidationError(
                _(
                    "More than %(most)d secrets would have to be hashed as chosen ones. Say that "
                    "they are random if a machine made them; else split the file, or use the "
                    "command import_devices."
                ),
                params={"most": self.most_hashes},
            )

    def _certificate(
        self, entry: Entry, pem: str, certificates: Sequence[Certificate]
    ) -> Certificate | None:
        """Return the certificate to pin, or None where it is pinned already; ValidationError."""
        wanted = Certificate.objects.prepare(device=None, presented=pem, label=self.label)
        for one in certificates:
            if one.fingerprint == wanted.fingerprint and one.revoked_at is None:
                return None
        wanted.clean()
        return wanted

    # --- Checking groups --------------------------------------------------------------------

    def _read_group(self, record: Record) -> None:
        values = self._values_of(record)
        name = values.get("group", "")
        if not name:
            self._complain(record.row, "group", _("The name is missing."), group=True)
        elif name in self._group_rows:
            message = _("The group is in row %(row)d already.") % {
                "row": self._group_rows[name].row
            }
            self._complain(record.row, "group", message, group=True)
        elif len(self._group_rows) >= MAX_GROUPS:
            raise ValidationError(
                _("The file has more than %(most)d groups; split it."), params={"most": MAX_GROUPS}
            )
        else:
            parent = values.get("parent", "" if "parent" in record.cells else None)
            self._group_rows[name] = GroupRow(record.row, name, parent, values.get("description"))

    def _check_groups(self) -> None:
        """Classify the groups of the file and look at the tree that would come of them."""
        if not self._group_rows:
            return
        found = {group.name: group for group in DeviceGroup.objects.select_related("parent")}
        parents = {name: group.parent.name if group.parent else "" for name, group in found.items()}
        for one in self._group_rows.values():
            if one.row in self._rejected_groups:
                continue
            try:
                DeviceGroup(name=one.name).clean_fields(exclude=["parent", "description"])
            except ValidationError as error:
                columns = {"name": "group"}
                for column, messages in error.message_dict.items():
                    self._complain(
                        one.row, columns.get(column, column), " ".join(messages), group=True
                    )
                continue
            before = found.get(one.name)
            if before is None:
                self.groups["new"] += 1
            else:
                same = one.parent in (None, parents[one.name]) and one.description in (
                    None,
                    before.description,
                )
                self.groups["unchanged" if same else "changed"] += 1
            if one.parent is not None:
                parents[one.name] = one.parent
            else:
                parents.setdefault(one.name, "")
        for one in self._group_rows.values():
            self._check_place(one, parents)

    def _check_place(self, one: GroupRow, parents: dict[str, str]) -> None:
        path, above = [one.name], parents.get(one.name, "")
        while above and len(path) <= MAX_DEPTH and above not in path:
            path.append(above)
            if above not in parents and not self.options.create_groups:
                message = _("There is no group named “%(name)s”.") % {"name": above}
                self._complain(one.row, "parent", message, group=True)
                return
            if above not in parents:
                self.new_groups.add(above)
            above = parents.get(above, "")
        if above in path:
            message = _("A group cannot lie within itself or a group below it.")
            self._complain(one.row, "parent", message, group=True)
        elif len(path) > MAX_DEPTH:
            message = _("Groups nest at most %(deepest)d deep.") % {"deepest": MAX_DEPTH}
            self._complain(one.row, "parent", message, group=True)

    def _check_named(self) -> None:
        """Note the groups to create, or complain that neither registry nor file has them."""
        for name, rows in self._named.items():
            if name in self._group_rows:
                continue
            if self.options.create_groups:
                self.new_groups.add(name)
                continue
            for row in rows:
                message = _("There is no group named “%(name)s”.") % {"name": name}
                self._complain(row, "groups", message)
        for entry in self.entries:
            if entry.row in self._rejected:
                self.devices["new" if entry.is_new else "changed"] -= 1

    # --- Writing ----------------------------------------------------------------------------

    def prepare(self) -> Iterator[Progress]:
        """Make secrets and digests, before anything is locked."""
        pepper = hashing.newest_pepper()
        keys = [(entry.device.identifier, entry.key) for entry in self.entries if entry.key]
        for done, (identifier, key) in enumerate(keys, 1):
            if not key.digest:
                if not key.secret:
                    key.secret = hashing.generate()
                    key.hint = f"{key.secret[:HINT_CHARACTERS]}…"
                    self.generated.append((identifier, key.secret))
                key.pepper = pepper
                key.digest = hashing.digest(key.secret, key.scheme, pepper)
                key.secret = ""
            if key.scheme == Scheme.ARGON2ID or done % BATCH == 0:
                yield Progress("prepare", done, len(keys))

    def write(self) -> Iterator[Progress]:
        """Write everything in one transaction; raises ValidationError where it cannot be."""
        if not self.is_sound:
            raise ValidationError(_("The file has errors; nothing was imported."), code="unsound")
        try:
            with transaction.atomic():
                with self._origin():
                    self._write_groups()
                done = 0
                for entries in batches(self.entries):
                    with self._origin():
                        self._write_batch(entries)
                    done += len(entries)
                    yield Progress("write", done, len(self.entries))
        except IntegrityError:
            raise ValidationError(
                _("The registry changed meanwhile; nothing was imported. Try again."),
                code="changed",
            ) from None

    def _origin(self) -> AbstractContextManager[None]:
        """Have what is written recorded as imported. Never held where a generator rests."""
        return history.origin(history.Origin.IMPORT, user=self.user, reason=self.reason)

    def _write_groups(self) -> None:
        """Save groups, upper ones before those within them, so that every place is checked."""
        for name in sorted(self.new_groups):
            self._group_pks[name] = DeviceGroup.objects.create(name=name).pk
        saved: set[str] = set()

        def save(one: GroupRow) -> None:
            if one.name in saved:
                return
            saved.add(one.name)
            if one.parent in self._group_rows:
                save(self._group_rows[one.parent])
            group = DeviceGroup.objects.filter(name=one.name).first() or DeviceGroup(name=one.name)
            if one.parent is not None:
                group.parent = DeviceGroup.objects.get(name=one.parent) if one.parent else None
            if one.description is not None:
                group.description = one.description
            group.save()
            self._group_pks[one.name] = group.pk

        for one in self._group_rows.values():
            save(one)

    def _write_batch(self, entries: Sequence[Entry]) -> None:
        changed = [entry for entry in entries if not entry.is_new and entry.changed]
        history.bulk_create([entry.device for entry in entries if entry.is_new])
        if changed:
            rows = [entry.device for entry in changed]
            Device.objects.bulk_create(
                rows,
                update_conflicts=True,
                unique_fields=["identifier"],
                update_fields=[*set().union(*(entry.changed for entry in changed)), "updated"],
            )
            history.record_stored(rows, history.ChangeType.CHANGED)
            disabled = [
                entry.device
                for entry in changed
                if "enabled" in entry.changed and not entry.device.enabled
            ]
            if disabled:
                end_access(disabled, AccessEnd.DISABLED)
        self._write_memberships(entries)
        history.bulk_create(
            [
                PreSharedKey(
                    device=entry.device,
                    label=self.label,
                    scheme=entry.key.scheme,
                    digest=entry.key.digest,
                    pepper=entry.key.pepper,
                    hint=entry.key.hint,
                    not_after=entry.key.not_after,
                )
                for entry in entries
                if entry.key
            ]
        )
        certificates = [entry for entry in entries if entry.certificate]
        for entry in certificates:
            if entry.certificate:
                entry.certificate.device = entry.device
        created = [entry.certificate for entry in certificates if entry.certificate]
        history.bulk_create(created)
        Certificate.objects.link_issuers(created)

    def _write_memberships(self, entries: Sequence[Entry]) -> None:
        membership = Device.groups.through
        left: dict[int, list[int]] = {}
        for entry in entries:
            for group in entry.leaves:
                left.setdefault(group, []).append(entry.device.pk)
        for group, devices in left.items():
            history.bulk_delete(
                list(membership.objects.filter(devicegroup=group, device__in=devices))
            )
        history.bulk_create(
            [
                membership(device_id=entry.device.pk, devicegroup_id=self._group_pks[name])
                for entry in entries
                for name in sorted(entry.joins)
            ]
        )


ALL_FIELDS = {one.name for one in Device._meta.concrete_fields}


def _differs(before: object, wanted: object) -> bool:
    if isinstance(wanted, dict):  # True and 1 are one in Python, and two in JSON
        return json.dumps(before, sort_keys=True) != json.dumps(wanted, sort_keys=True)
    return before != wanted
