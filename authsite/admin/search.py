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
        """Whether there are more hits than are shown."""
        return self.count > len(self.hits)

    @property
    def is_capped(self) -> bool:
        """Whether there may be more than were counted."""
        return self.count > MAX_COUNTED

    @property
    def shown_count(self) -> str:
        """The count, as the lists write it."""
        return bounded_count_text(self.count)


class Kind(NamedTuple):
    """What is searched of a model: rows that a text finds, without a row twice, and their hits."""

    model: type[Model]
    rows: Callable[[str], list[QuerySet[Any]]]
    hit: Callable[[Any], Hit]


def fingerprint_in(text: str) -> str | None:
    """Return the beginning of a fingerprint, however it was written, or None."""
    digits = re.sub(r"[\s:]", "", text).lower()
    return digits if FINGERPRINT.match(digits) else None


# None of these sorts in the database: what a short text finds there may be a million rows.


def identified(text: str) -> Q:
    """Return the condition of devices whose identifier begins so; UUIDs are in lower case."""
    return Q(identifier__startswith=text) | Q(identifier__startswith=text.lower())


def _devices(text: str) -> list[QuerySet[Any]]:
    devices = Device.objects.order_by()
    begins = identified(text)
    return [devices.filter(begins), devices.with_name_prefix(text).exclude(begins)]


def _device_hit(device: Device) -> Hit:
    return Hit(device.identifier, device.name, row_url(device), device.enabled)


def _groups(text: str) -> list[QuerySet[Any]]:
    return [DeviceGroup.objects.filter(name__icontains=text).select_related("parent")]


def _group_hit(group: DeviceGroup) -> Hit:
    within = _("within %(group)s") % {"group": isolated(group.parent)} if group.parent else ""
    return Hit(group.name, within, row_url(group))


def _certificates(text: str) -> list[QuerySet[Any]]:
    fingerprint = fingerprint_in(text)
    if fingerprint is None:
        return []
    found = Certificate.objects.fingerprinted(fingerprint)
    return [found.select_related("device").order_by()]


def _certificate_hit(certificate: Certificate) -> Hit:
    device = certificate.device.identifier if certificate.device else ""
    return Hit(certificate.fingerprint, f"{certificate} · {device}", row_url(certificate))


def _anchors(text: str) -> list[QuerySet[Any]]:
    wanted = Q(name__icontains=text)
    if fingerprint := fingerprint_in(text):
        wanted |= Q(fingerprint__startswith=fingerprint)
    return [CertificateAuthority.objects.filter(wanted)]


def _anchor_hit(anchor: CertificateAuthority) -> Hit:
    return Hit(anchor.name, anchor.fingerprint, row_url(anchor), anchor.enabled)


def _rules(text: str) -> list[QuerySet[Any]]:
    return [CommandPermission.objects.filter(pattern__startswith=text).named().order_by()]


def _rule_hit(rule: CommandPermission) -> Hit:
    return Hit(rule.pattern, f"#{rule.pk} {rule}", row_url(rule), rule.enabled)


def _command_sets(text: str) -> list[QuerySet[Any]]:
    wanted = Q(name__icontains=text) | Q(patterns__pattern__startswith=text)
    return [CommandSet.objects.filter(wanted).distinct()]


def _command_set_hit(command_set: CommandSet) -> Hit:
    return Hit(command_set.name, command_set.description, row_url(command_set))


KINDS = [
    Kind(Device, _devices, _device_hit),
    Kind(DeviceGroup, _groups, _group_hit),
    Kind(Certificate, _certificates, _certificate_hit),
    Kind(CertificateAuthority, _anchors, _anchor_hit),
    Kind(CommandPermission, _rules, _rule_hit),
    Kind(CommandSet, _command_sets, _command_set_hit),
]


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
    return [_search(kind, text) for kind in KINDS if may_see(request, kind.model)]


def _search(kind: Kind, text: str) -> Hits:
    querysets = kind.rows(text)
    hits: list[Hit] = []
    for rows in querysets:
        found = map(kind.hit, rows[: MAX_HITS + 1])
        hits += found if rows.ordered else sorted(found, key=attrgetter("name", "url"))
    return Hits(
        title=str(kind.model._meta.verbose_name_plural).capitalize(),
        hits=hits[:MAX_HITS],
        count=sum(counts(querysets)) if len(hits) > MAX_HITS else len(hits),
        all_url=list_url(
            kind.model, q=(kind.model is Certificate and fingerprint_in(text)) or text
        ),
    )
