"""A row of a file and its device: what the registry has of it, what the row makes of it, faults."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError

from devices.models import Certificate, Device, PreSharedKey
from devices.transfer.columns import FIELDS, quoted
from devices.transfer.formats import Problem
from devices.values.text import storable

MAX_PROBLEMS = 1_000  # kept to be shown; all are counted


@dataclass(frozen=True, slots=True)
class Options:
    """What is said of a file as a whole."""

    create_groups: bool = False
    generate: bool = False  # a secret for each device that could show nothing
    random: bool = False  # its secrets are registered as random ones


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
class Known:
    """What the registry has of the devices of a batch, by their identifiers or primary keys."""

    devices: dict[str, Device]
    groups: dict[int, dict[str, int]] = field(default_factory=dict)
    keys: dict[int, list[PreSharedKey]] = field(default_factory=dict)
    certificates: dict[int, list[Certificate]] = field(default_factory=dict)

    def state_of(self, identifier: str) -> bytes:
        """Return the SHA-256 digest of all that was read of a device; empty for a new one."""
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

    @classmethod
    def of(
        cls, wanted: Mapping[str, frozenset[str]], *, generate: bool, lock: bool = False
    ) -> "Known":
        """Return what the registry has of these devices, as far as their columns ask for it.

        `generate`: credentials are asked for in any case. It is a handful of queries. With `lock`
        it stays so until the transaction ends.
        """

        def rows(model: Any) -> Any:
            return model.objects.select_for_update(of=("self",)) if lock else model.objects.all()

        devices = rows(Device).order_by("pk").filter(identifier__in=wanted)
        known = cls({device.identifier: device for device in devices})
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


class Findings:
    """Problems and warnings, and the rows that are rejected for their problems."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.problem_total = 0
        self.warnings: list[Problem] = []
        self.warning_total = 0
        self.rejected: set[int] = set()  # rows of devices
        self.rejected_groups: set[int] = set()

    def add_problem(
        self, row: int, column: str, message: str, value: object = None, *, group: bool = False
    ) -> None:
        """Note a problem of a cell; a value that is no secret is quoted beside it."""
        (self.rejected_groups if group else self.rejected).add(row)
        self.problem_total += 1
        if len(self.problems) < MAX_PROBLEMS:
            text = storable(message + quoted(column, value))
            self.problems.append(Problem(row, storable(column), text))

    def add_errors(
        self,
        row: int,
        error: ValidationError,
        cells: Mapping[str, Any],
        *,
        group: bool = False,
        **columns: str,
    ) -> None:
        """Note what a model refused; `columns` gives the column of a field with another name."""
        for name, messages in error.message_dict.items():
            column = columns.get(name, name)
            for message in messages:
                self.add_problem(row, column, message, cells.get(column), group=group)

    def warn(self, row: int, column: str, message: str) -> None:
        """Note what looks odd and hinders nothing."""
        self.warning_total += 1
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(Problem(row, column, message))
