"""Scopes in words: what a token may do, by the kind of rows and by the action."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from django.apps import apps
from django.utils.translation import gettext as _, gettext_lazy

from authsite.accounts.tokens.rules import ACTIONS
from authsite.roles import CREDENTIALS, DEVICES, GRANTED, RTIO, RULES
from devices.history.models import permission_to
from devices.values.text import capitalized, labelled

ORDER = (*DEVICES, *CREDENTIALS, *RULES, *RTIO)
APPS = ("devices", "acl", "rpc", "authsite")  # whose rows the API has
VERBS = {
    "view": gettext_lazy("see"),
    "add": gettext_lazy("add"),
    "change": gettext_lazy("change"),
    "delete": gettext_lazy("delete"),
}
Choices = list[tuple[str, list[tuple[str, str]]]]


@cache
def all_scopes() -> dict[str, tuple[Any, Any]]:
    """Return every scope, with the model that it is about and its action in words."""
    found: dict[str, tuple[Any, Any]] = {}
    models = [model for label in APPS for model in apps.get_app_config(label).get_models()]
    for model in sorted(models, key=place):
        meta = model._meta
        actions = {
            permission_to(verb, model): VERBS[verb]
            for verb in VERBS
            if verb in meta.default_permissions
        }
        actions |= {f"{meta.app_label}.{codename}": text for codename, text in meta.permissions}
        found |= {scope: (model, action) for scope, action in actions.items() if scope in GRANTED}
    return found


def place(model: Any) -> tuple[bool, int, str]:
    """Return where a model stands among the scopes: as in the roles, and histories last."""
    is_history = hasattr(model, "instance_type")
    name = (model.instance_type if is_history else model)._meta.model_name
    return is_history, ORDER.index(name) if name in ORDER else len(ORDER), name


def rows_of(model: Any) -> str:
    """Return what the rows of a model are called; of a history, whose it is."""
    about = getattr(model, "instance_type", None)
    if about is None:
        return capitalized(str(model._meta.verbose_name_plural))
    rows = model if model.is_link else about
    return _("History: %(rows)s") % {"rows": rows._meta.verbose_name_plural}


def choices(scopes: Iterable[str], *, with_actions: bool = False) -> Choices:
    """Return scopes as the choices of a form, by the kind of rows.

    With what each can be narrowed to, where that is wanted: `devices.change_device:disable`.
    """
    wanted = frozenset(scopes)
    by_rows: dict[str, list[tuple[str, str]]] = {}
    for scope, (model, action) in all_scopes().items():
        if scope in wanted:
            found = by_rows.setdefault(rows_of(model), [])
            found.append((scope, str(action)))
            actions = ACTIONS.get(scope, {}) if with_actions else {}
            found += [(f"{scope}:{name}", str(text)) for name, text in actions.items()]
    return list(by_rows.items())


def in_words(scope: str) -> str:
    """Return a scope as staff read it: the rows, and what is done to them."""
    known = all_scopes().get(scope)
    return scope if known is None else labelled(rows_of(known[0]), known[1])


def held_by(user: Any) -> list[str]:
    """Return the scopes that an account could give to a token of its own."""
    return [scope for scope in all_scopes() if user.has_perm(scope)]
