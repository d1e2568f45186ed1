"""The history over the API: what changed, latest first."""

from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api.filters import KeyFilter, MomentFilter, UnusableParameters
from devices.api.pagination import KeyPagination
from devices.api.permissions import grant_of, may, narrowed
from devices.api.problems import ParameterError
from devices.api.serializers import CharField, ChoiceField, DateTimeField, IntegerField, Serializer
from devices.api.views import ApiView
from devices.history import ChangeType, Origin, all_histories, timeline
from devices.history.timeline import Cursor, Entry
from devices.models import Device


class FieldChangeSerializer(Serializer):
    """What a field said before and says now, as staff read it."""

    field = CharField()
    name = CharField()
    old = CharField()
    new = CharField()


class ChangeSerializer(Serializer):
    """A change of a row: who made it, from where and why."""

    moment = DateTimeField(source="change.history_date")
    kind = ChoiceField(choices=ChangeType.choices)
    model = CharField(source="label")
    row = IntegerField(source="row_key", allow_null=True)
    subject = CharField()
    user = CharField(source="change.history_user_id")
    origin = ChoiceField(choices=Origin.choices)
    reason = CharField(source="change.history_change_reason")
    request = CharField(source="change.request")
    fields_changed = FieldChangeSerializer(source="fields", many=True)


class ChangesSerializer(Serializer):
    """A page of changes, latest first."""

    next = CharField(allow_null=True, help_text="Where the older ones are.")
    results = ChangeSerializer(many=True)


FILTERS: dict[str, Any] = {
    "device": KeyFilter(),
    "row": KeyFilter(),
    "since": MomentFilter(),
    "until": MomentFilter(),
}


class ChangesView(ApiView):
    """Changes of rows that the account may see, latest first.

    `model` (such as `devices.device`) with `row` names a row, `device` all that is a device's,
    `user` whose changes, `since` and `until` from when.
    """

    parameters = {"get": ("cursor", "limit", "model", "user", *FILTERS)}

    def needed_permissions(self) -> tuple[str, ...]:
        """Return none: which histories are read, the permissions on each say."""
        return ()

    @extend_schema(
        operation_id="changes_list",
        responses=ChangesSerializer,
        parameters=[
            OpenApiParameter("cursor", str),
            OpenApiParameter("limit", int),
            OpenApiParameter("model", str, description="Such as devices.device."),
            OpenApiParameter("row", int, description="The key of a row of the model."),
            OpenApiParameter("device", int, description="All that is a device's."),
            OpenApiParameter("user", str),
            OpenApiParameter("since", OpenApiTypes.DATETIME),
            OpenApiParameter("until", OpenApiTypes.DATETIME),
        ],
    )
    def get(self, request: Request) -> Response:
        """Return a page of changes, and the cursor of the next one."""
        asked = {**self._values(request), "user": request.query_params.get("user")}
        where = self._where(request, asked)
        text = request.query_params.get("cursor")
        after = None if text is None else Cursor.read(text)
        if text is not None and after is None:
            raise ParameterError("cursor", _("Take a cursor from the answer before."))
        page = timeline.latest(where, KeyPagination().get_page_size(request), after)
        changes = ChangeSerializer([_shown(one) for one in page.entries], many=True)
        return Response({"next": self._next(request, page.older), "results": changes.data})

    @staticmethod
    def _next(request: Request, older: Cursor | None) -> str | None:
        if older is None:
            return None
        parameters = request.query_params.copy()
        parameters["cursor"] = str(older)
        return f"{request.build_absolute_uri(request.path)}?{parameters.urlencode()}"

    def _values(self, request: Request) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, one in FILTERS.items():
            form = one.field
            form.required = False
            try:
                values[name] = form.clean(request.query_params.get(name))
            except ValidationError as error:
                raise UnusableParameters(
                    errors=[{"parameter": name, "detail": text} for text in error.messages]
                ) from None
        return values

    def _where(self, request: Request, asked: dict[str, Any]) -> dict[Any, Q]:
        visible = {
            one: self._reached(request, one) for one in all_histories() if _may_read(request, one)
        }
        if not visible:
            raise PermissionDenied
        if asked["device"] is not None:
            visible = _both(visible, timeline.of(Device, asked["device"]))
        if (name := request.query_params.get("model")) is not None:
            named = {one: Q() for one in visible if one.instance_type._meta.label_lower == name}
            if not named:
                raise ParameterError("model", _("There are no changes of such rows to be seen."))
            visible = _both(visible, named)
        if asked["row"] is not None:
            if name is None:
                raise ParameterError("row", _("Name the model, too."))
            visible = {one: condition & Q(id=asked["row"]) for one, condition in visible.items()}
        more = Q()
        if asked["user"] is not None:
            more &= Q(history_user_id=asked["user"])
        if asked["since"] is not None:
            more &= Q(history_date__gte=asked["since"])
        if asked["until"] is not None:
            more &= Q(history_date__lt=asked["until"])
        return {one: condition & more for one, condition in visible.items()}

    @staticmethod
    def _reached(request: Request, historical: Any) -> Q:
        """Return the condition of what the token reaches; a deleted row is reached by none."""
        if grant_of(request) is None:
            return Q()
        model: Any = Device if historical.is_link else historical.instance_type
        rows = model._default_manager.all()
        reached = narrowed(request, rows)
        if reached is rows:
            return Q()
        own = "device" if historical.is_link else "id"
        return Q(**{f"{own}__in": reached.order_by().values("pk")})


def _may_read(request: Request, historical: Any) -> bool:
    meta = historical._meta
    return may(request, f"{meta.app_label}.view_{meta.model_name}")


def _both(visible: dict[Any, Q], wanted: dict[Any, Q]) -> dict[Any, Q]:
    return {one: condition & wanted[one] for one, condition in visible.items() if one in wanted}


def _shown(entry: Entry) -> dict[str, Any]:
    change = entry.change
    columns = {capfirst(str(one.verbose_name)): one.attname for one in change.tracked_fields}
    return {
        "change": change,
        "kind": entry.kind,
        "label": entry.model._meta.label_lower,
        "row_key": None if change.is_link else change.id,
        "subject": entry.subject,
        "origin": entry.origin,
        "fields": [{"field": columns[one.name], **one._asdict()} for one in entry.fields],
    }
