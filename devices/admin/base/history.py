"""The pages of the history: of one row, of everything, and back to what a row said before."""

import hashlib
from collections.abc import Iterable
from datetime import datetime, time
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _, gettext_lazy, ngettext

from devices import history
from devices.admin.base.forms import CurrentForm
from devices.admin.base.mixins import SaveChangedFieldsMixin
from devices.admin.base.pages import (
    MOVED,
    REASON,
    OwnPagesMixin,
    download,
    is_key,
    own_page,
    site_page,
    typed_reason,
    url_name,
)
from devices.database.batches import batched
from devices.database.turns import MAX_KEYS, hold
from devices.extension_points import Panel, Place
from devices.history import ChangeType, Origin, history_of, timeline, undoing, visible_to
from devices.history.recording import delete_together
from devices.history.timeline import Counted, Cursor, Entry
from devices.models import Device
from devices.models.dependants import dependants, not_deletable
from devices.transfer.exporting import export_changes
from devices.transfer.formats import Format
from devices.values.text import isolated, labelled

MAX_IN_PANEL = 5  # changes
MAX_EXPORTED = 100_000  # rows, while somebody waits
EXPORTED = (Format.CSV, Format.NDJSON)
MAX_NAMED = 5  # rows that an undo leaves, for each reason
MAX_COUNTED = 100_000  # changes of a batch in one history, on its own page
MAX_PLANNED = 1_000  # changes whose undoing is worked out before anybody asks for it
PLAN = "plan"  # in the address of what was changed together: somebody does


class HistoryMixin(OwnPagesMixin):
    """Gives an admin the history of its rows, in place of the log that Django's admin keeps."""

    history_in_batches = False  # whether what was changed together is one entry of a row's history

    def log_addition(self, request: HttpRequest, *_said: Any) -> Any:
        """Leave it to the history."""

    log_change: Any = log_addition
    log_deletions: Any = log_addition

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        context["history_is_hidden"] = not self.may_see_history(request)
        row = kw.get("obj")
        may = self.has_change_permission(request, row) if row else True
        context["asks_why"] = bool(may and context["adminform"].form.fields)
        context["why"] = request.POST.get(REASON, "")
        return super().render_change_form(request, context, *args, **kw)

    def delete_view(self, request: HttpRequest, *args: Any, **kw: Any) -> HttpResponse:
        """Delete a row, once that is confirmed; ask why."""
        return _asking_why(super().delete_view(request, *args, **kw))

    def changelist_view(self, request: HttpRequest, *args: Any, **kw: Any) -> HttpResponse:
        """List rows, or act on some; ask why, where that is confirmed first."""
        return _asking_why(super().changelist_view(request, *args, **kw))

    def may_see_history(self, request: HttpRequest) -> bool:
        return history_of(self.model) in visible_to(request.user)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show what changed of a row, and of what belongs to it; of a deleted one, too."""
        pk = int(object_id) if is_key(object_id) else 0
        row = self.model._default_manager.filter(pk=pk).first()
        visible = _visible(request, self.model, pk)
        if not self.has_view_permission(request, row) or history_of(self.model) not in visible:
            raise PermissionDenied
        page = timeline.latest(
            visible,
            after=Cursor.read(request.GET.get("after", "")),
            in_batches=self.history_in_batches,
        )
        if row is None and not page.entries:
            raise Http404
        numbers = {entry.change.batch for entry in page.entries if not entry.batch} - {None}
        visible_histories = visible_to(request.user)
        together = timeline.counts_of(visible_histories, numbers, timeline.MAX_COUNTED)
        entries = [
            shown(entry)
            | {
                "leads_to_undo": bool(entry.batch and _may_undo(request, entry.batch.counts)),
                "others": sum(one.n for one in counts) - 1,
                "others_shown": timeline.total_text(counts, besides=1),
                **(self._reversal_links(request, entry, row) if row else {}),
            }
            for entry in page.entries
            for counts in [together.get(entry.change.batch, [])]
        ]
        return self.page(
            request,
            "admin/history/row.html",
            title=_("History of %s") % isolated(row or page.entries[-1].subject),
            row=row,
            entries=entries,
            older=page.older,
            **(extra_context or {}),
        )

    def _reversal_links(self, request: HttpRequest, entry: Entry, row: Any) -> dict[str, str]:
        """Return where staff undo a change, and set its row back to what it said then.

        Each is offered where it would do something, to whoever may.
        """
        restored, may = self.model.restored_fields, self.has_change_permission(request)
        kept = entry.kind in {ChangeType.CREATED, ChangeType.CHANGED}
        if not (restored and may and kept and entry.model is self.model):
            return {}
        fields: list[Any] = [self.opts.get_field(name) for name in restored]
        then, before = entry.change, entry.before
        ways = {}
        if undoing.differing(row, then, fields):
            ways["restore"] = self._page_of_change("restore", then)
        if before is not None and undoing.undone_fields(row, then, before, fields):
            ways["undo"] = self._page_of_change("undo", then)
        return ways

    def _page_of_change(self, name: str, change: Any) -> str:
        return reverse(url_name(self.opts, name), args=[change.id, change.history_id])

    @own_page("<int:object_id>/history/<int:change_id>/restore/", "restore")
    def restore_view(self, request: HttpRequest, object_id: int, change_id: int) -> HttpResponse:
        """Show what would change back, and after a confirmation change it, as guards allow."""
        return self.guarded(request, self.restore, object_id, change_id, undoes_change=False)

    @own_page("<int:object_id>/history/<int:change_id>/undo/", "undo")
    def undo_view(self, request: HttpRequest, object_id: int, change_id: int) -> HttpResponse:
        """Show what undoing one change would do, and after a confirmation do it."""
        return self.guarded(request, self.restore, object_id, change_id, undoes_change=True)

    def restore(
        self, request: HttpRequest, object_id: int, change_id: int, *, undoes_change: bool
    ) -> HttpResponse:
        """Set a row back to what it said at a change, or undo that change and no other.

        Show what would change where not confirmed.
        """
        with transaction.atomic():
            may = self.has_change_permission(request) and self.may_see_history(request)
            if not (self.model.restored_fields and may):
                raise PermissionDenied
            try:
                way = undoing.reversal_of(self.model, change_id, undoes_change=undoes_change)
            except ObjectDoesNotExist:
                raise Http404 from None
            if way.row.pk != object_id:
                raise Http404
            with translation.override(None):  # the same in any language
                shown = hashlib.sha256(repr(way.preview()).encode()).hexdigest()
            preview, error = way.preview(), way.check()
            has_moved = request.POST.get("shown", shown) != shown
            if request.method == "POST" and preview and error is None and not has_moved:
                with history.origin(Origin.ADMIN, reason=way.reason(typed_reason(request))):
                    try:
                        way.apply()
                    except ValidationError as refused:
                        messages.error(request, " ".join(refused.messages))
                    else:
                        messages.success(request, _("Undone.") if undoes_change else _("Restored."))
                return redirect(url_name(self.opts, "history"), object_id)
        return self.page(
            request,
            "admin/history/restore.html",
            title=_("Undo a change") if undoes_change else _("Restore an earlier state"),
            row=self.model._default_manager.get(pk=object_id),
            moment=way.change.history_date,
            undoes_change=undoes_change,
            preview=preview,
            error=error,
            shown=shown,
            has_moved=has_moved and bool(preview),
            why=typed_reason(request),
        )


class RecordedAdmin(HistoryMixin, SaveChangedFieldsMixin, admin.ModelAdmin):
    """The admin of rows whose history is kept: nothing is overwritten, and everything recorded."""

    form: type[forms.ModelForm] = CurrentForm
    add_fieldsets: Any = None  # of a new row, where they are others

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        own = super().get_fieldsets(request, obj)
        return own if obj is not None else self.add_fieldsets or own

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete rows, as they are once others are through with them; those gone are left out.

        So are rows that do not match any more, and those that came to match meanwhile: nobody was
        asked about them.
        """
        with transaction.atomic():
            keys = hold(self.model, list(queryset.order_by().values_list("pk", flat=True)))
            batches = batched(keys, MAX_KEYS)
            rows = [row for batch in batches for row in queryset.filter(pk__in=batch)]
            delete_together(self.model, rows)


def _asking_why(answer: HttpResponse) -> HttpResponse:
    """Have a page that confirms a deletion ask for the reason."""
    if isinstance(answer, TemplateResponse) and answer.context_data is not None:
        answer.context_data.setdefault("asks_why", True)
    return answer


def history_panel(request: HttpRequest, device: Device) -> Panel | None:
    """Return the section with a device's latest changes; None where none may be read."""
    visible = _visible(request, Device, device.pk)
    if history_of(Device) not in visible:
        return None
    changes = {where: condition & timeline.CHANGES for where, condition in visible.items()}
    page = timeline.latest(changes, MAX_IN_PANEL)
    return Panel(
        _("Latest changes"),
        "admin/history/panel.html",
        {"entries": [shown(entry) for entry in page.entries], "device": device},
        place=Place.CHANGES,
    )


def _visible(request: HttpRequest, model: type[Model], pk: int) -> dict[Any, Q]:
    """Return the histories about a row that staff may read, as they may those of all rows."""
    may = visible_to(request.user)
    return {one: where for one, where in timeline.of(model, pk).items() if one in may}


def shown(entry: Entry) -> dict[str, Any]:
    """Return what a template needs of a change."""
    model, pk = entry.page
    try:
        address = reverse(url_name(model._meta, "history"), args=[pk])
    except NoReverseMatch:  # a part of something, which has no page of its own
        address = ""
    parts = [shown(part) for part in entry.batch.parts] if entry.batch else []
    return {"entry": entry, "address": address, "parts": parts}


# --- Everything -----------------------------------------------------------------------------


class ChangesForm(forms.Form):
    model = forms.ChoiceField(label=gettext_lazy("What"), required=False)
    user = forms.CharField(label=gettext_lazy("By whom"), required=False, max_length=150)
    origin = forms.ChoiceField(
        label=gettext_lazy("From"),
        required=False,
        choices=[("", gettext_lazy("Anywhere")), *Origin.choices],
    )
    since = forms.DateField(
        label=gettext_lazy("Since"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(
        label=gettext_lazy("Until"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )

    def __init__(self, histories: list[Any], *args: Any) -> None:
        super().__init__(*args)
        self._histories = {
            historical.instance_type._meta.label_lower: historical for historical in histories
        }
        names = []
        for label, historical in self._histories.items():
            about = historical if historical.is_link else historical.instance_type
            names.append((label, str(about._meta.verbose_name_plural)))
        model: Any = self.fields["model"]
        model.choices = [("", _("Anything")), *sorted(names, key=lambda one: one[1])]

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        since, until = said.get("since"), said.get("until")
        if since and until and since > until:
            self.add_error("until", _("This lies before the beginning."))
        return said

    def where(self) -> dict[Any, Q]:
        """Return the histories that are looked through, each under its condition."""
        said = self.cleaned_data if self.is_valid() else {}
        since, until = said.get("since"), said.get("until")
        wanted = {
            "history_user_id": said.get("user"),
            "origin": said.get("origin"),
            "history_date__gte": since and _on(since, time.min),
            "history_date__lte": until and _on(until, time.max),
        }
        condition = Q(**{name: value for name, value in wanted.items() if value})
        chosen = [self._histories[said["model"]]] if said.get("model") else self._histories.values()
        return dict.fromkeys(chosen, condition)

    def check(self) -> None:
        """Raise ValidationError where the form asks for what cannot be, or for nobody."""
        if not self.is_valid():
            faults = (
                labelled(self.fields[name].label, " ".join(map(str, texts)))
                for name, texts in self.errors.items()
            )
            raise ValidationError(_("Nothing was exported.") + " " + " ".join(faults))
        name = self.cleaned_data["user"]
        if name and not timeline.knows(name):
            raise ValidationError(
                _("Nothing was exported: nobody is known as “%(name)s”."), params={"name": name}
            )


def _on(day: Any, at: time) -> datetime:
    return timezone.make_aware(datetime.combine(day, at))


def _leads_to_undo(site: admin.AdminSite, request: HttpRequest, entry: Entry) -> bool:
    """Whether this user may undo such a change where the entry leads, where that can be."""
    if entry.batch:
        return _may_undo(request, entry.batch.counts)
    model: Any = entry.page[0]
    is_of_row = entry.kind is ChangeType.CHANGED and entry.model is model
    if not (is_of_row and model.restored_fields and site.is_registered(model)):
        return False
    return site.get_model_admin(model).has_change_permission(request)


def _may_undo(request: HttpRequest, counts: Iterable[Counted]) -> bool:
    return undoing.may_undo(request.user, {one.historical for one in counts})


def all_changes(site: admin.AdminSite, request: HttpRequest) -> HttpResponse:
    """Show every change that somebody may read, filtered, a page at a time."""
    histories = visible_to(request.user)
    if not histories:
        raise PermissionDenied
    form = ChangesForm(histories, request.GET)
    after = Cursor.read(request.GET.get("after", ""))
    page = timeline.latest(form.where(), after=after, in_batches=True)
    query = request.GET.copy()
    query.pop("after", None)
    return site_page(
        site,
        request,
        "admin/history/all.html",
        title=_("History"),
        form=form,
        entries=[
            shown(entry) | {"leads_to_undo": _leads_to_undo(site, request, entry)}
            for entry in page.entries
        ],
        older=page.older,
        query=query.urlencode(),
        formats=EXPORTED,
    )


def exported_changes(request: HttpRequest) -> HttpResponseBase:
    """Return the changes that the page lists, on all its pages, as a file; the page if too many."""
    histories = visible_to(request.user)
    if not histories:
        raise PermissionDenied
    query = request.GET.copy()
    wanted = query.pop("format", [""])[-1]
    kind = Format(wanted) if wanted in EXPORTED else Format.CSV
    form = ChangesForm(histories, query)
    try:
        form.check()
        export = export_changes(form.where(), kind, most=MAX_EXPORTED)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return HttpResponseRedirect(f"{reverse('admin:changes')}?{query.urlencode()}")
    return download(export.file, f"changes-{timezone.now():%Y%m%d-%H%M%S}.{kind}", kind)


# --- What was changed together --------------------------------------------------------------


def batch_view(site: admin.AdminSite, request: HttpRequest, number: UUID) -> HttpResponse:
    """Show what one request, command or import changed, and undo it once that is confirmed."""
    where = {one: Q(batch=number) for one in visible_to(request.user)}
    counts = timeline.counts_of(where, [number], MAX_COUNTED)[number]
    if not counts:
        raise PermissionDenied if not where else Http404
    if request.method == "POST":
        devices: Any = site.get_model_admin(Device)  # the guards of any admin see every change
        return devices.guarded(request, _undo, number)
    after = Cursor.read(request.GET.get("after", ""))
    page = timeline.latest(where, after=after, of_batch=True)
    total = sum(one.n for one in counts)
    may_undo = _may_undo(request, counts)
    is_planned = may_undo and (total <= MAX_PLANNED or PLAN in request.GET)
    plan = undoing.plan(number, request.user) if is_planned else None
    left = plan.left if plan else []
    return site_page(
        site,
        request,
        "admin/history/batch.html",
        title=_("Changed together"),
        counts=counts,
        may_undo=may_undo,
        can_be_planned=not is_planned and total <= undoing.MAX_UNDONE,
        first=page.entries[0] if page.entries else None,
        entries=[shown(entry) for entry in page.entries],
        older=page.older,
        plan=plan,
        lacking=_lacking(plan, request.user) if plan else [],
        left=[(one.why, len(one.names), one.shown(MAX_NAMED)) for one in left if one.names],
    )


def _lacking(plan: undoing.Plan, user: Any) -> list[str]:
    """Name what would be deleted with what an undo deletes, and the user may not delete."""
    return [
        name
        for model, rows in plan.deleted.items()
        for name in not_deletable(
            dependants(model._default_manager.filter(pk__in=[row.pk for row in rows])), user
        )
    ]


def _undo(request: HttpRequest, number: UUID) -> HttpResponse:
    """Undo a batch as far as it can be; the undo is a batch as well."""
    reason = undoing.batch_reason(typed_reason(request))
    with transaction.atomic(), history.origin(Origin.ADMIN, reason=reason):
        plan = undoing.plan(number, request.user, lock=True)
        if plan is not None:
            if _lacking(plan, request.user):
                raise PermissionDenied
            if request.POST.get("shown", plan.digest) != plan.digest:
                messages.error(request, MOVED)
                return redirect(request.get_full_path())
            try:
                undoing.apply(plan)
            except ValidationError as error:
                messages.error(request, " ".join(error.messages))
                return redirect("admin:batch", number)
    if plan and plan.total:
        text = ngettext(
            "%(n)d row is as it was before: %(what)s.",
            "%(n)d rows are as they were before: %(what)s.",
            plan.total,
        )
        messages.success(request, text % {"n": plan.total, "what": plan.what})
    else:
        messages.warning(request, _("Nothing of this can be undone, or it is undone already."))
    if plan and (left := sum(len(one.names) for one in plan.left)):
        text = ngettext("%(n)d row was left as it is.", "%(n)d rows were left as they are.", left)
        messages.warning(request, text % {"n": left})
    return redirect("admin:batch", number)
