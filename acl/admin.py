"""Staff's view of rules, command sets and expectations, and the pages that explain them."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from acl import assertions, trials
from acl.lint import lint
from acl.models import Assertion, CommandPermission, CommandSet, CommandSetPattern
from acl.models.permissions import IDENTITY, DestinationKind, SourceKind
from devices.addresses import AddressError, entity_id
from devices.admin_history import HistoryPages

MOST_FINDINGS = 200  # on the report page; the command lists all
MOST_FLIPS = 100


class PermissionForm(forms.ModelForm):
    """A rule; one that breaks an expectation is saved only once that is confirmed.

    With `_try` among what was sent, nothing is saved: `trial` holds the answers that would turn.
    """

    confirm_broken = forms.BooleanField(
        label=gettext_lazy("Save it all the same: these expectations may be broken"),
        required=False,
        widget=forms.HiddenInput,
    )

    class Meta:
        model = CommandPermission
        fields = [
            "effect",
            "source_kind",
            "source_device",
            "source_group",
            "destination_kind",
            "destination_device",
            "destination_group",
            "pattern",
            "command_set",
            "enabled",
            "valid_from",
            "valid_until",
            "note",
        ]

    trial: list[trials.Flip] | None = None
    tried = 0
    broken: list[assertions.Broken] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, kinds in (("source_kind", SourceKind), ("destination_kind", DestinationKind)):
            if name in self.fields:  # not where a rule is only looked at
                self.fields[name].choices = kinds.choices  # type: ignore[attr-defined]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        change = trials.saving(self.instance)
        self.broken = assertions.broken_by(change)
        if "_try" in self.data:
            requests = assertions.saved_requests()
            self.tried = len(requests)
            self.trial = trials.flips(change, requests)
            self.add_error(None, _("Nothing is saved yet."))
        elif self.broken and not self.cleaned_data.get("confirm_broken"):
            self.fields["confirm_broken"].widget = forms.CheckboxInput()
            self.add_error(
                "confirm_broken",
                [_("This breaks an expectation: %s") % one for one in self.broken],
            )


class StateFilter(admin.SimpleListFilter):
    """Rules by whether they take part in decisions now."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [
            ("force", _("In force")),
            ("off", _("Switched off")),
            ("later", _("Not valid yet")),
            ("expired", _("Expired")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rules of the choice."""
        now = timezone.now()
        chosen = {
            "off": Q(enabled=False),
            "later": Q(enabled=True, valid_from__gt=now),
            "expired": Q(enabled=True, valid_until__lte=now),
        }
        if self.value() == "force":
            return queryset.filter(pk__in=CommandPermission.objects.in_force_at(now).values("pk"))
        return queryset.filter(chosen.get(str(self.value()), Q()))


class ExplainForm(forms.Form):
    """A command that somebody might send."""

    source = forms.CharField(
        label=gettext_lazy("From"),
        max_length=1000,
        widget=AdminTextInputWidget,
        help_text=gettext_lazy("The sender's ID; an address names its ID."),
    )
    destination = forms.CharField(
        label=gettext_lazy("To"),
        max_length=1000,
        widget=AdminTextInputWidget,
        help_text=gettext_lazy("The receiver's ID; an address names its ID."),
    )
    command = forms.CharField(
        label=gettext_lazy("Command"),
        max_length=1000,
        widget=AdminTextInputWidget,
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


class ExpectationsMixin:
    """An admin whose every change may break an expectation, and says so at once."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save what hangs on the row, then check."""
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        self.warn_of_broken(request)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete, then check."""
        super().delete_model(request, obj)  # type: ignore[misc]
        self.warn_of_broken(request)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete, then check."""
        super().delete_queryset(request, queryset)  # type: ignore[misc]
        self.warn_of_broken(request)

    def warn_of_broken(self, request: HttpRequest) -> None:
        """Name the expectations that do not hold."""
        for broken in assertions.check(assertions.saved()):
            messages.warning(request, _("An expectation does not hold: %s") % broken)


@admin.register(CommandPermission)
class CommandPermissionAdmin(HistoryPages, ExpectationsMixin, admin.ModelAdmin):
    """The rules, with pages that explain a decision and report useless rules."""

    form = PermissionForm

    class Media:
        js = ["acl/rule_form.js"]

    list_display = [
        "rule",
        "effect",
        "command",
        "from_text",
        "to_text",
        "enabled",
        "valid_until",
        "note",
    ]
    list_display_links = ["rule"]
    list_filter = ["effect", StateFilter, "source_kind", "destination_kind", "command_set"]
    list_select_related = [
        "source_device",
        "source_group",
        "destination_device",
        "destination_group",
        "command_set",
    ]
    list_per_page = 50
    show_full_result_count = False
    search_fields = [
        "pattern",
        "note",
        "source_device__identifier",
        "destination_device__identifier",
        "source_group__name",
        "destination_group__name",
        "command_set__name",
    ]
    search_help_text = gettext_lazy("Search by device, group, command, command set or note.")
    autocomplete_fields = [
        "source_device",
        "source_group",
        "destination_device",
        "destination_group",
        "command_set",
    ]
    radio_fields = {
        "effect": admin.VERTICAL,
        "source_kind": admin.VERTICAL,
        "destination_kind": admin.VERTICAL,
    }
    readonly_fields = ["created", "updated"]
    save_as = True
    actions = ["enable", "disable"]
    restores = (
        *(name.removesuffix("_id") for name in IDENTITY),
        "enabled",
        "valid_from",
        "valid_until",
        "note",
    )
    fieldsets = [
        (None, {"fields": ["confirm_broken", "effect"]}),
        (
            gettext_lazy("From whom"),
            {"fields": ["source_kind", "source_device", "source_group"]},
        ),
        (
            gettext_lazy("To whom"),
            {"fields": ["destination_kind", "destination_device", "destination_group"]},
        ),
        (
            gettext_lazy("Which commands"),
            {"fields": ["pattern", "command_set"]},
        ),
        (
            gettext_lazy("When and why"),
            {
                "fields": ["enabled", "valid_from", "valid_until", "note"],
                "description": gettext_lazy(
                    "Any rule that denies wins over every rule that allows; where no rule allows, "
                    "the answer is no."
                ),
            },
        ),
        (gettext_lazy("Evidence"), {"fields": ["created", "updated"], "classes": ["collapse"]}),
    ]

    @admin.display(description=gettext_lazy("Rule"), ordering="pk")
    def rule(self, permission: CommandPermission) -> str:
        """Return the number that explanations name the rule by."""
        return f"#{permission.pk}"

    @admin.display(description=gettext_lazy("From"), ordering="source_key")
    def from_text(self, permission: CommandPermission) -> str:
        """Return the sender in words."""
        return permission.source_text

    @admin.display(description=gettext_lazy("To"), ordering="destination_key")
    def to_text(self, permission: CommandPermission) -> str:
        """Return the receiver in words."""
        return permission.destination_text

    @admin.display(description=gettext_lazy("Command"), ordering="command_key")
    def command(self, permission: CommandPermission) -> str:
        """Return the pattern or the command set."""
        return permission.command_text

    @admin.action(description=gettext_lazy("Switch selected rules on"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[CommandPermission]) -> None:
        """Let the selected rules decide again."""
        self._set_enabled(request, queryset, enabled=True)

    @admin.action(description=gettext_lazy("Switch selected rules off"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[CommandPermission]) -> None:
        """Let the selected rules decide nothing; nothing is lost."""
        self._set_enabled(request, queryset, enabled=False)

    def _set_enabled(
        self, request: HttpRequest, queryset: QuerySet[CommandPermission], *, enabled: bool
    ) -> None:
        changed = 0
        for permission in queryset.filter(enabled=not enabled):
            permission.enabled = enabled
            permission.save(update_fields=["enabled", "updated"])
            self.log_change(request, permission, [{"changed": {"fields": ["enabled"]}}])
            changed += 1
        text = (
            ngettext("%(n)d rule switched on.", "%(n)d rules switched on.", changed)
            if enabled
            else ngettext("%(n)d rule switched off.", "%(n)d rules switched off.", changed)
        )
        self.message_user(request, text % {"n": changed}, messages.SUCCESS)
        self.warn_of_broken(request)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show a trial's outcome in place of the note about errors."""
        form = context["adminform"].form
        if getattr(form, "trial", None) is not None:
            context |= {
                "errors": None,
                "trial": form.trial[:MOST_FLIPS],
                "trial_total": len(form.trial),
                "trial_tried": form.tried,
                "trial_broken": form.broken,
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: CommandPermission, form: Any, change: bool
    ) -> None:
        """Save, and warn of a rule that can decide nothing or opens everything."""
        super().save_model(request, obj, form, change)
        for finding in lint(CommandPermission.objects.filter(pk=obj.pk), now=timezone.now()):
            because = f" (#{finding.other.pk} {finding.other})" if finding.other else ""
            self.message_user(
                request,
                _("This rule %(fault)s%(because)s.")
                % {"fault": finding.fault.label, "because": because},
                messages.WARNING,
            )

    def get_urls(self) -> list[URLPattern]:
        """Add the pages beside the list."""
        return [
            path(
                "explain/",
                self.admin_site.admin_view(self.explain_page),
                name="acl_commandpermission_explain",
            ),
            path(
                "report/",
                self.admin_site.admin_view(self.report_page),
                name="acl_commandpermission_report",
            ),
            *super().get_urls(),
        ]

    def explain_page(self, request: HttpRequest) -> HttpResponse:
        """Explain one decision; the question is in the address, so that it can be sent on."""
        self._require_view(request)
        form = ExplainForm(request.GET or None)
        explanation = None
        if form.is_valid():
            explanation = CommandPermission.objects.explain_decision(**form.cleaned_data)
        return self._page(
            request,
            "admin/acl/explain.html",
            title=_("Explain a decision"),
            form=form,
            explanation=explanation,
        )

    def report_page(self, request: HttpRequest) -> HttpResponse:
        """List rules that decide nothing or open everything, and expectations that do not hold."""
        self._require_view(request)
        found = lint(CommandPermission.objects.all(), now=timezone.now())
        findings = [finding for finding, _n in zip(found, range(MOST_FINDINGS), strict=False)]
        return self._page(
            request,
            "admin/acl/report.html",
            title=_("Report on the rules"),
            findings=findings,
            is_cut=len(findings) == MOST_FINDINGS,
            broken=assertions.check(assertions.saved()),
            expectations=Assertion.objects.count(),
        )

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _page(self, request: HttpRequest, template: str, **context: Any) -> HttpResponse:
        base = self.admin_site.each_context(request)
        return TemplateResponse(request, template, {**base, "opts": self.opts, **context})


class PatternInline(admin.TabularInline):
    """The commands of a set."""

    model = CommandSetPattern
    extra = 1


@admin.register(CommandSet)
class CommandSetAdmin(HistoryPages, ExpectationsMixin, admin.ModelAdmin):
    """Named sets of commands, with how many rules refer to each."""

    list_display = ["name", "pattern_count", "rule_count", "description"]
    list_filter = [("permissions__effect", admin.ChoicesFieldListFilter)]
    search_fields = ["name", "description", "patterns__pattern"]
    search_help_text = gettext_lazy("Search by name, description or command.")
    fieldsets = [(None, {"fields": ["name", "description"]})]
    restores = ("name", "description")
    inlines = [PatternInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[CommandSet]:
        """Count patterns and rules in the same statement."""
        return (
            super()
            .get_queryset(request)
            .annotate(
                pattern_total=Count("patterns", distinct=True),
                rule_total=Count("permissions", distinct=True),
            )
        )

    @admin.display(description=gettext_lazy("Commands"), ordering="pattern_total")
    def pattern_count(self, command_set: CommandSet) -> int:
        """Return how many patterns the set has."""
        total: int = getattr(command_set, "pattern_total", 0)
        return total

    @admin.display(description=gettext_lazy("Rules"), ordering="rule_total")
    def rule_count(self, command_set: CommandSet) -> int:
        """Return how many rules refer to the set."""
        total: int = getattr(command_set, "rule_total", 0)
        return total


@admin.register(Assertion)
class AssertionAdmin(HistoryPages, admin.ModelAdmin):
    """What staff expect of the rules."""

    list_display = ["text", "note"]
    search_fields = ["text", "note"]
    search_help_text = gettext_lazy("Search by device, group, command or note.")
    fieldsets = [(None, {"fields": ["text", "note"]})]
    restores = ("text", "note")

    def save_model(self, request: HttpRequest, obj: Assertion, form: Any, change: bool) -> None:
        """Save, and say at once where it does not hold."""
        super().save_model(request, obj, form, change)
        for broken in assertions.check([obj.text]):
            self.message_user(request, _("It does not hold: %s") % broken.why, messages.WARNING)
