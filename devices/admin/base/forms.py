"""Fields and forms that the pages of all apps build on."""

import uuid
from datetime import datetime, time
from functools import cached_property
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminSplitDateTime
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Manager
from django.forms import BaseInlineFormSet
from django.utils.translation import gettext as _, gettext_lazy

from devices.admin.base.pages import is_key
from devices.admin.base.rendering import NOTHING
from devices.values import attributes
from devices.values.text import joined

# Of the names of attributes' fields, and of the parameters of a list's address.
ATTRIBUTE_PREFIX = "attribute-"
MAX_SHOWN = 100  # characters of what was sent, in an error message
MAX_FAULTS = 20  # that are told of one field


class LineInput(forms.TextInput):
    """A line of text, as wide as those that the admin makes for a model's fields."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__({"class": "vTextField", **(attrs or {})})


class LinesInput(forms.Textarea):
    """Lines of text, as wide as those that the admin makes for a model's fields.

    Their bound is the server's alone, which says so: a browser cuts what is pasted without a word.
    """

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__({"class": "vLargeTextField", **(attrs or {})})

    def build_attrs(self, *args: Any) -> dict[str, Any]:
        return {
            name: said for name, said in super().build_attrs(*args).items() if name != "maxlength"
        }


def focus_first_empty(form: forms.Form) -> None:
    """Have the page of a form that was not sent yet begin in its first empty field, if any is."""
    if not form.is_bound and (field := next((one for one in form if not one.value()), None)):
        field.field.widget.attrs["autofocus"] = True


class RowsField(forms.ModelMultipleChoiceField):
    """Rows by their keys. What cannot be a key is refused without asking the database."""

    def clean(self, value: Any) -> Any:
        text, code = self.error_messages["invalid_pk_value"], "invalid_pk_value"
        wrong = [str(key)[:MAX_SHOWN] for key in value or () if not is_key(str(key))]
        if wrong:
            faults = [ValidationError(text, code=code, params={"pk": one}) for one in wrong]
            raise ValidationError(faults[:MAX_FAULTS])
        return super().clean(value)


class MomentField(forms.SplitDateTimeField):
    """A date and a time of day; a date alone means its midnight."""

    widget = AdminSplitDateTime

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(require_all_fields=False, **kwargs)
        self.fields[1].required = False

    def compress(self, data_list: Any) -> datetime | None:
        if data_list and data_list[0] and data_list[1] in self.empty_values:
            data_list = [data_list[0], time.min]
        return super().compress(data_list)


class AttributesField(forms.JSONField):
    """A JSON object as text; what was typed comes back as it was typed."""

    def to_python(self, value: Any) -> Any:
        return value if isinstance(value, dict) else attributes.parse(value or "{}")

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether the text says anything else; the same text does not, whatever it says."""
        return data != self.prepare_value(initial) and super().has_changed(initial, data)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return data

    def prepare_value(self, value: Any) -> str:
        return value if isinstance(value, str) else attributes.as_text(value)


# For `formfield_overrides` of an admin.
FIELDS: "dict[type[models.Field[Any, Any]], dict[str, Any]]" = {
    models.DateTimeField: {"form_class": MomentField},
    models.JSONField: {"form_class": AttributesField},
}


class CurrentField(forms.BoundField):
    """A field of a `CurrentForm`.

    With what is typed it sends what it held when it was first shown, also where its form comes
    back for another fault: Django then takes what was typed for that, of a field in several parts
    and of one that held nothing. Where others changed it, it sends what they made of it, once that
    was said.
    """

    form: "CurrentForm"

    def as_widget(self, widget: Any = None, attrs: Any = None, only_initial: bool = False) -> Any:
        if not (only_initial and self.form.is_bound):
            return super().as_widget(widget, attrs, only_initial)
        if self.name in self.form.told:
            held = self.field.prepare_value(self.initial)
        else:
            held = widget.value_from_datadict(self.form.data, {}, self.html_initial_name)
        attrs = {**(attrs or {}), "id": self.html_initial_id}
        return widget.render(self.html_initial_name, held, attrs, self.form.renderer)


class CurrentForm(forms.ModelForm):
    """A form that does not overwrite what others changed while it was open.

    It sends along what its fields held when it was shown. A field that only others changed
    since then keeps their value and is among `kept`; one that both changed is an error, and is
    among `told`: sent once more, it is saved.
    """

    bound_field_class = CurrentField
    kept: list[str]
    told: set[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept, self.told = [], set()
        begins = self.add_initial_prefix("")
        compares = self.instance.pk is not None and (
            not self.is_bound or any(name.startswith(begins) for name in self.data)
        )
        for field in self.fields.values():
            field.show_hidden_initial = compares and not field.disabled  # such as a password's hash

    @cached_property
    def changed_meanwhile(self) -> list[str]:
        """The names of the fields that others changed since the form was shown."""
        return [
            bound.name
            for bound in self
            if bound.field.show_hidden_initial
            and bound.field.has_changed(
                bound.initial,
                bound.field.hidden_widget().value_from_datadict(
                    self.data, self.files, self.add_initial_prefix(bound.name)
                ),
            )
        ]

    def clean(self) -> dict[str, Any]:
        """Keep what only others changed; refuse what both did."""
        cleaned = super().clean() or {}
        for name in self.changed_meanwhile:
            if name not in self.changed_data:
                cleaned[name] = self._current(name)
                self.kept.append(str(self.fields[name].label or name))
            elif self.fields[name].has_changed(self[name].initial, self[name].data):
                self.told.add(name)
                self.add_error(
                    name,
                    _(
                        "Somebody changed this to “%(value)s” while the form lay open. Send the "
                        "form again to put yours in its place."
                    )
                    % {"value": self._shown(name)},
                )
        return cleaned

    def _current(self, name: str) -> Any:
        value = getattr(self.instance, name)
        return value.all() if isinstance(value, Manager) else value

    def _shown(self, name: str) -> str:
        display = getattr(self.instance, f"get_{name}_display", None)
        if display is not None:
            return str(display())
        value = self._current(name)
        if isinstance(value, models.QuerySet):
            return joined(value) or NOTHING
        return NOTHING if value is None or value == "" else str(value)


class CurrentFormSet(BaseInlineFormSet):
    """Rows on the form of another row; what others changed while it was open is not overwritten.

    Its forms are `CurrentForm`s: a row that others changed is treated as a form's field is. A row
    that others deleted stays deleted and is among `gone`; it is an error if it was changed here.
    """

    gone: list[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gone = []

    @property
    def kept(self) -> list[str]:
        """What others changed or deleted since the form was shown, and stays so."""
        changed = [str(form.instance) for form in self.initial_forms if getattr(form, "kept", [])]
        return [*changed, *self.gone]

    def add_fields(self, form: Any, index: int | None) -> None:
        """Show a row that is gone as it was sent, and ask nothing more of it."""
        super().add_fields(form, index)
        if "DELETE" in form.fields:  # a box in a table, which has no label
            form.fields["DELETE"].widget.attrs["aria-label"] = _("Delete")
        if self._is_gone(form, index):
            form.empty_permitted = True
            for name, field in form.fields.items():
                form.initial[name] = form[name].data
                field.disabled = True

    def clean(self) -> None:
        """Leave out the rows that are gone; refuse them where they were changed here.

        Constraints on a row and the one that it belongs to are checked here: Django does not.
        """
        super().clean()
        for form in self.forms:
            if self.instance.pk and form.is_valid() and form.has_changed():
                try:
                    form.instance.validate_constraints()
                except ValidationError as error:
                    form.add_error(None, error)
        for index, form in enumerate(self.initial_forms):
            if not self._is_gone(form, index):
                continue
            for name in form.fields:
                shown = self.data.get(form.add_initial_prefix(name))
                if shown is None:
                    continue
                if shown != self.data.get(form.add_prefix(name)):
                    text = _(
                        "Somebody deleted “%(value)s” while the form lay open. Load the page again "
                        "before you change it."
                    )
                    raise ValidationError(text % {"value": shown})
                self.gone.append(shown)

    def save_existing(self, form: Any, obj: Any, commit: bool = True) -> Any:
        if commit:
            columns = {field.name for field in obj._meta.concrete_fields}
            obj.save(update_fields=columns & set(form.changed_data))
        return obj

    def _is_gone(self, form: Any, index: int | None) -> bool:
        is_saved = index is not None and self.is_bound and index < self.initial_form_count()
        return is_saved and form.instance.pk is None


class OneTimeForm(forms.Form):
    """A form that counts once, however often it is sent; each rendering is one."""

    token = forms.UUIDField(
        widget=forms.HiddenInput,
        initial=uuid.uuid4,
        error_messages={"required": gettext_lazy("Load the page again before you send it.")},
    )
