"""The addresses of the admin, read from its own URLs: a page that is new is among them.

`python -m tests.support.admin_pages`, in the environment of a server, prints them as JSON, by name.
A page about a row is about the first row of its model; one about a change, about the last change of
a row that can be undone. A page whose model has no rows is left out.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import django

# What is no page: where one is led on, files, what scripts ask, what needs no account.
NO_PAGES = {
    "logout",
    "login",
    "app_list",
    "autocomplete",
    "jsi18n",
    "view_on_site",
    "confirm_identity",
    "second_factor",
    "factors",  # where the second factor is switched on
    "enrol_app",
    "new_codes",
    "remove_factor",
    "password_change_done",
    "export_changes",
}
NO_PAGE_ENDS = (
    "_columns",
    "_filters",
    "_members",
    "_export",
    "_export_calls",
    "_import_template",
    "_suggestions",
    "_commands",
    "_unlock",
    "_resend",
)


# What a walk leaves out: it would end the session, or needs what no row has.
NOT_WALKED = {"logout", "view_on_site"}


def addresses(*, every: bool = False) -> dict[str, str]:
    """Return the path of each page that an administrator can open, by the name of its URL.

    With `every`, also of what is no page, and of what nobody may open.
    """
    from django.contrib import admin
    from django.urls import NoReverseMatch, reverse

    found = {}
    for name, arguments in _names(admin.site.get_urls()):
        is_page = not (name in NO_PAGES or name.endswith(NO_PAGE_ENDS)) and _is_open(name)
        if name in NOT_WALKED or not (every or is_page):
            continue
        values = _values(name, arguments)
        if values is None:
            continue
        try:
            found[name] = reverse(f"admin:{name}", kwargs=values)
        except NoReverseMatch as error:
            raise LookupError(f"no row is known for {name}: {error}") from error
    return found


def autocompletes() -> list[str]:
    """Return the address that each field with suggestions asks, without what is typed."""
    from django.urls import reverse

    address = reverse("admin:autocomplete")
    found = []
    for model, model_admin in _registered():
        for field in model_admin.autocomplete_fields:
            asked = {
                "app_label": model._meta.app_label,
                "model_name": model._meta.model_name,
                "field_name": field,
            }
            found.append(f"{address}?{urlencode(asked)}")
    return found


def _registered() -> Iterator[tuple[Any, Any]]:
    from django.apps import apps
    from django.contrib import admin

    for model in apps.get_models():
        if admin.site.is_registered(model):
            yield model, admin.site.get_model_admin(model)


def _names(patterns: Any) -> Iterator[tuple[str, set[str]]]:
    """Yield the name of each URL and its arguments, those of included URLs with theirs."""

    def walk(patterns: Any, above: frozenset[str]) -> Iterator[tuple[str, set[str]]]:
        for one in patterns:
            # Both kinds of a pattern know their arguments: `converters` or a regular expression.
            arguments = above | {*one.pattern.converters, *one.pattern.regex.groupindex}
            if hasattr(one, "url_patterns"):
                yield from walk(one.url_patterns, frozenset(arguments))
            elif one.name:
                yield one.name, set(arguments)

    yield from walk(patterns, frozenset())


def _model_of(name: str) -> Any:
    """Return the model whose page a URL's name says; None where it says none."""
    for model, _model_admin in _registered():
        if name.startswith(f"{model._meta.app_label}_{model._meta.model_name}_"):
            return model
    return None


def _is_open(name: str) -> bool:
    """Whether an administrator may open it: not, say, the form that adds to the journal."""
    from django.contrib import admin
    from django.contrib.auth import get_user_model
    from django.http import HttpRequest

    model = _model_of(name)
    if model is None:
        return True
    request = HttpRequest()
    request.user = get_user_model()(is_superuser=True, is_staff=True, is_active=True)
    model_admin: Any = admin.site.get_model_admin(model)
    if name.endswith("_add"):
        return bool(model_admin.has_add_permission(request))
    if name.endswith("_delete"):
        return bool(model_admin.has_delete_permission(request))
    if name.endswith(("_restore", "_undo")):
        return bool(model.restored_fields)
    if name.endswith("_history"):
        from devices.history.models import keeps_history

        return keeps_history(model)
    return True


def _values(name: str, arguments: set[str]) -> dict[str, Any] | None:
    """Return values for the arguments of a URL; None where there is no such row."""
    from devices.history import all_histories, history_of
    from devices.history.models import ChangeType
    from devices.models import Device

    if not arguments:
        return {}
    if arguments == {"app_label"}:
        return {"app_label": "devices"}
    if arguments == {"number"}:
        batches = (
            history.objects.exclude(batch=None).values_list("batch", flat=True)[:1]
            for history in all_histories()
        )
        return next(({"number": found[0]} for found in map(list, batches) if found), None)
    if arguments == {"device_id"}:
        return {"device_id": Device.objects.order_by("pk").values_list("pk", flat=True)[0]}
    model = _model_of(name)
    if "change_id" in arguments:
        history = history_of(model)
        changes = history.objects.filter(history_type=ChangeType.CHANGED).order_by("-history_id")
        kept = model._default_manager.order_by("pk").values("pk")
        change = changes.filter(id__in=kept).first()
        return change and {"object_id": change.id, "change_id": change.history_id}
    row = model and model._default_manager.order_by("pk").first()
    (argument,) = arguments
    return row and {argument: row.pk}


def main() -> None:
    """Print them."""
    django.setup()
    from django.contrib import admin

    admin.autodiscover()
    json.dump({"pages": addresses(), "autocompletes": autocompletes()}, sys.stdout)


if __name__ == "__main__":
    main()
