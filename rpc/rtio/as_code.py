"""RTIO servers and device service routes as one document, to be reviewed and imported again."""

from typing import Any, Literal

import msgspec
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from acl.documents import Entry, Text, complaint, difference, dump, twice
from devices import history
from devices.database.turns import hold
from devices.models import Device
from rpc.rtio.models import DeviceServiceRoute, RtioServer, TlsMode
from rpc.rtio.models.route import config_text
from rpc.rtio.models.server import DEVICE_PORT


class Route(Entry, frozen=True):
    """A route of a device service, as its row."""

    uri: Text
    url: Text
    enabled: bool = True
    note: Text = ""


class Server(Entry, frozen=True):
    """An RTIO server; `calls_as` is the identifier of its backend."""

    name: Text
    host: Text
    port: int = DEVICE_PORT
    tls: Text = TlsMode.NONE.value
    certificate: Text = ""
    calls_as: Text = ""
    enabled: bool = True


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """Everything; what it does not name is removed."""

    format: Literal[1]
    routes: list[Route]
    servers: list[Server]


def export_document() -> dict[str, Any]:
    """Return the routes and the servers as plain values; what is as usual is left out."""
    identifier = Coalesce("backend__identifier", Value(""))
    servers = RtioServer.objects.order_by("name").annotate(calls_as=identifier)
    return {
        "format": 1,
        "routes": _unusual(DeviceServiceRoute.objects.order_by("uri"), Route),
        "servers": _unusual(servers, Server),
    }


def _unusual(rows: "QuerySet[Any]", kind: type[Entry]) -> list[dict[str, Any]]:
    """Return the entries of rows, without the fields that are as the entry has them anyway."""
    usual = {field.name: field.default for field in msgspec.structs.fields(kind)}
    return [
        {name: row[name] for name in usual if row[name] != usual[name]}
        for row in rows.values(*usual)
    ]


def import_document(values: Any, *, dry_run: bool = False) -> list[str]:
    """Make routes and servers what a document says; return the difference, as lines of a diff.

    All or nothing: raises ValidationError with nothing changed. A dry run takes it all back.
    """
    try:
        document = msgspec.convert(values, Document)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        path, text = complaint(error)
        raise ValidationError(f"{path.removeprefix('.')}: {text}" if path else text) from None
    with transaction.atomic(), history.origin(history.Origin.IMPORT):
        before = dump(export_document())
        _import(document)
        after = dump(export_document())
        transaction.set_rollback(dry_run)
    return difference(before, after)


def _import(document: Document) -> None:
    """Remove what is not named, then write what is: removing makes room."""
    faults = [
        *twice("routes", (route.uri for route in document.routes)),
        *twice("servers", (server.name for server in document.servers)),
    ]
    if faults:
        raise ValidationError(faults[0])
    kept = [one.uri for one in document.routes]
    _delete(DeviceServiceRoute.objects.exclude(uri__in=kept))
    kept = [one.name for one in document.servers]
    _delete(RtioServer.objects.exclude(name__in=kept))
    routes = {row.uri: row for row in DeviceServiceRoute.objects.all()}
    # What shrinks or is switched off first: the map must fit at every step.
    for position, route in sorted(
        enumerate(document.routes), key=lambda one: _room(one[1]) - _room(routes.get(one[1].uri))
    ):
        fields = msgspec.structs.asdict(route)
        _write(routes.get(route.uri, DeviceServiceRoute()), fields, f"routes[{position}]")
    wanted = []
    for position, server in enumerate(document.servers):
        where, fields = f"servers[{position}]", msgspec.structs.asdict(server)
        fields["backend"] = _backend(fields.pop("calls_as"), where)
        wanted.append((where, fields))
    servers = {row.name: row for row in RtioServer.objects.select_related("backend")}
    for _where, fields in wanted:
        row = servers.get(fields["name"])
        if row is not None and not _is_as(row, fields):
            _make_way(row)
    for where, fields in wanted:
        _write(servers.get(fields["name"], RtioServer()), fields, where)


def _room(route: Route | DeviceServiceRoute | None) -> int:
    """Return how many characters of the map a route takes."""
    return len(config_text({route.uri: route.url})) if route is not None and route.enabled else 0


def _make_way(server: RtioServer) -> None:
    """Free the address and the backend of a server that changes: servers may change places.

    No history is kept of it: what the document says is written in the same transaction.
    """
    RtioServer.objects.filter(pk=server.pk).update(host=f"server-{server.pk}.invalid", backend=None)


def _is_as(row: DeviceServiceRoute | RtioServer, fields: dict[str, Any]) -> bool:
    return all(getattr(row, name) == value for name, value in fields.items())


def _backend(identifier: str, where: str) -> Device | None:
    if not identifier:
        return None
    device = Device.objects.filter(identifier=identifier).first()
    if device is None:
        raise ValidationError(
            _("%(where)s: no device %(identifier)s is registered")
            % {"where": where, "identifier": identifier}
        )
    return device


def _delete(rows: "QuerySet[Any]") -> None:
    """Delete rows, but those that others delete at this moment."""
    keys = hold(rows.model, list(rows.values_list("pk", flat=True)))
    history.bulk_delete(list(rows.filter(pk__in=keys)))


def _write(row: DeviceServiceRoute | RtioServer, fields: dict[str, Any], where: str) -> None:
    """Save a row whose fields differ; a change that says nothing leaves no history."""
    if row.pk is not None and _is_as(row, fields):
        return
    for name, value in fields.items():
        setattr(row, name, value)
    try:
        row.full_clean()
        row.save()
    except ValidationError as error:
        raise ValidationError(f"{where}: {' '.join(error.messages)}") from None
