"""Announcing that credentials expire: 30 days, 7 days and 1 day before, each once.

For each of the three the stream's row says until when the ends of credentials are announced; a look
reads, by an index, those that lie beyond it. A credential that is given an end nearer than that is
announced at the next of the three, and one that another look announced never again.
"""

from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db import transaction

from devices.events.kinds import Kind
from devices.events.models import Event, EventStream
from devices.events.recording import with_groups
from devices.history.context import by_itself, circumstances

DAYS = (30, 7, 1)
MODELS = ("devices.presharedkey", "devices.certificate")


def announce(now: datetime) -> int:
    """Leave an event for each credential of an enabled device that expires soon; return how many.

    A row whose later announcement is due as well has that one alone.
    """
    with transaction.atomic(), by_itself():
        stream = EventStream.held()
        events: list[Event] = []
        for days, nearer in zip(DAYS, (*DAYS[1:], 0), strict=True):
            until = now + timedelta(days=days)
            said = stream.announced.get(str(days))
            since = max(now + timedelta(days=nearer), datetime.fromisoformat(said) if said else now)
            if since < until:
                events += [
                    event for label in MODELS for event in _expiring(label, since, until, days)
                ]
                stream.announced[str(days)] = until.isoformat()
        Event.objects.bulk_create(events, batch_size=1000)
        stream.save(update_fields=["announced"])
    return len(events)


def _expiring(label: str, since: datetime, until: datetime, days: int) -> list[Event]:
    """Return the events of live credentials that end after a moment, and until another."""
    model: Any = apps.get_model(label)
    rows = model.objects.unrevoked().filter(
        not_after__gt=since, not_after__lte=until, device__enabled=True
    )
    if label == "devices.certificate":
        rows = rows.filter(pin="certificate")  # the pin of a public key never expires
    listed = list(rows.order_by("not_after"))
    keys = {row.device_id for row in listed}
    devices = with_groups(apps.get_model("devices.Device")._default_manager.filter(pk__in=keys))
    return [
        Event(
            kind=Kind.CREDENTIAL_EXPIRING,
            groups=sorted(groups),
            data={
                "model": label,
                "id": row.pk,
                "device": {"id": row.device_id, "identifier": identifier},
                "label": row.label,
                "not_after": row.not_after,
                "days": days,
                **circumstances(),
            },
        )
        for row in listed
        if row.device_id in devices
        for identifier, groups in [devices[row.device_id]]
    ]
