"""The addresses of the journal and of RTIO, beside those of `devices.api.urls`."""

from devices.api.base.views import router
from rpc.api.calls import CallViewSet
from rpc.api.rtio import RouteViewSet, ServerViewSet, SessionViewSet

router.register("calls", CallViewSet)
router.register("rtio-servers", ServerViewSet)
router.register("rtio-routes", RouteViewSet)
router.register("rtio-sessions", SessionViewSet)

urlpatterns: list[object] = []
