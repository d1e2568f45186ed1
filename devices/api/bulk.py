"""Many devices in one request: all of them or none, with the position of each fault."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _, gettext_lazy
from rest_framework import exceptions, serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.response import Response

from devices.api.base.permissions import demand
from devices.api.base.problems import Conflict, Stale, within
from devices.api.base.serializers import CharField, IntegerField, ListField, Serializer
from devices.database.turns import hold
from devices.models import Device
from devices.transfer.columns import FIELDS
from devices.transfer.formats import Record
from devices.transfer.importing import Import
from devices.transfer.rows import Options
from devices.values import addresses

MAX_ROWS = 1000
MAX_HASHES = 50  # memory-hard ones, of 45 ms each, that a request may cost


class Rows(ListField):
    """One to MAX_ROWS objects, which another serializer reads."""

    child = serializers.JSONField()
    default_error_messages = {"not_a_list": gettext_lazy("This must be a list of devices.")}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_length=1, max_length=MAX_ROWS, allow_empty=False, **kwargs)


class NamedDeviceSerializer(Serializer):
    """A device by its key, as the client knows it."""

    id = IntegerField(min_value=1, max_value=2**63 - 1)
    if_match = CharField(help_text="The `etag` of the device that was read.")


class DeletedSerializer(Serializer):
    """How many devices were deleted."""

    deleted = IntegerField()


class Body(Serializer):
    """Devices, which are not read yet."""

    devices = Rows()


def read(serializer: Any) -> list[dict[str, Any]]:
    """Return what a serializer of many rows reads; raises ValidationError by position."""
    if not serializer.is_valid():
        found: Any = serializer.errors  # by position, or as a list of all
        refuse(found if isinstance(found, dict) else dict(enumerate(found)))
    return serializer.validated_data


def refuse(faults: Mapping[int, Any]) -> None:
    """Raise ValidationError where there are faults, with their positions."""
    if faults:
        told: Any = {"devices": dict(faults)}
        raise exceptions.ValidationError(told)


def fault(field: str, text: Any, code: str = "invalid") -> dict[str, list[ErrorDetail]]:
    return {field: [ErrorDetail(str(text), code)]}


def records_of(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Record]:
    """Return what an import reads, from identifiers and what is said of each device."""
    records = []
    for position, (identifier, said) in enumerate(rows):
        cells: dict[str, Any] = {"identifier": identifier}
        cells |= {name: said[name] for name in FIELDS if name in said}
        if "groups" in said:
            cells["groups"] = [group.name for group in said["groups"]]
        if (key := said.get("key")) is not None and "secret" in key:
            cells["secret"] = key["secret"]
        if "certificate" in said:
            cells["certificate"] = said["certificate"]
        records.append(Record(position + 1, cells))
    return records


COLUMNS = {"secret": ("key", "secret")}  # where a column of an import stands in a body


def checked(rows: Sequence[tuple[str, Mapping[str, Any]]], options: Options) -> Import:
    """Return an import of these rows; raises ValidationError where anything is wrong with them."""
    run = Import(records_of(rows), options, most_hashes=MAX_HASHES)
    with within("devices"):
        run.check()
    faults: dict[int, Any] = {}
    for problem in run.problems:
        at = faults.setdefault(problem.row - 1, {})
        *outer, name = COLUMNS.get(problem.column, (problem.column,))
        for one in outer:
            at = at.setdefault(one, {})
        at.setdefault(name, []).append(ErrorDetail(problem.message, "invalid"))
    refuse(faults)
    return run


def written(run: Import) -> None:
    """Write an import; raises Conflict where somebody else changed its rows meanwhile."""
    run.prepare()
    try:
        run.write()
    except ValidationError as error:
        raise Conflict(" ".join(error.messages), code="changed") from None


def create(view: Any, serializer_class: Any) -> Response:
    """Create devices with their groups and first credentials, as an import of a file does."""
    context = {**view.get_serializer_context(), "known_rows": {}}
    rows = read(serializer_class(data=view.asked(Body)["devices"], many=True, context=context))
    run = checked([(row["identifier"], row) for row in rows], _options_of(view, rows))
    entries = {entry.row - 1: entry for entry in run.entries if entry.is_new}
    text = _("A device with this identifier exists.")
    refuse(
        {at: fault("identifier", text, "unique") for at in range(len(rows)) if at not in entries}
    )
    for at, entry in entries.items():
        key = rows[at].get("key")
        if key is None:
            entry.key = None
        elif entry.key is not None:
            for name in ("label", "not_before", "not_after"):
                setattr(entry.key, name, key[name])
    written(run)
    made = [entries[at].device for at in range(len(rows))]
    view.check_reached(Device, [device.pk for device in made])
    view.count_use(made)
    view.count_use([one.key for one in entries.values() if one.key], "devices.add_presharedkey")
    view.count_use(
        [one.certificate for one in entries.values() if one.certificate], "devices.add_certificate"
    )
    secrets = dict(run.generated)
    shown = shown_as_they_are(view, made)
    for at, one in enumerate(shown):
        if (stored := entries[at].key) is not None:
            one["key"] = {"id": stored.pk, "label": stored.label}
            if (secret := secrets.get(one["identifier"])) is not None:
                one["key"]["secret"] = secret
    return Response({"devices": shown}, status=HTTPStatus.CREATED)


def _options_of(view: Any, rows: Sequence[Mapping[str, Any]]) -> Options:
    """Return the options of an import of these rows.

    Raises PermissionDenied where the request may not add their credentials, and ValidationError
    for rows that no import takes as they are.
    """
    keys = [row["key"] for row in rows if "key" in row]
    for name, wanted in (
        ("presharedkey", keys),
        ("certificate", [row for row in rows if "certificate" in row]),
    ):
        if wanted:
            demand(view.request, f"devices.add_{name}")
    known = [key["random"] for key in keys if "secret" in key]
    if any(known) and not all(known):
        text = _("Send random secrets and chosen ones in separate requests.")
        raise exceptions.ValidationError({"devices": [text]})
    named = [row["identifier"] for row in rows]
    first = {name: at for at, name in reversed([*enumerate(named)])}
    refuse(
        {
            at: fault("identifier", _("This begins or ends with a space."))
            for at, name in enumerate(named)
            if name != name.strip()  # which a file's cell may
        }
    )
    refuse(
        {
            at: fault("identifier", _("This device is in the list twice."), "repeated")
            for at, name in enumerate(named)
            if first[name] != at
        }
    )
    return Options(generate=len(known) < len(keys), random=any(known))


def shown_as_they_are(view: Any, devices: Sequence[Device]) -> list[dict[str, Any]]:
    """Return devices as they are now, in the order given."""
    fresh = view.filter_free().in_bulk([device.pk for device in devices])
    return view.get_serializer([fresh[device.pk] for device in devices], many=True).data


def held(view: Any, rows: Sequence[Mapping[str, Any]]) -> list[Device]:
    """Lock the devices that are named and return them, in order, as the client knows them.

    Raises ValidationError for what is not there or named twice, Stale for what was changed.
    """
    keys = [row["id"] for row in rows]
    hold(Device, keys)
    found = view.get_queryset().in_bulk(keys)
    faults: dict[int, Any] = {}
    for at, key in enumerate(keys):
        if key not in found:
            faults[at] = fault("id", _("There is no such device."), "does-not-exist")
        elif keys.index(key) != at:
            faults[at] = fault("id", _("This device is in the list twice."), "repeated")
    refuse(faults)
    stale = [
        {"pointer": f"#/devices/{at}/if_match", "detail": str(Stale.default_detail)}
        for at, row in enumerate(rows)
        if row["if_match"] not in {"*", view.version(found[row["id"]])}
    ]
    if stale:
        raise Stale(errors=stale)
    devices = [found[key] for key in keys]
    view.count_use(devices)
    return devices


def change(view: Any, serializer_class: Any) -> Response:
    """Change all devices of the body, or none; raises the faults of each by its position."""
    context = {**view.get_serializer_context(), "known_rows": {}}
    said = view.asked(Body)["devices"]
    rows = read(serializer_class(data=said, many=True, partial=True, context=context))
    refuse(
        {
            at: fault(name, _("This field is required."), "required")
            for at, row in enumerate(rows)
            for name in ("id", "if_match")
            if name not in row
        }
    )
    devices = held(view, rows)
    named = [addresses.written(device.identifier) for device in devices]
    written(checked(list(zip(named, rows, strict=True)), Options()))
    view.check_reached(Device, [device.pk for device in devices])
    return Response({"devices": shown_as_they_are(view, devices)})


def delete(view: Any) -> Response:
    """Delete all devices of the body, or none; raises the faults of each by its position."""
    rows = read(NamedDeviceSerializer(data=view.asked(Body)["devices"], many=True))
    devices = held(view, rows)
    chosen = Device.objects.filter(pk__in=[device.pk for device in devices])
    view.check_deletable(chosen)
    return Response({"deleted": chosen.delete_with_history()})
