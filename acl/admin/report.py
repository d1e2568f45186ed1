"""The report on rules that decide nothing or open everything, and on broken assertions."""

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from acl import assertions, lint
from acl.admin.tester import page
from acl.models import Assertion
from devices.admin.base.pages import OwnPagesMixin


def report_view(model_admin: OwnPagesMixin, request: HttpRequest) -> HttpResponse:
    """List rules that decide nothing or open everything, and assertions that do not hold."""
    chosen = request.GET.get("fault")
    fault = lint.Fault(chosen) if chosen in lint.Fault.values else None
    return page(
        model_admin,
        request,
        "admin/acl/report.html",
        title=_("Report on the rules"),
        **lint.report(fault)._asdict(),
        examined=lint.MAX_EXAMINED,
        faults=lint.Fault,
        chosen=fault,
        may_change=model_admin.has_change_permission(request),
        may_delete=model_admin.has_delete_permission(request),
        broken=assertions.check_saved(),
        assertions=Assertion.objects.count(),
    )
