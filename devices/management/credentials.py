"""Credentials of devices as commands print them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from devices.management.base import RegistryCommand, add_limit, fields_of
from devices.management.filters import add_filter, chosen
from devices.models import Certificate, PreSharedKey
from devices.models.credentials.certificate import Pin
from devices.values.moments import in_utc
from devices.verdicts import Outcome


def described_key(key: PreSharedKey, now: datetime) -> dict[str, Any]:
    """Return a key as a document: nothing of its secret."""
    return {
        "key": key.pk,
        "label": key.label,
        "state": key.state_at(now).value,
        **fields_of(key, "scheme", "not_before", "not_after", "last_used"),
    }


def described_certificate(certificate: Certificate, now: datetime) -> dict[str, Any]:
    return {
        "certificate": certificate.pk,
        "label": certificate.label,
        "state": certificate.state_at(now).value,
        **fields_of(certificate, "pin", "fingerprint", "not_before", "not_after", "last_used"),
    }


def credential_text(credential: dict[str, Any]) -> str:
    """Return a line of its number, its state, its label and when it ends, in UTC.

    The pin of a public key never does.
    """
    noun = "key" if "key" in credential else "certificate"
    end = None if credential.get("pin") == Pin.PUBLIC_KEY else credential["not_after"]
    until = f", until {in_utc(end)}" if end else ""
    label = credential["label"] or "-"
    state = credential["state"]
    shown = "usable" if state == Outcome.VERIFIED else state  # JSON has the code, as over the API
    return f"{noun} {credential[noun]}: {shown}, {label}{until}"


class ListCredentialsCommand(RegistryCommand):
    """A command that lists credentials by device: those that live, or all."""

    noun: str
    credentials: Any  # all of the sort, as a query
    described: Callable[[Any, datetime], dict[str, Any]]  # a static method

    def add_arguments(self, parser: CommandParser) -> None:
        add_filter(parser)
        parser.add_argument("--all", action="store_true", help="those that have ended, too")
        add_limit(parser, 1000)

    def handle(self, *args: Any, **options: Any) -> None:
        now, limit = timezone.now(), options["limit"]
        rows = self.credentials.all() if options["all"] else self.credentials.live_at(now)
        if options["filter"]:
            rows = rows.filter(device__in=chosen(options["filter"]).values("pk"))
        rows = rows.select_related("device").order_by("device__identifier", "pk")
        found = list(rows[: limit + 1])
        documents = [
            {"device": row.device and row.device.identifier, **self.described(row, now)}
            for row in found[:limit]
        ]
        lines = [f"{one['device'] or '-'}  {credential_text(one)}" for one in documents]
        more = len(found) > limit
        if more:
            self.stderr.write(f"There are more than {limit:,}; --limit shows more.")
        self.answer(
            "\n".join(lines) or f"No {self.noun}.",
            {f"{self.noun}s": documents, "more": more},
            yes=bool(found),
        )
