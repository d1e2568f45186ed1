"""Show which answers a change in the admin alters; ask before one that breaks an assertion.

The change is made in a transaction and the engine is asked before and within it. So one mechanism
serves whatever changes the answers: rules, command sets, groups, devices; forms, deletions and
actions on lists.
"""

from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _, ngettext

from acl.analysis.what_if import Consequences, DecisionsBefore
from devices.admin.base.mixins import EDIT
from devices.extension_points import View

TRY, CONFIRMED = "_try", "_confirmed"
# Statuses of the admin's answers after a change; the second one shows a new secret.
HTTP_DONE = (302, 201)
MAX_SHOWN = 100  # on the page
MAX_TOLD = 3  # in a message


def guard(model_admin: "ModelAdmin[Any]", request: HttpRequest, view: View) -> HttpResponse:
    """Make a change and say what follows from it; roll it back where it must be confirmed first."""
    consequences = None
    with transaction.atomic():
        before = DecisionsBefore()
        response = view()
        if response.status_code in HTTP_DONE:
            consequences = before.compare()
            if TRY in request.POST or (consequences.broken and CONFIRMED not in request.POST):
                transaction.set_rollback(True)
                return _page(model_admin, request, consequences)
    if consequences is not None:
        _tell(request, consequences)
    return response


def _page(model_admin: Any, request: HttpRequest, consequences: Consequences) -> HttpResponse:
    list(messages.get_messages(request))  # they speak of what is rolled back
    own = {"csrfmiddlewaretoken", TRY, CONFIRMED, EDIT}
    match = request.resolver_match
    return model_admin.page(
        request,
        "admin/acl/consequences.html",
        messages=[],
        title=_("What would change"),
        consequences=consequences,
        changed_decisions=consequences.changed_decisions[:MAX_SHOWN],
        sent=[
            (name, value)
            for name, values in request.POST.lists()
            if name not in own
            for value in values
        ],
        confirmed=CONFIRMED,
        edit=EDIT if match and str(match.url_name).endswith(("_add", "_change")) else "",
    )


def _tell(request: HttpRequest, consequences: Consequences) -> None:
    if consequences.changed_decisions:
        turned = len(consequences.changed_decisions)
        text = ngettext(
            "%(n)d known answer has changed: %(first)s",
            "%(n)d known answers have changed, such as %(first)s",
            turned,
        )
        first = "; ".join(map(str, consequences.changed_decisions[:MAX_TOLD]))
        messages.info(request, text % {"n": turned, "first": first})
    for broken in consequences.broken:
        messages.warning(request, _("An assertion does not hold any more: %s") % broken)
