"""The pages beside the list of rules: why a command may pass, and what is wrong with rules."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse, reverse_lazy
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from acl.analysis import assertions, lint, what_if
from acl.engine.decisions import Reason
from acl.engine.explanations import Explanation, explain
from acl.extension_points import COMMAND_SOURCES
from acl.models import Assertion, CommandPermission, CommandSetPattern
from acl.models.command_permission import DestinationKind, Effect, SourceKind
from devices.admin.base.forms import focus_first_empty
from devices.admin.base.pages import OwnPagesMixin, may_view, own_page
from devices.admin.credentials.try_credential import MAX_SUGGESTED, SuggestingInput
from devices.models import Device
from devices.values.addresses import AddressError
from devices.values.moments import parse_moment

DEVICES = reverse_lazy("admin:devices_device_suggestions")
JOURNAL = "rpc.view_callrecord"  # of the requests that were made of late


class AddressField(forms.CharField):
    """The address of a device, or its ID; it is reduced to the ID."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=1000, widget=SuggestingInput(DEVICES), **kwargs)

    def clean(self, value: Any) -> str:
        try:
            return Device.objects.id_of(super().clean(value))
        except AddressError as error:
            raise forms.ValidationError(str(error)) from None


class MomentInput(forms.DateTimeInput):
    """One field for a date and a time; it says that it is UTC where no script changes that."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M")  # as browsers write it

    def render(self, *args: Any, **kwargs: Any) -> SafeString:
        return format_html("{} <span data-utc>UTC</span>", super().render(*args, **kwargs))


class MomentOfAddressField(forms.CharField):
    """A moment in the address of a page, in UTC unless it has an offset."""

    widget = MomentInput

    def to_python(self, value: Any) -> Any:
        """Return the moment, or None where there is none; a date alone means its midnight."""
        text = super().to_python(value)
        moment = self._read(text)
        if text and moment is None:
            raise forms.ValidationError(_("Write a moment such as 2027-01-31T12:00:00Z."))
        return moment

    def prepare_value(self, value: Any) -> Any:
        """Return what is in the field; what was typed and is no moment stays."""
        return (self._read(value) or value) if isinstance(value, str) else value

    @staticmethod
    def _read(text: str | None) -> datetime | None:
        return parse_moment(text.strip().replace(" ", "+"), zone=UTC) if text else None


class QuestionForm(forms.Form):
    source = AddressField(
        label=gettext_lazy("Sender"),
        help_text=gettext_lazy("The sender's ID, or an address with it."),
    )
    destination = AddressField(
        label=gettext_lazy("Receiver"),
        help_text=gettext_lazy("The receiver's ID, or an address with it."),
    )
    command = forms.CharField(
        label=gettext_lazy("Command"),
        max_length=1000,
        widget=SuggestingInput(reverse_lazy("admin:acl_commandpermission_commands")),
        help_text=gettext_lazy("Such as /v1/Config.Get."),
    )
    at = MomentOfAddressField(
        label=gettext_lazy("At"),
        required=False,
        help_text=gettext_lazy(
            "Empty: now. Another moment is answered by the rules and devices as they are now."
        ),
    )


class RulePagesMixin(OwnPagesMixin):
    """Adds these pages to the admin of rules."""

    @own_page("explain/", needs="view")
    def explain(self, request: HttpRequest) -> HttpResponse:
        """Explain one decision; the question is in the address, so that it can be sent on."""
        needed = {name for name, field in QuestionForm.base_fields.items() if field.required}
        is_whole = needed <= set(request.GET)
        form = QuestionForm(request.GET if is_whole else None, initial=request.GET.dict())
        focus_first_empty(form)
        explanation = None
        if form.is_valid():
            question = dict(form.cleaned_data)
            explanation = explain(now=question.pop("at"), **question)
        step = _next_step(request, explanation) if explanation is not None else None
        return self.page(
            request,
            "admin/acl/explain.html",
            title=_("Who may command whom"),
            form=form,
            media=form.media,
            explanation=explanation,
            step=step,
        )

    @own_page("report/", needs="view")
    def report(self, request: HttpRequest) -> HttpResponse:
        """List rules that decide nothing or open everything, and assertions that do not hold."""
        chosen = request.GET.get("fault")
        fault = lint.Fault(chosen) if chosen in lint.Fault.values else None
        may_see = may_view(request, Assertion)
        saved = assertions.saved() if may_see else []
        return self.page(
            request,
            "admin/acl/report.html",
            title=_("Report on the rules"),
            **lint.report(fault)._asdict(),
            examined=lint.MAX_EXAMINED,
            faults=lint.Fault,
            chosen=fault,
            may_change=self.has_change_permission(request),
            may_delete=self.has_delete_permission(request),
            rules=CommandPermission.objects.enabled().exists(),
            broken=assertions.check(saved),
            broken_later=assertions.check_later(saved),
            may_see_assertions=may_see,
            assertions=len(saved),
        )

    @own_page("commands/", needs="view")
    def commands(self, request: HttpRequest) -> HttpResponse:
        """Return the known commands with a beginning, for a combobox."""
        sought = request.GET.get("q", "").strip()
        found = _commands(request, sought) if sought and "\x00" not in sought else []
        return JsonResponse({"found": found})


def _next_step(request: HttpRequest, explanation: Explanation) -> tuple[Any, str] | None:
    """Return what would let a refused command through, and where that is done."""
    asked, reason = explanation.request, explanation.decision.reason
    may = request.user.has_perm
    if reason is Reason.DENIED and explanation.decider and may("acl.change_commandpermission"):
        address = reverse("admin:acl_commandpermission_change", args=[explanation.decider.pk])
        return _("Change the rule that denies it"), address
    at_source = reason in {Reason.UNKNOWN_SOURCE, Reason.DISABLED_SOURCE}
    end = asked.source if at_source else asked.destination
    is_unknown = reason in {Reason.UNKNOWN_SOURCE, Reason.UNKNOWN_DESTINATION}
    if is_unknown and may("devices.add_device"):
        address = f"{reverse('admin:devices_device_add')}?{urlencode({'identifier': end})}"
        return _("Register it"), address
    ends = dict(
        Device.objects.filter(identifier__in=[asked.source, asked.destination]).values_list(
            "identifier", "pk"
        )
    )
    is_disabled = reason in {Reason.DISABLED_SOURCE, Reason.DISABLED_DESTINATION}
    if is_disabled and end in ends and may("devices.change_device"):
        return _("Enable it"), reverse("admin:devices_device_enable", args=[ends[end]])
    if reason is not Reason.NO_RULE:
        return None
    if (idle := explanation.out_of_force) and may("acl.change_commandpermission"):
        address = reverse("admin:acl_commandpermission_change", args=[idle.pk])
        return _("Change the rule that would allow it"), address
    if not may("acl.add_commandpermission"):
        return None
    filled: dict[str, Any] = {
        "effect": Effect.ALLOW,
        "source_kind": SourceKind.DEVICE,
        "source_device": ends[asked.source],
        "destination_kind": DestinationKind.DEVICE,
        "destination_device": ends[asked.destination],
        "pattern": asked.command,
    }
    address = f"{reverse('admin:acl_commandpermission_add')}?{urlencode(filled)}"
    return _("Write the rule that allows it"), address


def _commands(request: HttpRequest, sought: str) -> list[str]:
    known = {name for source in COMMAND_SOURCES for name in source()}
    if request.user.has_perm(JOURNAL):
        known |= {one.command for one in what_if.made_requests()}
    if may_view(request, Assertion):
        known |= {one.command for one in assertions.saved_requests()}
    for model in filter(partial(may_view, request), (CommandPermission, CommandSetPattern)):
        rows: Any = model._default_manager.order_by()
        named = rows.filter(pattern__startswith=sought).exclude(pattern__endswith="*")
        names = named.values_list("pattern", flat=True).distinct().order_by("pattern")
        known.update(names[:MAX_SUGGESTED])
    return sorted(name for name in known if name.startswith(sought))[:MAX_SUGGESTED]
