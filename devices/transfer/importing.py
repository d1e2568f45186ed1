"""Devices, groups and credentials out of a file: checked as a whole, then written as a whole.

`check` reads and holds every row against the registry and writes nothing, `prepare` makes the
digests, `write` is one transaction. No query is made for a row; batches share theirs.
(docs/transfer.md)
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from devices import history
from devices.credentials import hashing
from devices.database.batches import batched
from devices.extension_points import AccessEnd, end_access
from devices.models import AttributeDefinition, Certificate, Device
from devices.models.credentials.pre_shared_key import HINT_CHARACTERS
from devices.transfer.columns import EMPTY, FIELDS, READERS, is_about_group, is_damaged
from devices.transfer.credential_cells import CredentialCells
from devices.transfer.formats import Record
from devices.transfer.group_rows import GroupRows
from devices.transfer.rows import Entry, Findings, Known, Options
from devices.values.attributes import is_same
from devices.values.text import joined, skeleton

BATCH = 2_000
NAMING = {"", "identifier", "group"}  # columns of problems that say why a row names nothing
MAX_HASHES = 1_000  # memory-hard ones, of 45 ms each, that an upload may cost


class Progress(NamedTuple):
    """How far an import is. `total` is None while the file is still being read."""

    stage: str
    done: int
    total: int | None = None


class Import(Findings):
    """One file on its way into the registry, with what is found in it.

    The history has it as whoever calls says (`history.origin`).
    """

    def __init__(
        self,
        records: Iterable[Record],
        options: Options | None = None,
        *,
        most_hashes: int | None = None,
        admit_secrets: Callable[[], None] | None = None,
        progress: Callable[[Progress], None] = lambda _step: None,
    ) -> None:
        super().__init__()
        self.records = records
        self.options = options or Options()
        self.admit_secrets = admit_secrets  # raises ValidationError where they may not be added
        self.progress = progress
        self.devices: Counter[str] = Counter()
        self.groups = GroupRows(self, create=self.options.create_groups)
        self.entries: list[Entry] = []
        self.generated: list[tuple[str, str]] = []  # identifier and secret, once written
        self._credentials = CredentialCells(self, self.options, most_hashes)
        self._states = hashlib.sha256()
        self._seen: dict[str, int] = {}
        self._looks: dict[str, int] = {}  # of new identifiers: what is left of them, and a row

    # --- Checking ---------------------------------------------------------------------------

    @property
    def is_sound(self) -> bool:
        return not self.problem_total

    @property
    def counts(self) -> dict[str, int]:
        """How many devices are new, changed, unchanged and rejected, and what comes with them."""
        return {
            "new": self.devices["new"],
            "changed": self.devices["changed"],
            "unchanged": self.devices["unchanged"],
            "rejected": len(self.rejected),
            "groups_new": self.groups.counts["new"] + len(self.groups.new),
            "groups_changed": self.groups.counts["changed"],
            "groups_unchanged": self.groups.counts["unchanged"],
            "groups_rejected": len(self.rejected_groups),
            "secrets": sum(entry.key is not None for entry in self.entries),
            "certificates": sum(entry.certificate is not None for entry in self.entries),
        }

    @property
    def state(self) -> str:
        """The digest of all that the registry held about the rows when they were checked."""
        return self._states.hexdigest()

    @property
    def has_changes(self) -> bool:
        return bool(self.entries) or self.groups.has_changes

    def check(self) -> None:
        """Hold every row against the registry; raises ValidationError for the file as a whole."""
        self.groups.look_up()
        done = 0
        with AttributeDefinition.objects.read_once():
            for records in batched(self.records, BATCH):
                self._check_batch(records)
                done += len(records)
                self.progress(Progress("check", done))
        if not done:
            raise ValidationError(_("The file has no rows."), code="empty")
        self.groups.check()
        for entry in self.entries:
            if entry.row in self.rejected:
                self.devices["new" if entry.is_new else "changed"] -= 1
        for found in (self.problems, self.warnings):
            found.sort(key=lambda problem: problem.row)

    def _check_batch(self, records: Sequence[Record]) -> None:
        wanted: dict[str, tuple[Record, dict[str, Any]]] = {}
        for record in records:
            if is_about_group(record.cells):
                self.groups.read(record, self._values_of(record))
                continue
            values = self._values_of(record)
            identifier = self._identify(record, values)
            if identifier:
                wanted[identifier] = (record, values)
        if self.admit_secrets and any("secret" in values for _record, values in wanted.values()):
            self.admit_secrets()  # what is found of them says which are right
        columns = {name: frozenset(values) for name, (_record, values) in wanted.items()}
        known = Known.of(columns, generate=self.options.generate)
        with Device.checking_many(known.devices.values()):
            entries = [
                self._entry(record, identifier, values, known)
                for identifier, (record, values) in wanted.items()
            ]
        self._warn_of_new(
            [entry for entry in entries if entry.is_new and entry.row not in self.rejected]
        )
        for entry in entries:
            self._states.update(entry.state)
            if entry.row in self.rejected:
                continue
            if entry.is_new:
                self.devices["new"] += 1
            else:
                self.devices["changed" if entry.changes else "unchanged"] += 1
            if entry.changes:
                self.entries.append(entry)

    def _warn_of_new(self, entries: Sequence[Entry]) -> None:
        """Warn of new identifiers that are easily taken for others, here or in the registry.

        Not of those that RTIO cannot use: a whole fleet may have such, and hide the others.
        """
        if not entries:
            return
        alike = Device.objects.easily_taken_for(entry.device.identifier for entry in entries)
        for entry in entries:
            row, device = entry.row, entry.device
            warnings = device.identifier_warnings(alike.get(device.identifier, []))
            if (before := self._looks.setdefault(skeleton(device.identifier), row)) != row:
                message = _("It is easily taken for the identifier in row %(row)d.")
                warnings.append(message % {"row": before})
            for warning in filter(None, [*warnings, device.basic_warning()]):
                self.warn(row, "identifier", warning)

    def _values_of(self, record: Record) -> dict[str, Any]:
        """Return what the cells of a row mean; what cannot be read is a problem of the row."""
        group = is_about_group(record.cells)
        for problem in record.problems:
            self.add_problem(*problem, group=group)
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
                self.add_problem(record.row, column, str(error), cell, group=group)
        return values

    def _identify(self, record: Record, values: dict[str, Any]) -> str:
        """Return the ID that a row is about; "" where it names none that can be registered."""
        address = values.pop("identifier", "")
        if not address:
            if not any(problem.column in NAMING for problem in record.problems):
                self.add_problem(record.row, "identifier", _("The identifier is missing."))
            return ""
        try:
            identifier = Device.registered_id(address)
        except ValidationError as error:
            self.add_errors(record.row, error, record.cells)
            return ""
        if (before := self._seen.setdefault(identifier, record.row)) != record.row:
            message = _("The identifier is in row %(row)d already.") % {"row": before}
            self.add_problem(record.row, "identifier", message, address)
            return ""
        if is_damaged(identifier):
            self.warn(
                record.row,
                "identifier",
                _("A spreadsheet may have made “%(identifier)s” of another identifier.")
                % {"identifier": identifier},
            )
        return identifier

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
                self.add_errors(row, error, record.cells)
        if "groups" in values:
            now = known.groups.get(entry.device.pk or 0, {})
            entry.joins = values["groups"] - now.keys()
            entry.leaves = frozenset(now[name] for name in now.keys() - values["groups"])
            self.groups.note_named(entry.joins, row)
        self._credentials.check(entry, values, known)
        return entry

    # --- Writing ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make secrets and digests, before anything is locked."""
        entries = [entry for entry in self.entries if entry.key]
        for done, entry in enumerate(entries, 1):
            key = entry.key
            if key is not None and not key.digest:
                if not entry.secret:
                    entry.secret = hashing.generate()
                    key.hint = f"{entry.secret[:HINT_CHARACTERS]}…"
                    self.generated.append((entry.device.identifier, entry.secret))
                key.pepper, key.digest = hashing.digest(entry.secret, key.scheme)
                entry.secret = ""
            self.progress(Progress("prepare", done, len(entries)))

    def write(self) -> None:
        """Write everything in one transaction; raises ValidationError where it cannot be."""
        if not self.is_sound:
            raise ValidationError(_("The file has errors; nothing was imported."), code="unsound")
        try:
            with transaction.atomic():
                self.groups.write()
                done = 0
                for entries in batched(self.entries, BATCH):
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
        columns = {entry.device.identifier: entry.columns for entry in entries}
        known = Known.of(columns, generate=self.options.generate, lock=True)
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
                params={"rows": joined(moved, 10)},
            )

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
                membership(device_id=entry.device.pk, devicegroup_id=self.groups.pks[name])
                for entry in entries
                for name in sorted(entry.joins)
            ]
        )


ALL_FIELDS = {one.name for one in Device._meta.concrete_fields}


def _differs(before: object, wanted: object) -> bool:
    return not is_same(before, wanted) if isinstance(wanted, dict) else before != wanted
