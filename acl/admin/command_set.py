"""Staff's view of command sets."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from acl.models import CommandPermission, CommandSet, CommandSetPattern
from devices.admin.base.forms import CurrentForm, CurrentFormSet
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.mixins import ChangeGuardMixin
from devices.values.text import capitalized


class PatternInline(admin.TabularInline):
    model = CommandSetPattern
    form = CurrentForm
    formset = CurrentFormSet
    extra = 1

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Name the field, which has no label of its own in a table, for screen readers."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None:
            field.widget.attrs.setdefault("aria-label", capitalized(str(db_field.verbose_name)))
        return field


@admin.register(CommandSet)
class CommandSetAdmin(ChangeGuardMixin, RecordedAdmin):
    list_display = ["name", "pattern_count", "rule_count", "description"]
    list_filter = [("permissions__effect", admin.ChoicesFieldListFilter)]
    search_fields = ["name", "description", "patterns__pattern"]
    purpose = gettext_lazy(
        "A command set is a list of commands under a name that rules can use, such as all "
        "that only read."
    )
    search_help_text = gettext_lazy("Search by name, description or command.")
    fieldsets = [(None, {"fields": ["name", "description", "rule_count"]})]
    add_fieldsets = [(None, {"fields": ["name", "description"]})]
    inlines = [PatternInline]
    readonly_fields = ["rule_count"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[CommandSet]:
        rows = super().get_queryset(request)
        return rows.annotate(
            pattern_total=_count_of(CommandSetPattern), rule_total=_count_of(CommandPermission)
        )

    @admin.display(description=gettext_lazy("Commands"), ordering="pattern_total")
    def pattern_count(self, command_set: CommandSet) -> int:
        return getattr(command_set, "pattern_total", 0)

    @admin.display(description=gettext_lazy("Rules"), ordering="rule_total")
    def rule_count(self, command_set: CommandSet) -> SafeString:
        return format_html(
            '<a href="{}?command_set__id__exact={}">{}</a>',
            reverse("admin:acl_commandpermission_changelist"),
            command_set.pk,
            getattr(command_set, "rule_total", 0),
        )


def _count_of(model: type[CommandSetPattern] | type[CommandPermission]) -> Coalesce:
    rows = model._default_manager.order_by().filter(command_set=OuterRef("pk"))
    counted = rows.values("command_set").annotate(total=Count("pk")).values("total")
    return Coalesce(Subquery(counted), 0)
