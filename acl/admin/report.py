"""The report on rules that decide nothing or open everything, and on broken assertions."""

from itertools import islice
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from acl import assertions
from acl.admin.tester import page
from acl.lint import Fault, lint, suspects
from acl.models import Assertion

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

MAX_EXAMINED = 2_000  # rules; the command examines all
MAX_FINDINGS = 200


def report_view(model_admin: "ModelAdmin[Any]", request: HttpRequest) -> HttpResponse:
    """List rules that decide nothing or open everything, and assertions that do not hold."""
    now = timezone.now()
    fault = Fault(request.GET["fault"]) if request.GET.get("fault") in Fault.values else None
    rules = suspects(fault, now=now)
    found = lint(rules, now=now, most=MAX_EXAMINED)
    matching = (one for one in found if fault in {None, one.fault})
    findings = list(islice(matching, MAX_FINDINGS + 1))
    return page(
        model_admin,
        request,
        "admin/acl/report.html",
        title=_("Report on the rules"),
        findings=findings[:MAX_FINDINGS],
        is_cut=len(findings) > MAX_FINDINGS,
        is_partial=rules.order_by("pk").values("pk")[MAX_EXAMINED : MAX_EXAMINED + 1].exists(),
        examined=MAX_EXAMINED,
        faults=Fault,
        chosen=fault,
        may_change=model_admin.has_change_permission(request),
        may_delete=model_admin.has_delete_permission(request),
        broken=assertions.check_saved(),
        assertions=Assertion.objects.count(),
    )
