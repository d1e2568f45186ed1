"""The list of devices: its filters, and what is computed for the rows of one page."""

from datetime import timedelta
from functools import partial
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _, gettext_lazy

from devices.admin.base.changelist import BoundedChangeList
from devices.admin.base.filters import CountedFilter
from devices.admin.base.pages import is_key, may_view
from devices.admin.base.rendering import SOON
from devices.models import Device, DeviceGroup, Membership
from devices.models.credentials.state import (
    credential_state,
    has_credential,
    has_expired_credentials_only,
    has_usable_credential,
    holds_one_of,
    is_locked_out_before,
    lacks_credential,
    next_expiry,
)
from devices.values.text import isolated

MAX_GROUPS = 15  # that are choices of a filter
OR_BELOW = "-or-below"  # after a group's key in an address: with the groups in it


class DeviceChangeList(BoundedChangeList):
    """Finds the rows of a page by their plain columns, then computes the others for these rows."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        found = list(self.result_list.values_list("pk", flat=True))
        now = timezone.now()
        rows = (
            Device.objects.annotate(
                credential_state=credential_state(now), next_expiry=next_expiry(now)
            )
            .prefetch_related("groups")
            .in_bulk(found)
        )
        self.result_list = [rows[pk] for pk in found if pk in rows]


class StateFilter(CountedFilter):
    """Devices by whether they may connect at all."""

    title = gettext_lazy("state")
    parameter_name = "enabled__exact"
    labels = {"1": gettext_lazy("Enabled"), "0": gettext_lazy("Disabled")}


class KindFilter(CountedFilter):
    title = gettext_lazy("kind")
    parameter_name = "kind__exact"
    labels = dict(Device.Kind.choices)


class CredentialsFilter(CountedFilter):
    """Devices by what they can show."""

    title = gettext_lazy("credentials")
    parameter_name = "credentials"
    labels = {
        "usable": gettext_lazy("A usable one"),
        "ending": gettext_lazy("One ends within 30 days"),
        "locking": gettext_lazy("The last one ends within 30 days"),
        "unusable": gettext_lazy("No usable one"),
        "expired": gettext_lazy("Only expired ones"),
        "none": gettext_lazy("None on record"),
    }

    def condition(self, value: str) -> Q:
        now = timezone.now()
        conditions = {  # each takes a millisecond or two to make
            "usable": partial(has_usable_credential, now),
            "ending": partial(has_credential, "ending_before", now + SOON, now=now),
            "locking": partial(is_locked_out_before, now + SOON, now=now),
            "unusable": partial(lacks_credential, "usable_at", now),
            "expired": partial(has_expired_credentials_only, now),
            "none": partial(lacks_credential, "unrevoked"),
        }
        return conditions[value]()

    def keep_to_count(self, queryset: Any, value: str) -> QuerySet[Device]:
        """Begin with the holders of the few credentials that end soon, or have ended."""
        now = timezone.now()
        if value in {"ending", "locking"}:
            rows = queryset.filter(holds_one_of("ending_before", now + SOON, now=now))
            is_last = lacks_credential("live_at", now + SOON)
            return rows.filter(is_last) if value == "locking" else rows
        if value == "expired":
            rows = queryset.filter(holds_one_of("expired_at", now))
            return rows.filter(lacks_credential("live_at", now))
        return self.keep(queryset, value)


class SeenFilter(CountedFilter):
    title = gettext_lazy("last seen")
    parameter_name = "seen"
    labels = {
        "24h": gettext_lazy("Within 24 hours"),
        "7d": gettext_lazy("Within 7 days"),
        "before-30d": gettext_lazy("Over 30 days ago"),
        "never": gettext_lazy("Never"),
    }

    def condition(self, value: str) -> Q:
        now = timezone.now()
        conditions = {
            "24h": Q(last_seen__gte=now - timedelta(hours=24)),
            "7d": Q(last_seen__gte=now - timedelta(days=7)),
            "before-30d": Q(last_seen__lt=now - timedelta(days=30)),
            "never": Q(last_seen=None),
        }
        return conditions[value]


class GroupFilter(CountedFilter):
    """Devices by a group that they are in, or in it or in one that lies in it.

    The list of groups leads to those left out here.
    """

    title = gettext_lazy("group")
    parameter_name = "group"
    more = False

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the first groups by name, and the one that was chosen, to whoever sees groups.

        One with groups in it is there twice: itself only, and with those.
        """
        if not may_view(request, DeviceGroup):
            return []
        within = DeviceGroup.objects.filter(parent=OuterRef("pk"))
        groups = DeviceGroup.objects.values_list("pk", "name", Exists(within))
        first = list(groups[: MAX_GROUPS + 1])
        self.more = len(first) > MAX_GROUPS
        listed, chosen = first[:MAX_GROUPS], self.value() or ""
        key = chosen.removesuffix(OR_BELOW)
        if is_key(key) and key not in {str(pk) for pk, *_row in listed}:
            listed = [*groups.filter(pk=key), *listed]
        choices: list[tuple[str, Any]] = []
        for pk, name, holds_groups in listed:
            if not (holds_groups or chosen == f"{pk}{OR_BELOW}"):
                choices.append((str(pk), name))
                continue
            named = {"group": isolated(name)}
            choices += [
                (str(pk), _("%(group)s only") % named),
                (f"{pk}{OR_BELOW}", _("%(group)s and the groups in it") % named),
            ]
        return [*choices, ("none", _("In no group"))] if choices else []

    def has_output(self) -> bool:
        """Show what was chosen, though it be gone."""
        return super().has_output() or self.value() is not None

    def keep(self, queryset: Any, value: str) -> QuerySet[Device]:
        if value == "none":
            return queryset.filter(~Exists(Membership.objects.filter(device=OuterRef("pk"))))
        key = value.removesuffix(OR_BELOW)
        if not is_key(key):
            return queryset.none()
        return queryset.filter(groups=key) if key == value else queryset.in_group_or_below(int(key))

    def choices(self, changelist: Any) -> Any:
        """Lead to the list of groups where there are more of them."""
        yield from super().choices(changelist)
        if self.more:
            yield {
                "selected": False,
                "query_string": reverse("admin:devices_devicegroup_changelist"),
                "display": _("More groups…"),
            }
