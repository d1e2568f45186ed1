"""Devices, groups and credentials out of a file: checked as a whole, then written as a whole.

`check` reads and holds every row against the registry and writes nothing, `prepare` makes the
digests, `write` is one transaction. No query is made for a row; batches share theirs.
(docs/transfer.md)
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from devices import history
from devices.credentials import hashing
from devices.credentials.hashing import Scheme
from devices.extension_points import AccessEnd, end_access
from devices.models import AttributeDefinition, Certificate, Device, DeviceGroup, PreSharedKey
from devices.models.certificate import Pin
from devices.models.group import MAX_DEPTH
from devices.models.pre_shared_key import HINT_CHARACTERS, MAX_LIVE_CHOSEN
from devices.transfer.columns import EMPTY, FIELDS, READERS, is_damaged, quoted
from devices.transfer.formats import Problem, Record

BATCH = 2_000
MAX_GROUPS = 2_000  # in a file; each is saved by itself
MAX_PROBLEMS = 1_000  # kept to be shown; all are counted
MAX_HASHES = 1_000  # memory-hard ones, of 45 ms each, that an upload may cost


class Progress(NamedTuple):
    """How far an import is. `total` is None while the file is still being read."""

    stage: str
    done: int
    total: int | None = None


def _untold(step: Progress) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is said of a file as a whole."""

    create_groups: bool = False
    generate: bool = False
    random: bool = False


@dataclass(slots=True)
class Entry:
    """A device that the file creates or changes."""

    row: int
    device: Device
    is_new: bool
    columns: frozenset[str]  # that the row fills in
    state: bytes  # of the device in the registry, when the row was checked
    changed: set[str] = field(default_factory=set)
    joins: frozenset[str] = frozenset()
    leaves: frozenset[int] = frozenset()
    key: PreSharedKey | None = None  # to be made, without its digest until it is prepared
    secret: str = ""  # of the key, until its digest is made
    certificate: Certificate | None = None

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
    groups: dict[int, dict[str, int]] = field(default_factory=dict)
    keys: dict[int, list[PreSharedKey]] = field(default_factory=dict)
    certificates: dict[int, list[Certificate]] = field(default_factory=dict)

    def state_of(self, identifier: str) -> bytes:
        """Return what stands for all that was read of a device: another state has another."""
        device = self.devices.get(identifier)
        if device is None:
            return b""
        pk = device.pk
        read = [
            *(getattr(device, name) for name in ("pk", *FIELDS)),
            sorted(self.groups.get(pk, {}).items()),
            *([key.pk, key.revoked_at, key.not_after] for key in self.keys.get(pk, [])),
            *([one.pk, one.revoked_at, one.pin] for one in self.certificates.get(pk, [])),
        ]
        return hashlib.sha256(json.dumps(read, default=str).encode()).digest()


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
        progress: Callable[[Progress], None] = _untold,
        now: datetime | None = None,
        origin: history.Origin = history.Origin.IMPORT,
    ) -> None:
        self.records = records
        self.options = options or Options()
        self.user, self.reason, self.origin = user, reason, origin
        self.most_hashes = most_hashes
        self.admit_secrets = admit_secrets  # raises ValidationError where they may not be added
        self.progress = progress
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
        self._states = hashlib.sha256()
        self._rejected: set[int] = set()
        self._rejected_groups: set[int] = set()
        self._seen: dict[str, int] = {}
        self._group_rows: dict[str, GroupRow] = {}
        self._group_pks: dict[str, int] = {}
        self._missing_groups: dict[str, list[int]] = {}  # and the rows that name them

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
    def state(self) -> str:
        """What stands for all that the registry said of the rows when they were checked."""
        return self._states.hexdigest()

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to write."""
        groups = self.groups["new"] or self.groups["changed"] or self.new_groups
        return bool(self.entries or groups)

    def check(self) -> None:
        """Hold every row against the registry; raises ValidationError for the file as a whole."""
        self._group_pks = dict(DeviceGroup.objects.order_by().values_list("name", "pk"))
        done = 0
        with AttributeDefinition.objects.read_once():
            for records in batches(self.records):
                self._check_batch(records)
                done += len(records)
                self.progress(Progress("check", done))
        if not done:
            raise ValidationError(_("The file has no rows."), code="empty")
        self._check_groups()
        self._check_missing_groups()
        self.problems.sort(key=lambda problem: problem.row)

    def _complain(
        self, row: int, column: str, message: str, value: object = None, *, group: bool = False
    ) -> None:
        (self._rejected_groups if group else self._rejected).add(row)
        self.problem_total += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(row, column, message + quoted(column, value)))

    def _complain_of(
        self,
        row: int,
        error: ValidationError,
        cells: Mapping[str, Any],
        *,
        group: bool = False,
        **columns: str,
    ) -> None:
        """Complain of what a model found; `columns` names those that are called otherwise."""
        for name, messages in error.message_dict.items():
            column = columns.get(name, name)
            for message in messages:
                self._complain(row, column, message, cells.get(column), group=group)

    def _warn(self, row: int, column: str, message: str) -> None:
        self.warning_total += 1
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(Problem(row, column, message))

    def _check_batch(self, records: Sequence[Record]) -> None:
        wanted: dict[str, tuple[Record, dict[str, Any]]] = {}
        for record in records:
            if "group" in record.cells:
                self._read_group(record)
                continue
            values = self._values_of(record)
            identifier = self._identify(record, values)
            if identifier:
                wanted[identifier] = (record, values)
        if self.admit_secrets and any("secret" in values for _record, values in wanted.values()):
            self.admit_secrets()  # what is found of them says which are right
        known = self._known({name: frozenset(values) for name, (_, values) in wanted.items()})
        for identifier, (record, values) in wanted.items():
            entry = self._entry(record, identifier, values, known)
            self._states.update(entry.state)
            if record.row in self._rejected:
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
                self._complain(record.row, column, str(error), cell, group=group)
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
            self._complain_of(record.row, error, record.cells)
            return ""
        if (before := self._seen.setdefault(identifier, record.row)) != record.row:
            message = _("The identifier is in row %(row)d already.") % {"row": before}
            self._complain(record.row, "identifier", message, address)
            return ""
        if is_damaged(identifier):
            self._warn(
                record.row,
                "identifier",
                _("A spreadsheet may have made “%(identifier)s” of another identifier.")
                % {"identifier": identifier},
            )
        return identifier

    def _known(self, wanted: Mapping[str, frozenset[str]], *, lock: bool = False) -> Known:
        """Return what the registry has of these devices, as far as their columns ask for it.

        It is a handful of queries. With `lock` it stays so until the transaction ends.
        """
        generate = self.options.generate

        def rows(model: Any) -> Any:
            return model.objects.select_for_update(of=("self",)) if lock else model.objects.all()

        devices = rows(Device).order_by("pk").filter(identifier__in=wanted)
        known = Known({device.identifier: device for device in devices})
        of_these = {device.pk: wanted[name] for name, device in known.devices.items()}
        if any("groups" in columns for columns in of_these.values()):
            memberships = Device.groups.through.objects.filter(device__in=of_these)
            for device, group, name in memberships.values_list(
                "device_id", "devicegroup_id", "devicegroup__name"
            ):
                known.groups.setdefault(device, {})[name] = group
        if generate or any("secret" in columns for columns in of_these.values()):
            for key in rows(PreSharedKey).order_by("pk").filter(device__in=of_these):
                known.keys.setdefault(key.device_id, []).append(key)
        if generate or any("certificate" in columns for columns in of_these.values()):
            for one in rows(Certificate).order_by("pk").filter(device__in=of_these).defer("pem"):
                known.certificates.setdefault(one.device_id, []).append(one)
        return known

    def _entry(
        self, record: Record, identifier: str, values: dict[str, Any], known: Known
    ) -> Entry:
        row, device = record.row, known.devices.get(identifier)
        entry = Entry(
            row,
            device or Device(identifier=identifier),
            is_new=device is None,
            columns=frozenset(values),
            state=known.state_of(identifier),
        )
        for name in FIELDS:
            if name in values and _differs(getattr(entry.device, name), values[name]):
                setattr(entry.device, name, values[name])
                entry.changed.add(name)
        if entry.is_new or entry.changed:
            checked = entry.changed | ({"identifier", "attributes"} if entry.is_new else set())
            try:
                entry.device.clean_fields(exclude=ALL_FIELDS - checked)
            except ValidationError as error:
                self._complain_of(row, error, record.cells)
        if "groups" in values:
            now = known.groups.get(entry.device.pk or 0, {})
            entry.joins = values["groups"] - now.keys()
            entry.leaves = frozenset(now[name] for name in now.keys() - values["groups"])
            for name in entry.joins - self._group_pks.keys():
                self._missing_groups.setdefault(name, []).append(row)
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
                entry.key = PreSharedKey(scheme=Scheme.HMAC_SHA256)
        except ValidationError as error:
            self._complain(entry.row, "secret", " ".join(error.messages))
        if entry.key is not None:
            entry.key.label, entry.key.not_after = self.label, until

    def _has_live(
        self, entry: Entry, keys: Sequence[PreSharedKey], certificates: Sequence[Certificate]
    ) -> bool:
        """Whether the device can show anything, or will after this import."""
        return (
            entry.certificate is not None
            or any(self._is_live(key) for key in keys)
            or any(
                one.revoked_at is None and (one.pin != Pin.CERTIFICATE or one.not_after >= self.now)
                for one in certificates
            )
        )

    def _is_live(self, key: PreSharedKey) -> bool:
        return key.revoked_at is None and (key.not_after is None or key.not_after > self.now)

    def _key(self, entry: Entry, secret: str, keys: Sequence[PreSharedKey]) -> PreSharedKey | None:
        """Return the key to make of a cell, or None where the device has it; ValidationError."""
        if hashing.is_hashed(secret):
            scheme, pepper, digest = hashing.parse_hashed(secret)
            wanted, secret = PreSharedKey(scheme=scheme, pepper=pepper, digest=digest), ""
        else:
            hashing.check_usable(secret, random=self.options.random)
            scheme = Scheme.HMAC_SHA256 if self.options.random else Scheme.ARGON2ID
            wanted = PreSharedKey(scheme=scheme)
        for key in keys:
            if not (self._is_live(key) or key.revoked_at):
                continue
            if not self._is_same(key, wanted, secret):
                continue
            if key.revoked_at is None:
                return None
            raise ValidationError(
                _("This secret was revoked on %(day)s and stays so. Choose another."),
                params={"day": f"{key.revoked_at:%Y-%m-%d}"},
            )
        if wanted.is_chosen:
            self._check_chosen(entry, secret, keys)
        entry.secret = secret
        return wanted

    def _check_chosen(self, entry: Entry, secret: str, keys: Sequence[PreSharedKey]) -> None:
        """Refuse one chosen secret too many; warn of a weak one."""
        live = sum(key.is_chosen and self._is_live(key) for key in keys)
        if live >= MAX_LIVE_CHOSEN:
            raise ValidationError(
                _("A device has at most %(most)d live chosen secrets; revoke one first."),
                params={"most": MAX_LIVE_CHOSEN},
            )
        if secret:
            self._count_hash()
            if weakness := hashing.weakness(secret, identifier=entry.device.identifier):
                text = _("The secret is weak. %(why)s") % {"why": weakness}
                self._warn(entry.row, "secret", text)

    def _is_same(self, key: PreSharedKey, wanted: PreSharedKey, secret: str) -> bool:
        if not secret:
            return all(
                getattr(key, name) == getattr(wanted, name)
                for name in ("scheme", "pepper", "digest")
            )
        pepper = hashing.peppers().get(key.pepper)
        if pepper is None:
            return False
        if key.is_chosen:
            self._count_hash()
        return hashing.matches(secret, key.scheme, key.digest, pepper)

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
            self._complain(record.row, "group", message, name, group=True)
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
                self._complain_of(one.row, error, {"group": one.name}, group=True, name="group")
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
                self._complain(one.row, "parent", message, one.parent, group=True)
                return
            if above not in parents:
                self.new_groups.add(above)
            above = parents.get(above, "")
        if above in path:
            message = _("A group cannot lie within itself or a group below it.")
            self._complain(one.row, "parent", message, one.parent, group=True)
        elif len(path) > MAX_DEPTH:
            message = _("Groups nest at most %(deepest)d deep.") % {"deepest": MAX_DEPTH}
            self._complain(one.row, "parent", message, one.parent, group=True)

    def _check_missing_groups(self) -> None:
        """Note the groups to create, or complain that neither registry nor file has them."""
        for name, rows in self._missing_groups.items():
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

    def prepare(self) -> None:
        """Make secrets and digests, before anything is locked."""
        pepper = hashing.newest_pepper()
        entries = [entry for entry in self.entries if entry.key]
        for done, entry in enumerate(entries, 1):
            key = entry.key
            if key is not None and not key.digest:
                if not entry.secret:
                    entry.secret = hashing.generate()
                    key.hint = f"{entry.secret[:HINT_CHARACTERS]}…"
                    self.generated.append((entry.device.identifier, entry.secret))
                key.pepper = pepper
                key.digest = hashing.digest(entry.secret, key.scheme, pepper)
                entry.secret = ""
            self.progress(Progress("prepare", done, len(entries)))

    def write(self) -> None:
        """Write everything in one transaction; raises ValidationError where it cannot be."""
        if not self.is_sound:
            raise ValidationError(_("The file has errors; nothing was imported."), code="unsound")
        origin = history.origin(self.origin, user=self.user, reason=self.reason)
        try:
            with transaction.atomic(), origin:
                self._write_groups()
                done = 0
                for entries in batches(self.entries):
                    self._check_unchanged(entries)
                    self._write_batch(entries)
                    done += len(entries)
                    self.progress(Progress("write", done, len(self.entries)))
        except IntegrityError:
            raise ValidationError(
                _("The registry changed meanwhile; nothing was imported. Try again."),
                code="changed",
            ) from None

    def _check_unchanged(self, entries: Sequence[Entry]) -> None:
        """Lock the devices; raise ValidationError where any is not as it was when checked."""
        known = self._known(
            {entry.device.identifier: entry.columns for entry in entries}, lock=True
        )
        moved = [
            str(entry.row)
            for entry in entries
            if known.state_of(entry.device.identifier) != entry.state
        ]
        if moved:
            raise ValidationError(
                _(
                    "Somebody changed these devices, or their credentials, since the file was "
                    "checked: rows %(rows)s. Nothing was imported; try again."
                ),
                code="changed",
                params={"rows": ", ".join(moved[:10]) + ("…" if len(moved) > 10 else "")},  # noqa: PLR2004
            )

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
        for entry in entries:
            for credential in (entry.key, entry.certificate):
                if credential is not None:
                    credential.device = entry.device
        history.bulk_create([entry.key for entry in entries if entry.key])
        created = [entry.certificate for entry in entries if entry.certificate]
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
