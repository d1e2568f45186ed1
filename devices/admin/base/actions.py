"""What staff do to many rows at once: each change is shown before it is made."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _, gettext_lazy

from devices import history
from devices.admin.base.forms import LineInput
from devices.admin.base.pages import OwnPagesMixin, say_done, url_name
from devices.history import undoing
from devices.models.dependants import Dependants
from devices.values.text import joined

MAX_SHOWN = 20  # devices that a confirmation lists by name


class RevokeForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Reason"), required=False, max_length=255, widget=LineInput
    )


class BulkChange:
    """A change of many rows: which of those selected it changes, and how.

    With `title_of_one` there is a page that makes it of one row, too.
    """

    name: str
    description: Any
    permissions: Sequence[str] = ("change",)
    title: Any
    text: Any
    button: Any
    done: Any  # a text with the number of rows that were changed, `n`, and what the form said
    title_of_one: Any = None
    is_destructive = False
    instead: "type[BulkChange] | None" = None  # what can be undone, offered before
    form_class: type[forms.Form] = forms.Form
    can_be_undone = True  # as a whole, from the history
    asks_first = False  # whether `affected` needs the form
    asks: Any = gettext_lazy("Choose the group; what will change is shown next.")
    others: Any = ""  # why some that were selected are not changed, if not as they are so already
    lacking_text: Any = gettext_lazy(
        "Your account may not delete what would go with them: %(names)s."
    )

    def initial(self, request: HttpRequest) -> dict[str, Any]:
        """Return what its form begins with, as the list is filtered."""
        return {}

    def affected(self, rows: Any, given: dict[str, Any]) -> QuerySet[Any]:
        """Return the rows that the change does change."""
        return rows

    def change(self, rows: Any, given: dict[str, Any], request: HttpRequest) -> int:
        """Make the change, whole or not at all; return how many rows it changed.

        Raises ValidationError where a model refuses it.
        """
        raise NotImplementedError

    def apply(self, rows: Any, given: dict[str, Any], request: HttpRequest) -> tuple[str, int]:
        """Make the change; return what was done, with its counts, and how many rows it changed."""
        count = self.change(rows, given, request)
        return str(self.done % {**given, "n": count}), count

    def goes_with(self, rows: Any) -> list[Dependants]:
        """Return what is deleted with the rows."""
        return []

    def lacking(self, rows: Any, user: Any) -> list[str]:
        """Return what keeps the user from making the change, in words; `lacking_text` says so."""
        return []

    def text_of_one(self, row: Any) -> str:
        """Return what the change means for one row."""
        raise NotImplementedError

    def page_after(self, row: Any) -> Model:
        """Return the row whose page is shown once one row is changed."""
        return row

    def action(self) -> Callable[..., HttpResponse | None]:
        """Return the change as an action of an admin that is a BulkActionsMixin."""

        @admin.action(description=self.description, permissions=self.permissions)
        def act(
            model_admin: "BulkActionsMixin", request: HttpRequest, queryset: QuerySet[Any]
        ) -> HttpResponse | None:
            return model_admin.change_many(request, queryset, self)

        act.__name__ = self.name
        return act


class Switch(BulkChange):
    """Switches rows on, or off."""

    enables = True

    def affected(self, rows: Any, given: dict[str, Any]) -> QuerySet[Any]:
        return rows.filter(enabled=not self.enables)

    def change(self, rows: Any, given: dict[str, Any], request: HttpRequest) -> int:
        return rows.set_enabled(enabled=self.enables)


class Revoke(BulkChange):
    """Revokes credentials, from their next use on and for good."""

    name = "revoke"
    button = gettext_lazy("Revoke")
    is_destructive = True
    can_be_undone = False
    form_class = RevokeForm

    def affected(self, rows: Any, given: dict[str, Any]) -> QuerySet[Any]:
        return rows.unrevoked()

    def change(self, rows: Any, given: dict[str, Any], request: HttpRequest) -> int:
        return rows.revoke(by=request.user.get_username(), **given)


def set_digest(rows: QuerySet[Any], *besides: str) -> str:
    """Return the digest of a set of rows: SHA-256 of their sorted keys, in hexadecimal."""
    digest = hashlib.sha256("\n".join(besides).encode())
    for (key,) in rows.order_by("pk").values_list("pk").distinct():
        digest.update(b"%d," % key)
    return digest.hexdigest()


def with_undo(done: str, user: Any, model: Any) -> str:
    """Return the message of a change with a link to undo all that this request changed.

    Without the link for whoever may not read the history of the model, and so undo nothing.
    """
    number = history.current_batch()
    if number is None or not undoing.may_undo(user, [history.history_of(model)]):
        return done
    address = reverse("admin:batch", args=[number])
    return format_html('{} <a href="{}">{}</a>', done, address, _("Undo…"))


class BulkActionsMixin(OwnPagesMixin):
    """Makes an admin confirm a change of many rows, or of one, and then make it."""

    changes: Sequence[BulkChange] = ()

    def own_pages(self) -> Iterator[tuple[str, Callable[..., Any], str]]:
        """Add a page for each change that is made of one row, too."""
        yield from super().own_pages()
        for change in self.changes:
            if change.title_of_one:
                view = partial(self.change_one, change=change)
                yield f"<int:object_id>/{change.name}/", view, change.name

    def change_many(
        self, request: HttpRequest, queryset: QuerySet[Any], change: BulkChange
    ) -> HttpResponse | None:
        """Ask, show what will change, and change it once that is confirmed as shown."""
        sent = request.POST if "confirmed" in request.POST else None
        form = change.form_class(sent, initial=change.initial(request))
        given: dict[str, Any] | None = {} if not form.fields else None
        if form.is_valid():
            given = form.cleaned_data
        if given is None and change.asks_first:
            return self._confirmation(
                request,
                form,
                title=change.title,
                text=change.asks,
                button=_("Continue"),
                asks_why=False,
                shown="",
            )
        rows = self.model._default_manager.filter(pk__in=queryset.order_by().values("pk"))
        affected = change.affected(rows, given or {})
        goes_with = change.goes_with(affected)
        besides = [f"{one.model._meta.label}: {one.rows}" for one in goes_with if one.is_kept]
        digest = set_digest(affected, *besides)
        confirmed = request.POST.get("shown") or None
        lacks = change.lacking(affected, request.user)
        if given is not None and not lacks and confirmed == digest:
            self._make(request, change, affected, given, offers_undo=True)
            return None
        count = affected.count()
        instead = change.instead.name if change.instead else ""  # an action that staff may have
        return self._confirmation(
            request,
            form,
            rows=affected[:MAX_SHOWN],
            title=change.title,
            text=change.text,
            button=change.button if count and not lacks else "",
            is_destructive=change.is_destructive,
            count=count,
            noun=self.opts.verbose_name if count == 1 else self.opts.verbose_name_plural,
            selected=rows.count(),
            more=max(count - MAX_SHOWN, 0),
            others=change.others,
            goes_with=list(map(str, goes_with)),
            lacking=change.lacking_text % {"names": joined(lacks)} if lacks else "",
            has_moved=confirmed is not None and confirmed != digest,
            shown=digest,
            instead=instead if count and instead in self.get_actions(request) else "",
        )

    def _confirmation(
        self, request: HttpRequest, form: forms.Form, *, shown: str, **context: Any
    ) -> HttpResponse:
        """Return the page on which staff confirm an action on the selected rows.

        `shown` is the digest of what the page shows.
        """
        across = request.POST.get("select_across") == "1"
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        hidden = [(ACTION_CHECKBOX_NAME, key) for key in (selected[:1] if across else selected)]
        if across:
            hidden.append(("select_across", "1"))
        own_hidden = [("action", request.POST["action"]), ("confirmed", "yes"), ("shown", shown)]
        back = request.get_full_path()
        return self.form_page(
            request, form, hidden=hidden, own_hidden=own_hidden, back=back, **context
        )

    def change_one(
        self, request: HttpRequest, object_id: int, *, change: BulkChange
    ) -> HttpResponse:
        if not all(getattr(self, f"has_{one}_permission")(request) for one in change.permissions):
            raise PermissionDenied
        row = get_object_or_404(self.get_queryset(request), pk=object_id)
        if "change" in change.permissions and not self.has_change_permission(request, row):
            raise PermissionDenied
        form = change.form_class(request.POST if request.method == "POST" else None)
        if form.is_valid():
            return self.guarded(request, self.apply_to_one, row, change, form)
        return self.form_page(
            request,
            form,
            row,
            title=change.title_of_one,
            text=change.text_of_one(row),
            button=change.button,
            is_destructive=change.is_destructive,
        )

    def apply_to_one(
        self, request: HttpRequest, row: Any, change: BulkChange, form: forms.Form
    ) -> HttpResponse:
        """Make a change that was confirmed; show what it was made of."""
        rows = self.model._default_manager.filter(pk=row.pk)
        is_made = self._make(request, change, rows, form.cleaned_data)
        page = change.page_after(row) if is_made else row
        return redirect(url_name(page._meta, "change"), page.pk)

    def _make(
        self,
        request: HttpRequest,
        change: BulkChange,
        rows: QuerySet[Any],
        given: dict[str, Any],
        *,
        offers_undo: bool = False,
    ) -> bool:
        """Make a change and say so, or say why a model refuses it.

        The history says the reason that its form asks for, too.
        """
        reason = given.get("reason", "")
        try:
            with history.origin(history.Origin.ADMIN, reason=reason):
                done, count = change.apply(rows, given, request)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return False
        may_undo = count and offers_undo and change.can_be_undone
        if may_undo:
            done = with_undo(done, request.user, rows.model)
        say_done(request, done, count)
        return True
