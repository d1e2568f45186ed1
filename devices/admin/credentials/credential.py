"""What the admins of keys and of certificates have in common."""

from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from devices.admin.base.actions import BulkActionsMixin
from devices.admin.base.changelist import MAX_LISTED, is_large, keys_of
from devices.admin.base.mixins import RevocableMixin
from devices.admin.base.rendering import expiry_in_list, moment, state_badge
from devices.models import Device
from devices.verdicts import Outcome


class CredentialMixin(RevocableMixin, BulkActionsMixin):
    """Shows a credential's state, and finds one among many."""

    begins: tuple[str, ...] = ()  # fields that a search of many looks up by how they begin

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Look for any part of the fields; among many rows, for how they or their device begin."""
        term = search_term.strip()
        if not term or not is_large(self.model):
            return super().get_search_results(request, queryset, search_term)
        begins = [Q(**{f"{name}__startswith": term}) for name in self.begins]
        identified = Q(identifier__startswith=term.lower())
        found = [
            keys_of(rows)
            for rows in (Device.objects.with_name_prefix(term), Device.objects.filter(identified))
        ]
        if max(map(len, found)) > MAX_LISTED:  # then a search by their keys is slower
            named = Q(device__name__istartswith=term)
            held = named | Q(device__identifier__startswith=term.lower())
            return queryset.filter(reduce(or_, begins, held)), False
        # Indexes have no empty texts (migrations/0032).
        ways = [
            *(Q(device__in=devices) for devices in found if devices),
            *(way & ~Q(**{name: ""}) for name, way in zip(self.begins, begins, strict=True)),
        ]
        keys = {key for way in ways for key in keys_of(self.model.objects.filter(way))}
        return queryset.filter(pk__in=[*keys][: MAX_LISTED + 1]), False

    @admin.display(description=gettext_lazy("State"))
    def state(self, credential: Any) -> SafeString:
        return state_badge(credential.state_at(timezone.now()))

    @admin.display(description=gettext_lazy("State"), empty_value="")
    def unusual_state(self, credential: Any) -> SafeString | str:
        """Return why the credential does not admit its device now; nothing where it does."""
        state = credential.state_at(timezone.now())
        return "" if state is Outcome.VERIFIED else state_badge(state)

    @admin.display(description=gettext_lazy("Valid until"), ordering="not_after")
    def ends(self, credential: Any) -> SafeString | str:
        """Return when the credential ends, and how soon; it has ended where it is revoked."""
        ends: datetime | None = credential.not_after
        if credential.revoked_at is not None:
            return moment(ends, "moment day")
        return expiry_in_list(ends, timezone.now())
