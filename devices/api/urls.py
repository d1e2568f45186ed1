"""The API's addresses; apps above register their resources in `router` before this is asked."""

from django.urls import path

from devices.api.authorities import AuthorityViewSet, RevocationListViewSet
from devices.api.base.problems import nothing_here
from devices.api.base.views import router
from devices.api.changes import ChangesViewSet
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
router.register("changes", ChangesViewSet, basename="changes")
router.register("events", EventViewSet, basename="events")


urlpatterns = [
    *router.urls,
    path("", nothing_here),
    path("<path:rest>", nothing_here),
]
