"""One search over everything that staff know by a name: a few hits of each kind, by an index."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db.models import Model, Q
from django.http import HttpRequest
from django.utils.translation import gettext as _

from acl.models import CommandPermission, CommandSet
from authsite.admin.links import list_url, may_see, row_url
from devices.addresses import is_storable
from devices.models import Certificate, CertificateAuthority, Device, DeviceGroup

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
    """The hits of one kind; `all_url` is the list that searches for the same, at any place."""

    title: str
    hits: list[Hit]
    more: bool
    all_url: str


def fingerprint_in(text: str) -> str | None:
    """Return the beginning of a fingerprint, however it was written, or None."""
    digits = re.sub(r"[\s:]", "", text).lower()
    return digits if FINGERPRINT.match(digits) else None


# None of these sorts in the database: what a short text finds there may be a million rows.


def _sorted(devices: Iterable[Device]) -> list[Device]:
    return sorted(devices, key=lambda device: device.identifier)


def _devices(text: str) -> Iterable[Hit]:
    devices = Device.objects.order_by()
    identified = {
        device.pk: device
        for prefix in dict.fromkeys((text, text.lower()))
        for device in devices.filter(identifier__startswith=prefix)[: MAX_HITS + 1]
    }
    named = devices.with_name_prefix(text).exclude(pk__in=identified)[: MAX_HITS + 1]
    for device in (*_sorted(identified.values()), *_sorted(named)):
        yield Hit(device.identifier, device.name, row_url(device), device.enabled)


def _groups(text: str) -> Iterable[Hit]:
    groups = DeviceGroup.objects.filter(name__icontains=text).select_related("parent")
    for group in groups[: MAX_HITS + 1]:
        within = _("within %(group)s") % {"group": group.parent} if group.parent else ""
        yield Hit(group.name, within, row_url(group))


def _certificates(text: str) -> Iterable[Hit]:
    fingerprint = fingerprint_in(text)
    if fingerprint is None:
        return
    found = Certificate.objects.fingerprinted(fingerprint).select_related("device")
    for certificate in found.order_by()[: MAX_HITS + 1]:
        device = certificate.device.identifier if certificate.device else ""
        yield Hit(certificate.fingerprint, f"{certificate} · {device}", row_url(certificate))


def _anchors(text: str) -> Iterable[Hit]:
    wanted = Q(name__icontains=text)
    if fingerprint := fingerprint_in(text):
        wanted |= Q(fingerprint__startswith=fingerprint)
    for anchor in CertificateAuthority.objects.filter(wanted)[: MAX_HITS + 1]:
        yield Hit(anchor.name, anchor.fingerprint, row_url(anchor), anchor.enabled)


def _rules(text: str) -> Iterable[Hit]:
    rules = CommandPermission.objects.filter(pattern__startswith=text).named()
    for rule in sorted(rules.order_by()[: MAX_HITS + 1], key=lambda rule: (rule.pattern, rule.pk)):
        yield Hit(rule.pattern, f"#{rule.pk} {rule}", row_url(rule), rule.enabled)


def _command_sets(text: str) -> Iterable[Hit]:
    wanted = Q(name__icontains=text) | Q(patterns__pattern__startswith=text)
    for command_set in CommandSet.objects.filter(wanted).distinct()[: MAX_HITS + 1]:
        yield Hit(command_set.name, command_set.description, row_url(command_set))


KINDS: list[tuple[type[Model], Callable[[str], Iterable[Hit]]]] = [
    (Device, _devices),
    (DeviceGroup, _groups),
    (Certificate, _certificates),
    (CertificateAuthority, _anchors),
    (CommandPermission, _rules),
    (CommandSet, _command_sets),
]


def search(request: HttpRequest, text: str) -> list[Hits]:
    """Return what is found, by kind, among what this user may see; kinds without hits, too."""
    if not text or not is_storable(text):
        return []
    found = []
    for model, find in KINDS:
        if not may_see(request, model):
            continue
        hits = list(find(text))
        found.append(
            Hits(
                title=str(model._meta.verbose_name_plural).capitalize(),
                hits=hits[:MAX_HITS],
                more=len(hits) > MAX_HITS,
                all_url=list_url(model, q=fingerprint_in(text) or text)
                if model is Certificate
                else list_url(model, q=text),
            )
        )
    return found
