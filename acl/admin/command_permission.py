"""Staff's view of rules."""

import re
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.forms import Script
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy, ngettext_lazy

from acl.admin import sentences
from acl.admin.filters import (
    CommandSetFilter,
    EffectFilter,
    ReceiverFilter,
    ReceiverKindFilter,
    SenderFilter,
    SenderKindFilter,
    StateFilter,
)
from acl.admin.pages import RulePagesMixin
from acl.analysis.lint import lint_saved
from acl.models import CommandPermission, CommandSet
from acl.models.command_permission import NAMED, DestinationKind, SourceKind, state_order
from acl.patterns import wider
from devices.admin.base.actions import BulkActionsMixin, Switch
from devices.admin.base.changelist import BoundedChangeList
from devices.admin.base.forms import CurrentForm
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.lists import SavedFiltersMixin
from devices.admin.base.mixins import ChangeGuardMixin
from devices.admin.base.pages import is_key
from devices.admin.base.rendering import CREATED, UPDATED, badge, moment_column
from devices.models import Device, DeviceGroup

# Between quotation marks of either sort, or without a space.
WORD = re.compile(r"""(?<!\S)(?:"([^"]+)"|'([^']+)')(?!\S)|(\S+)""")
MAX_NAMED = 1000  # devices, groups, sets and notes that one word of a search may find


def words_of(text: str) -> list[str]:
    """Return the words of a search; what is in quotation marks is one."""
    return ["".join(found) for found in WORD.findall(text)]


class PermissionForm(CurrentForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, kinds in (("source_kind", SourceKind), ("destination_kind", DestinationKind)):
            if name in self.fields:  # not where a rule is only looked at
                self.fields[name].choices = kinds.choices  # type: ignore[attr-defined]


class SwitchOn(Switch):
    name = "enable"
    description = gettext_lazy("Switch selected rules on")
    title = gettext_lazy("Switch rules on")
    text = gettext_lazy("These rules will decide again.")
    button = gettext_lazy("Switch on")
    done = ngettext_lazy("%(n)d rule switched on.", "%(n)d rules switched on.", "n")


class SwitchOff(SwitchOn):
    name = "disable"
    description = gettext_lazy("Switch selected rules off")
    title = gettext_lazy("Switch rules off")
    text = gettext_lazy(
        "These rules will decide nothing any more. Nothing is lost: they can be switched on again."
    )
    button = gettext_lazy("Switch off")
    done = ngettext_lazy("%(n)d rule switched off.", "%(n)d rules switched off.", "n")
    is_destructive = True
    enables = False


@admin.register(CommandPermission)
class CommandPermissionAdmin(
    ChangeGuardMixin, SavedFiltersMixin, BulkActionsMixin, RulePagesMixin, RecordedAdmin
):
    form = PermissionForm

    class Media:
        js = [Script("acl/rule_form.js", defer=True)]
        css = {"all": ["acl/rules.css"]}

    list_display: list[Any] = [
        "number",
        "shown_effect",
        "says",
        "state",
        moment_column("valid_until", gettext_lazy("valid until")),
        "note",
    ]
    list_display_links = ["number"]
    list_filter = [
        EffectFilter,
        StateFilter,
        SenderKindFilter,
        ReceiverKindFilter,
        CommandSetFilter,
        SenderFilter,
        ReceiverFilter,
    ]
    show_facets = admin.ShowFacets.ALWAYS
    list_select_related = NAMED
    list_per_page = 50
    search_fields = ["pattern"]  # `get_search_results` says in what else
    purpose = gettext_lazy(
        "A rule says who may send which command to whom. Without any, every command is "
        "refused; a rule that denies wins over one that allows."
    )
    search_help_text = gettext_lazy(
        "The beginning of a device or a command, which finds the patterns that cover it, too; part "
        "of a group, a command set or a note; #12 for rule 12. Where nothing is found so, any part "
        "of a device."
    )
    autocomplete_fields = NAMED
    radio_fields = {
        "effect": admin.VERTICAL,
        "source_kind": admin.VERTICAL,
        "destination_kind": admin.VERTICAL,
    }
    readonly_fields: ClassVar[list[Any]] = ["says", "state", CREATED, UPDATED]
    save_as = True
    changes = (SwitchOn(), SwitchOff())
    actions = [change.action() for change in changes]
    add_fieldsets = [
        (None, {"fields": ["effect"]}),
        (gettext_lazy("From whom"), {"fields": ["source_kind", "source_device", "source_group"]}),
        (
            gettext_lazy("To whom"),
            {"fields": ["destination_kind", "destination_device", "destination_group"]},
        ),
        (gettext_lazy("Which commands"), {"fields": ["pattern", "command_set"]}),
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
    ]
    fieldsets = [
        (gettext_lazy("What it says"), {"fields": ["says", "state"]}),
        *add_fieldsets,
        (gettext_lazy("Evidence"), {"fields": list(readonly_fields[2:])}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[CommandPermission]:
        """Annotate each rule with the place of its state in the order of states."""
        return super().get_queryset(request).alias(state_order=state_order(timezone.now()))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:
        return BoundedChangeList

    @admin.display(description=gettext_lazy("Rule"), ordering="pk")
    def number(self, permission: CommandPermission) -> str:
        return f"#{permission.pk}"

    @admin.display(description=gettext_lazy("Effect"), ordering="effect")
    def shown_effect(self, permission: CommandPermission) -> SafeString:
        tone = sentences.EFFECT_TONES[permission.effect]
        return badge(tone, permission.get_effect_display())

    @admin.display(description=gettext_lazy("What it says"), ordering="command_key")
    def says(self, permission: CommandPermission) -> SafeString:
        return sentences.linked(permission)

    @admin.display(description=gettext_lazy("State"), ordering="state_order")
    def state(self, permission: CommandPermission) -> SafeString:
        return sentences.state_badge(permission, timezone.now())

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Keep the rules about each word; what a word names is looked up first, in its own index.

        So the rules are found by keys. One condition on texts of several tables would read them
        all.
        """
        about = vars(request).setdefault("rule_searches", {})  # each filter that counts searches
        if search_term not in about:
            about[search_term] = [
                self._about(request, word) for word in words_of(search_term.replace("\x00", ""))
            ]
        for condition in about[search_term]:
            queryset = queryset.filter(condition)
        return queryset, False

    def _about(self, request: HttpRequest, word: str) -> Q:
        number = word.removeprefix("#")
        if number != word and is_key(number):
            return Q(pk=number)
        begins = Device.objects.filter(identifier__startswith=word)
        devices = self._keys(request, word, begins)
        groups = self._keys(request, word, DeviceGroup.objects.filter(name__icontains=word))
        covering = wider(word) if word.startswith("/") and not word.startswith("//") else ()
        listed = Q(patterns__pattern__startswith=word) | Q(patterns__pattern__in=covering)
        named = Q(name__icontains=word) | listed
        sets = self._keys(request, word, CommandSet.objects.filter(named))
        rules = CommandPermission.objects.order_by()
        noted = self._keys(request, word, rules.filter(~Q(note=""), note__icontains=word))
        found = devices or groups or sets or noted
        if not found and not rules.filter(pattern__startswith=word).exists():
            device_admin = self.admin_site.get_model_admin(Device)
            anywhere = device_admin.get_search_results(request, Device.objects.all(), word)[0]
            devices = self._keys(request, word, anywhere)
        return (
            Q(pattern__startswith=word)
            | Q(pattern__in=covering)
            | Q(source_device__in=devices)
            | Q(destination_device__in=devices)
            | Q(source_group__in=groups)
            | Q(destination_group__in=groups)
            | Q(command_set__in=sets)
            | Q(pk__in=noted)
        )

    def _keys(self, request: HttpRequest, word: str, rows: QuerySet[Any]) -> list[int]:
        keys = list(rows.order_by().values_list("pk", flat=True)[: MAX_NAMED + 1])
        if len(keys) > MAX_NAMED:
            text = _("“%s” names too much; some rules may be missing. Write more of it.")
            messages.warning(request, text % word)
        return keys[:MAX_NAMED]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, and warn of a rule that can decide nothing or opens everything.

        Who may add rules and not see them is not told what another one says.
        """
        super().save_model(request, obj, form, change)
        may_view = self.has_view_permission(request)
        for finding in lint_saved(obj):
            if finding.other is not None and not may_view:
                continue
            messages.warning(
                request,
                format_html(_("This rule {fault}."), fault=finding.fault.label)
                if finding.other is None
                else format_html(
                    _("This rule {fault}: {number} {sentence}."),
                    fault=finding.fault.label,
                    number=sentences.numbered(finding.other),
                    sentence=sentences.linked(finding.other),
                ),
            )
