"""Search over everything that staff know by a name: the first hits of each kind, and how many."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from acl.models import CommandPermission, CommandSet
from authsite.admin.links import list_url, may_see, row_url
from devices.admin.base.filters import MAX_COUNTED, bounded_count_text, counts
from devices.models import Certificate, CertificateAuthority, Device, DeviceGroup
from devices.values.addresses import is_storable
from devices.values.text import isolated

MAX_HITS = 10  # hits of a kind
FINGERPRINT = re.compile(r"[0-9a-f]{4,64}\Z")


@dataclass(frozen=True, slots=True)
class Hit:
    """A row that was found: what it is known by, what else tells it apart, and its page."""

    name: str
    note: str
    url: str
    enabled: bool | None = None  # None: not a thing that is switched off


@dataclass(frozen=True, slots=True)
class Hits:
    """The first hits of one kind, and how many there are.

    `count` ends at one more than MAX_COUNTED; `all_url` is the list that searches for the same.
    """

    title: str
    hits: list[Hit]
    count: int
    all_url: str

    @property
    def more(self) -> bool:
        return self.count > len(self.hits)

    @property
    def is_capped(self) -> bool:
        return self.count > MAX_COUNTED

    @property
    def shown_count(self) -> str:
        return bounded_count_text(self.count)


class Kind(NamedTuple):
    """What is searched of a model: rows that a text finds, without a row twice, and their hits."""

    model: type[Model]
    rows: list[QuerySet[Any]]
    hit: Callable[[Any], Hit]


def fingerprint_in(text: str) -> str | None:
    """Return the beginning of a fingerprint, however it was written, or None."""
    digits = re.sub(r"[\s:]", "", text).lower()
    return digits if FINGERPRINT.match(digits) else None


def kinds(text: str) -> list[Kind]:
    """Return where a text is searched.

    None of these sorts in the database: what a short text finds there may be a million rows.
    """
    named, fingerprint = Q(name__icontains=text), fingerprint_in(text)
    # Identifiers that are UUIDs are in lower case.
    begins = Q(identifier__startswith=text) | Q(identifier__startswith=text.lower())
    devices, anchors = Device.objects.order_by(), named
    certificates: list[QuerySet[Any]] = []
    if fingerprint is not None:
        found = Certificate.objects.filter(fingerprint__startswith=fingerprint)
        certificates = [found.select_related("device").order_by()]
        anchors |= Q(fingerprint__startswith=fingerprint)
    rules = CommandPermission.objects.filter(pattern__startswith=text).named().order_by()
    sets = CommandSet.objects.filter(named | Q(patterns__pattern__startswith=text)).distinct()
    return [
        Kind(
            Device,
            [devices.filter(begins), devices.with_name_prefix(text).exclude(begins)],
            lambda row: Hit(row.identifier, row.name, row_url(row), row.enabled),
        ),
        Kind(
            DeviceGroup,
            [DeviceGroup.objects.filter(named).select_related("parent")],
            lambda row: Hit(row.name, _lies_in(row), row_url(row)),
        ),
        Kind(
            Certificate,
            certificates,
            lambda row: Hit(row.fingerprint, f"{row} · {row.device or ''}", row_url(row)),
        ),
        Kind(
            CertificateAuthority,
            [CertificateAuthority.objects.filter(anchors)],
            lambda row: Hit(row.name, row.fingerprint, row_url(row), row.enabled),
        ),
        Kind(
            CommandPermission,
            [rules],
            lambda row: Hit(row.pattern, f"#{row.pk} {row}", row_url(row), row.enabled),
        ),
        Kind(CommandSet, [sets], lambda row: Hit(row.name, row.description, row_url(row))),
    ]


def _lies_in(group: DeviceGroup) -> str:
    return _("within %(group)s") % {"group": isolated(group.parent)} if group.parent else ""


def device_named(request: HttpRequest, text: str) -> str | None:
    """Return the page of the device that a text is the whole identifier of."""
    if not text or not is_storable(text) or not may_see(request, Device):
        return None
    device = Device.objects.called(text)
    return row_url(device) if device else None


def search(request: HttpRequest, text: str) -> list[Hits]:
    """Return what is found, by kind, among what this user may see; kinds without hits, too."""
    if not text or not is_storable(text):
        return []
    return [_search(kind, text) for kind in kinds(text) if may_see(request, kind.model)]


def _search(kind: Kind, text: str) -> Hits:
    hits: list[Hit] = []
    for rows in kind.rows:
        found = map(kind.hit, rows[: MAX_HITS + 1])
        hits += found if rows.ordered else sorted(found, key=attrgetter("name", "url"))
    return Hits(
        title=str(kind.model._meta.verbose_name_plural).capitalize(),
        hits=hits[:MAX_HITS],
        count=sum(counts(kind.rows)) if len(hits) > MAX_HITS else len(hits),
        all_url=list_url(
            kind.model, q=(kind.model is Certificate and fingerprint_in(text)) or text
        ),
    )
