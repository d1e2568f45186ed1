"""Staff's view of assertions."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from acl.analysis import assertions
from acl.models import Assertion
from devices.admin.base.forms import CurrentForm
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.rendering import Tone, badge


class AssertionForm(CurrentForm):
    def clean_text(self) -> str:
        return assertions.validated(self.cleaned_data["text"])


@admin.register(Assertion)
class AssertionAdmin(RecordedAdmin):
    form = AssertionForm
    list_per_page = 50
    search_fields = ["text", "note"]
    purpose = gettext_lazy(
        "An assertion is what must always hold, such as “nobody may unlock the doors”. A "
        "change of rules that would break one is stopped and shown first."
    )
    search_help_text = gettext_lazy("Search by device, group, command or note.")
    fieldsets = [(None, {"fields": ["text", "note"]})]

    def get_list_display(self, request: HttpRequest) -> list[str | Callable[[Any], Any]]:
        """Check the assertions of a page together, once the state of the first is asked for."""
        checked: dict[str, str] = {}
        later: dict[str, str] = {}

        @admin.display(description=gettext_lazy("State"))
        def state(assertion: Assertion) -> SafeString:
            if not checked:
                texts = assertions.saved()
                checked.update({one.text: one.why for one in assertions.check(texts)})
                later.update({one.text: one.why for one in assertions.check_later(texts)})
                checked.setdefault("", "")
            if (why := checked.get(assertion.text)) is None:
                if assertion.text in later:
                    badge_ = badge(Tone.SOON, _("holds for now"))
                    return format_html("{} {}", badge_, later[assertion.text])
                return badge(Tone.GOOD, _("holds"))
            return format_html("{} {}", badge(Tone.BAD, _("broken")), why)

        return ["text", state, "note"]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, and warn where it does not hold."""
        super().save_model(request, obj, form, change)
        for broken in assertions.check([obj.text]):
            messages.warning(request, _("It does not hold: %s") % broken.why)
