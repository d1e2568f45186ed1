"""The API's addresses; apps above register their resources in `router` before this is asked."""

from http import HTTPStatus

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt

from devices.api.authorities import AuthorityViewSet, RevocationListViewSet
from devices.api.base import problems
from devices.api.base.routers import router
from devices.api.changes import ChangesView, RestoreView, UndoBatchView, UndoView
from devices.api.credentials import CertificateViewSet, KeyViewSet
from devices.api.devices import DeviceViewSet
from devices.api.groups import GroupViewSet
from devices.api.jobs import JobViewSet
from devices.events.api import EventViewSet

router.register("devices", DeviceViewSet)
router.register("groups", GroupViewSet)
router.register("keys", KeyViewSet)
router.register("certificates", CertificateViewSet)
router.register("trust-anchors", AuthorityViewSet)
router.register("revocation-lists", RevocationListViewSet)
router.register("jobs", JobViewSet)
router.register("events", EventViewSet, basename="events")


@csrf_exempt
@login_not_required
def nothing_here(_request: HttpRequest, **_rest: str) -> HttpResponse:
    """Answer any other address below `/api/v1/`."""
    return problems.answer(
        HTTPStatus.NOT_FOUND, _("There is nothing at this address."), "not-found"
    )


urlpatterns = [
    *router.urls,
    path("changes", ChangesView.as_view(), name="changes"),
    path("changes/restore", RestoreView.as_view(), name="restore"),
    path("changes/undo", UndoView.as_view(), name="undo"),
    path("changes/undo-batch", UndoBatchView.as_view(), name="undo-batch"),
    path("", nothing_here),
    path("<path:rest>", nothing_here),
]
