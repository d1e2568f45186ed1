"""Staff's view of webhooks, of what they were sent, and of the events themselves."""

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _, ngettext

from devices.admin.base.forms import CurrentForm
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.mixins import CountsDeletedMixin, ReadOnlyMixin
from devices.admin.base.pages import OwnPagesMixin, own_page, say_done
from devices.admin.base.reauthentication import recently_authenticated
from devices.admin.base.rendering import NOTHING, Tone, badge, moment, moment_column
from devices.events.kinds import Kind
from devices.events.models import Delivery, DeliveryState, Event, Webhook, WebhookState
from devices.values.text import joined, visible

TONES = {
    WebhookState.ACTIVE: Tone.GOOD,
    WebhookState.PAUSED: Tone.SOON,
    WebhookState.OFF: Tone.OFF,
    DeliveryState.WAITING: Tone.SOON,
    DeliveryState.DELIVERED: Tone.GOOD,
    DeliveryState.FAILED: Tone.BAD,
}
STATES = {
    WebhookState.ACTIVE: _("active"),
    WebhookState.PAUSED: _("paused"),
    WebhookState.OFF: _("off"),
}
# Of an event's row; a service account is told by what it is for.
NAMED_BY = ("identifier", "name", "text", "uri", "label", "pattern", "role", "purpose")
NAMED_WITH = {"device": "identifier", "account": "username"}  # of a row that it belongs to
HAPPENED = moment_column("moment", _("Time"))
TRIED = moment_column("tried_at", _("Last attempt"))


class WebhookForm(CurrentForm):
    kinds = forms.MultipleChoiceField(
        label=_("Kinds of events"),
        choices=Kind.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None chosen: all of them."),
    )


@admin.register(Webhook)
@method_decorator(recently_authenticated, name="add_view")  # whose answer shows a secret
class WebhookAdmin(CountsDeletedMixin, RecordedAdmin):
    form = WebhookForm
    list_display = ["name", "url", "tells_of", "group", "shown_state", "waiting"]
    list_select_related = ["group"]
    list_filter = ["state"]
    search_fields = ["name", "url"]
    purpose = _("A webhook is an address of another system, which is sent what happens here.")
    search_help_text = _("Search by any part of a name or a URL.")
    autocomplete_fields = ["group"]
    fieldsets = [
        (None, {"fields": ["name", "url", "state", "off_because"]}),
        (_("What it is told of"), {"fields": ["kinds", "group"]}),
    ]
    readonly_fields = ["off_because", "named_kinds"]
    actions = ["send_test"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out why it is off where it is not; name the kinds to those who may only look."""
        first = ["name", "url", "state", *(["off_because"] if obj and obj.off_because else [])]
        may_write = obj is None or self.has_change_permission(request, obj)
        told = ["kinds" if may_write else "named_kinds", "group"]
        return [(None, {"fields": first}), (self.fieldsets[1][0], {"fields": told})]

    @admin.display(description=_("Kinds of events"))
    def named_kinds(self, webhook: Webhook) -> str:
        return joined(Kind(kind).label for kind in webhook.kinds) or gettext("all")

    @admin.display(description=_("Kinds"))
    def tells_of(self, webhook: Webhook) -> str:
        if not webhook.kinds:
            return gettext("all")
        count = len(webhook.kinds)
        return ngettext("%(n)d kind", "%(n)d kinds", count) % {"n": count}

    @admin.display(description=_("State"), ordering="state")
    def shown_state(self, webhook: Webhook) -> SafeString:
        state = WebhookState(webhook.state)
        if webhook.off_because:
            return badge(Tone.BAD, gettext("off: %(why)s") % {"why": webhook.off_because})
        return badge(TONES[state], STATES[state])

    @admin.display(description=_("Waiting"))
    def waiting(self, webhook: Webhook) -> SafeString:
        count = webhook.deliveries.waiting().count()
        return format_html('<a href="{}">{}</a>', _deliveries_of(webhook, "waiting"), count)

    def save_model(self, request: HttpRequest, obj: Any, form: forms.Form, change: bool) -> None:
        """Save; a new webhook is given a secret, which the next page shows."""
        if not change:
            vars(request)["new_secret"] = obj.new_secret()
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> Any:
        """Show the secret of a new webhook, this once."""
        return self._show_secret(request, obj, vars(request)["new_secret"])

    def _show_secret(self, request: HttpRequest, webhook: Webhook, secret: str) -> HttpResponse:
        return self.page(
            request,
            "admin/devices/webhook_secret_page.html",
            original=webhook,
            title=gettext("Signing secret"),
            secret=secret,
        )

    @own_page("<int:object_id>/new-secret/", needs="change")
    @recently_authenticated
    def new_secret(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Make a signing secret, unless another was made since the page was shown."""
        with transaction.atomic():
            rows = Webhook.objects.select_for_update(of=("self",), no_key=True)
            webhook = get_object_or_404(rows, pk=object_id)
            shown = request.POST.get("shown", "")
            if request.method == "POST" and shown == webhook.secrets_version:
                return self._show_secret(request, webhook, webhook.new_secret())
        texts = [
            gettext(
                "Messages are signed with the new secret and, for a day, with the one before as "
                "well. Put the new one in place at the receiver within that day."
            )
        ]
        if webhook.former_until is not None and webhook.former_until > timezone.now():
            texts.append(
                gettext(
                    "A new secret was made within the last day already: if you make another, the "
                    "one before it ends at once."
                )
            )
        return self.form_page(
            request,
            forms.Form(),
            webhook,
            title=gettext("New signing secret"),
            text=" ".join(texts),
            own_hidden=[("shown", webhook.secrets_version)],
            has_moved=request.method == "POST",
            button=gettext("Make a new secret"),
        )

    @own_page("<int:object_id>/test/", needs="change")
    def test(self, request: HttpRequest, object_id: int) -> HttpResponse:
        webhook = get_object_or_404(Webhook, pk=object_id)
        if request.method == "POST":
            self.send_test(request, Webhook.objects.filter(pk=webhook.pk))
            return HttpResponseRedirect(_deliveries_of(webhook))
        return self.form_page(
            request,
            forms.Form(),
            webhook,
            title=gettext("Send a test event"),
            text=gettext("%(url)s is sent an event of the kind webhook.tested.")
            % {"url": webhook.url},
            button=gettext("Send it"),
        )

    @admin.action(description=_("Send selected webhooks a test event"), permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        for webhook in queryset:
            try:
                webhook.test()
            except ValidationError as error:
                messages.error(request, " ".join(error.messages))
            else:
                text = gettext(
                    "The test of “%(name)s” is on its way. Load the list of deliveries again to "
                    "see what became of it."
                ) % {"name": webhook.name}
                messages.success(request, text)


def _deliveries_of(webhook: Webhook, state: str = "") -> str:
    url = f"{reverse('admin:devices_delivery_changelist')}?webhook__id__exact={webhook.pk}"
    return f"{url}&state__exact={state}" if state else url


def _about(event: Event) -> str:
    """Return what the row is called that an event is about."""
    data = event.data
    belongs = ((data.get(owner), name) for owner, name in NAMED_WITH.items())
    names = [
        *(owner.get(name) for owner, name in belongs if isinstance(owner, dict)),
        *(data.get(name) for name in NAMED_BY),
    ]
    return str(next(filter(None, names), NOTHING))


def _preformatted(text: str) -> SafeString:
    return format_html('<pre tabindex="0">{}</pre>', text)


def _as_text(data: Any) -> SafeString:
    text = json.dumps(data, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2)
    return _preformatted(visible(text))


@admin.register(Delivery)
class DeliveryAdmin(OwnPagesMixin, ReadOnlyMixin):
    purpose = _(
        "A delivery is what a webhook was sent, and what was answered. The list fills once a "
        "webhook is told of something."
    )
    list_display = [
        "event_kind",
        "about",
        "webhook",
        "shown_state",
        "code",
        "attempts",
        TRIED,
        "next",
    ]
    list_select_related = ["webhook", "event"]
    list_filter = ["state", ("webhook", admin.RelatedOnlyFieldListFilter)]
    fieldsets = [
        (None, {"fields": ["webhook", "event_link", "shown_state", "attempts", TRIED, "next"]}),
        (_("The last answer"), {"fields": ["code", "problem", "duration", "answer_text"]}),
        (_("What is sent"), {"fields": ["message"]}),
    ]
    actions = ["resend"]

    def get_fieldsets(self, request: HttpRequest, obj: Delivery | None = None) -> Any:
        first, answer, *others = super().get_fieldsets(request, obj)
        answered = obj is not None and (obj.code or obj.problem or obj.answer)
        return [first, *([answer] if answered else []), *others]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        context["may_resend"] = self.has_resend_permission(request)
        return super().render_change_form(request, context, *args, **kw)

    @own_page("<int:object_id>/resend/", "resend", needs="resend")
    def resend_one(self, request: HttpRequest, object_id: int) -> HttpResponse:
        if request.method == "POST":
            self.resend(request, Delivery.objects.filter(pk=object_id))
        return HttpResponseRedirect(reverse("admin:devices_delivery_change", args=[object_id]))

    @admin.display(description=_("Event"), ordering="event")
    def event_kind(self, delivery: Delivery) -> str:
        return delivery.event.get_kind_display()

    @admin.display(description=_("About"))
    def about(self, delivery: Delivery) -> str:
        return _about(delivery.event)

    @admin.display(description=_("Event"))
    def event_link(self, delivery: Delivery) -> SafeString | str:
        url = reverse("admin:devices_event_change", args=[delivery.event_id])
        return format_html('<a href="{}">{}</a>', url, delivery.event)

    @admin.display(description=_("State"), ordering="state")
    def shown_state(self, delivery: Delivery) -> SafeString:
        state = DeliveryState(delivery.state)
        return badge(TONES[state], state.label)

    @admin.display(description=_("Next attempt"), ordering="due_at")
    def next(self, delivery: Delivery) -> SafeString | str:
        return moment(delivery.due_at) if delivery.state == DeliveryState.WAITING else NOTHING

    @admin.display(description=_("Text of the answer"))
    def answer_text(self, delivery: Delivery) -> SafeString | str:
        return _preformatted(delivery.answer) if delivery.answer else NOTHING

    @admin.display(description=_("Message"))
    def message(self, delivery: Delivery) -> SafeString:
        return _as_text(delivery.event.document())

    def has_resend_permission(self, request: HttpRequest) -> bool:
        may_resend = request.user.has_perm("devices.resend_delivery")
        return may_resend and self.has_view_permission(request)

    @admin.action(description=_("Send selected deliveries again"), permissions=["resend"])
    def resend(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """Have them sent again, under the ids that they had."""
        count = Delivery.objects.filter(pk__in=queryset.values("pk")).resend()
        text = ngettext("%(n)d event is sent again.", "%(n)d events are sent again.", count)
        say_done(request, text % {"n": count}, count)


@admin.register(Event)
class EventAdmin(ReadOnlyMixin):
    list_display = [HAPPENED, "kind", "about", "position"]
    list_display_links = [HAPPENED]
    list_filter = ["kind"]
    actions = None
    fieldsets = [(None, {"fields": [HAPPENED, "kind", "position", "document"]})]

    @admin.display(description=_("About"))
    def about(self, event: Event) -> str:
        return _about(event)

    @admin.display(description=_("Event"))
    def document(self, event: Event) -> SafeString:
        return _as_text(event.document())
