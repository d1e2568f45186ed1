"""The pages beside the list of rules: the tester, the report, and what fields suggest."""

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse_lazy
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from acl import assertions, what_if
from acl.admin.filters import GROUP, entity_of, received_by, sent_by
from acl.lint import Fault, lint, suspects
from acl.models import Assertion, CommandPermission, CommandSetPattern
from devices.addresses import AddressError, entity_id
from devices.admin.changelist import count_text, counts
from devices.admin.try_credential import MAX_SUGGESTED, SuggestingInput
from devices.extension_points import Panel
from devices.models import Device, DeviceGroup

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

MAX_EXAMINED = 2_000  # rules on the report page; the command examines all
MAX_FINDINGS = 200
MAX_IN_PANEL = 20
DEVICES = reverse_lazy("admin:devices_device_suggestions")


class QuestionForm(forms.Form):
    """A command that somebody might send."""

    source = forms.CharField(
        label=gettext_lazy("From"),
        max_length=1000,
        widget=SuggestingInput(DEVICES),
        help_text=gettext_lazy("The sender's ID; an address names its ID."),
    )
    destination = forms.CharField(
        label=gettext_lazy("To"),
        max_length=1000,
        widget=SuggestingInput(DEVICES),
        help_text=gettext_lazy("The receiver's ID; an address names its ID."),
    )
    command = forms.CharField(
        label=gettext_lazy("Command"),
        max_length=1000,
        widget=SuggestingInput(reverse_lazy("admin:acl_commandpermission_commands")),
        help_text=gettext_lazy("Such as /v1/Config.Get."),
    )

    def clean_source(self) -> str:
        """Reduce an address to its ID."""
        return self._reduced("source")

    def clean_destination(self) -> str:
        """Reduce an address to its ID."""
        return self._reduced("destination")

    def _reduced(self, name: str) -> str:
        try:
            return entity_id(self.cleaned_data[name])
        except AddressError as error:
            raise forms.ValidationError(str(error)) from None


def urls_of(model_admin: "ModelAdmin[Any]") -> list[URLPattern]:
    """Return the addresses of the pages."""
    return [
        path(
            f"{name}/",
            model_admin.admin_site.admin_view(partial(view, model_admin)),
            name=f"acl_commandpermission_{name}",
        )
        for name, view in (("explain", tester), ("report", report), ("commands", commands))
    ]


def tester(model_admin: "ModelAdmin[Any]", request: HttpRequest) -> HttpResponse:
    """Explain one decision; the question is in the address, so that it can be sent on."""
    _require_view(model_admin, request)
    asked = set(request.GET) & set(QuestionForm.base_fields)
    is_whole = asked == set(QuestionForm.base_fields)
    form = QuestionForm(request.GET if is_whole else None, initial=request.GET.dict())
    explanation = None
    if form.is_valid():
        explanation = CommandPermission.objects.explain_decision(**form.cleaned_data)
    return _page(
        model_admin,
        request,
        "admin/acl/explain.html",
        title=_("Who may command whom"),
        form=form,
        media=form.media,
        explanation=explanation,
    )


def report(model_admin: "ModelAdmin[Any]", request: HttpRequest) -> HttpResponse:
    """List rules that decide nothing or open everything, and expectations that do not hold."""
    _require_view(model_admin, request)
    now = timezone.now()
    fault = Fault(request.GET["fault"]) if request.GET.get("fault") in Fault.values else None
    rules = suspects(fault, now=now)
    found = lint(rules, now=now, most=MAX_EXAMINED)
    matching = (one for one in found if fault in {None, one.fault})
    findings = list(islice(matching, MAX_FINDINGS + 1))
    return _page(
        model_admin,
        request,
        "admin/acl/report.html",
        title=_("Report on the rules"),
        findings=findings[:MAX_FINDINGS],
        is_cut=len(findings) > MAX_FINDINGS,
        is_partial=rules.order_by("pk").values("pk")[MAX_EXAMINED : MAX_EXAMINED + 1].exists(),
        examined=MAX_EXAMINED,
        faults=Fault,
        chosen=fault,
        may_change=model_admin.has_change_permission(request),
        may_delete=model_admin.has_delete_permission(request),
        broken=assertions.check(assertions.saved()),
        expectations=Assertion.objects.count(),
    )


def commands(model_admin: "ModelAdmin[Any]", request: HttpRequest) -> HttpResponse:
    """Return the known commands with a beginning, for a combobox."""
    _require_view(model_admin, request)
    sought = request.GET.get("q", "").strip()
    return JsonResponse({"found": _commands(sought) if sought and "\x00" not in sought else []})


def _commands(sought: str) -> list[str]:
    known = {request.command for request in what_if.known_requests()}
    known.update(name for source in what_if.COMMANDS for name in source())
    for rows in (CommandPermission.objects.order_by(), CommandSetPattern.objects.order_by()):
        named = rows.filter(pattern__startswith=sought).exclude(pattern__endswith="*")
        names = named.values_list("pattern", flat=True).distinct().order_by("pattern")
        known.update(names[:MAX_SUGGESTED])
    return sorted(name for name in known if name.startswith(sought))[:MAX_SUGGESTED]


def rules_panel(request: HttpRequest, device: Device) -> Panel | None:
    """Return the section of a device's page that lists the rules about it."""
    if not request.user.has_perm("acl.view_commandpermission"):
        return None
    entity = entity_of(device)
    return Panel(
        _("Rules about this device"),
        "admin/acl/rules_panel.html",
        {"directions": _directions(device.pk, sent_by(entity), received_by(entity))},
    )


def group_rules_panel(request: HttpRequest, group: DeviceGroup) -> Panel | None:
    """Return the section of a group's page that lists the rules that name it."""
    if not request.user.has_perm("acl.view_commandpermission"):
        return None
    sent, received = Q(source_key=-group.pk), Q(destination_group=group)
    return Panel(
        _("Rules that name this group"),
        "admin/acl/rules_panel.html",
        {"directions": _directions(f"{GROUP}{group.pk}", [sent], [received])},
    )


def _directions(subject: object, sent: list[Q], received: list[Q]) -> list[dict[str, Any]]:
    return [
        _direction(_("As sender"), f"sender={subject}", sent),
        _direction(_("As receiver"), f"receiver={subject}", received),
    ]


def _direction(heading: str, query: str, conditions: list[Q]) -> dict[str, Any]:
    """Return the first rules that fulfil the conditions, in their order: a statement for each."""
    rules: list[CommandPermission] = []
    for condition in conditions:
        missing = MAX_IN_PANEL - len(rules)
        if missing:
            found = CommandPermission.objects.named().filter(condition).order_by("pk")
            rules += found[:missing]
    # No rule fulfils two of them; one condition of them all would be no index's.
    total = sum(counts(CommandPermission.objects.filter(condition) for condition in conditions))
    return {
        "heading": heading,
        "query": query,
        "rules": rules,
        "total": count_text(total),
        "is_cut": total > len(rules),
    }


def _require_view(model_admin: "ModelAdmin[Any]", request: HttpRequest) -> None:
    if not model_admin.has_view_permission(request):
        raise PermissionDenied


def _page(
    model_admin: "ModelAdmin[Any]", request: HttpRequest, template: str, **context: Any
) -> HttpResponse:
    base = model_admin.admin_site.each_context(request)
    return TemplateResponse(request, template, {**base, "opts": model_admin.opts, **context})
