"""What the journal adds to other pages of the admin."""

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from devices.extension_points import Panel
from devices.models import Device
from devices.rendering import Tone, badge
from rpc.models import Answer, CallRecord

MAX_ROWS = 10


def answer_badge(row: CallRecord) -> SafeString:
    """Return how what a row counts ended."""
    tone = Tone.GOOD if row.outcome == Answer.ALLOWED else Tone.BAD
    return badge(tone, row.get_outcome_display())


def last_calls(request: HttpRequest, device: Device) -> Panel | None:
    """Return the section of a device's page with its last calls."""
    if not request.user.has_perm("rpc.view_callrecord"):
        return None
    rows = CallRecord.objects.latest_about(device.identifier, MAX_ROWS)
    address = reverse("admin:rpc_callrecord_changelist")
    return Panel(
        _("Last calls"),
        "admin/rpc/last_calls.html",
        {
            "rows": [(row, answer_badge(row)) for row in rows],
            "identifier": device.identifier,
            "connection": CallRecord.objects.latest_connection(device.identifier),
            "all": f"{address}?{urlencode({'q': device.identifier, 'period': 'all'})}",
        },
    )
