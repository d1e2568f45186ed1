"""The history over the API: what changed, latest first; and how a change is undone."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.db.models import Q
from django.utils.translation import gettext as _
from django_filters.rest_framework import FilterSet
from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSetMixin

from devices.api.base.filters import KEY, CharFilter, KeyFilter, MomentFilter, check
from devices.api.base.pagination import limit_of
from devices.api.base.permissions import demand, grant_of, narrowed
from devices.api.base.problems import Conflict, ParameterError, check_shown
from devices.api.base.serializers import (
    CharField,
    ChoiceField,
    DateTimeField,
    IntegerField,
    Serializer,
    UUIDField,
)
from devices.api.base.views import ApiView
from devices.history import ChangeType, Origin, all_histories, timeline, undoing, visible_to
from devices.history.models import permission_to
from devices.history.timeline import Cursor
from devices.models import Device


class FieldChangeSerializer(Serializer):
    """What a field said before and says now, as staff read it."""

    field = CharField()
    name = CharField()
    old = CharField()
    new = CharField()


class ChangeSerializer(Serializer):
    """A change of a row: who made it, from where and why."""

    id = IntegerField(source="change.history_id", help_text="Among the changes of its model.")
    moment = DateTimeField(source="change.history_date")
    kind = ChoiceField(choices=ChangeType.choices)
    model = CharField(source="model._meta.label_lower")
    row = IntegerField(allow_null=True)
    subject = CharField()
    user = CharField(source="change.history_user_id")
    origin = ChoiceField(choices=Origin.choices)
    reason = CharField(source="change.history_change_reason")
    request = CharField(source="change.request")
    batch = UUIDField(source="change.batch", allow_null=True, help_text="What it was changed with.")
    fields_changed = FieldChangeSerializer(source="fields", many=True)


class ChangesSerializer(Serializer):
    """A page of changes, latest first."""

    next = CharField(allow_null=True, help_text="Where the older ones are.")
    results = ChangeSerializer(many=True)


class ChangeNameSerializer(Serializer):
    """A change, as the list of changes names it."""

    model = CharField(help_text="Such as devices.device.")
    id = IntegerField(min_value=1, max_value=2**63 - 1)


class UndoneSerializer(Serializer):
    """A row that was set back, and each field as it was and as it is now."""

    model = CharField()
    row = IntegerField()
    fields_changed = FieldChangeSerializer(many=True)


class BatchSerializer(Serializer):
    """What one request, command or import changed, by the `batch` of its changes."""

    batch = UUIDField()
    digest = CharField(
        required=False, help_text="As `validate_only=true` told it: nothing else is undone."
    )


class LeftSerializer(Serializer):
    """How many rows stay as they are, and why."""

    why = CharField()
    rows = IntegerField()


class UndoneBatchSerializer(Serializer):
    """How many rows are as they were before, and what is left."""

    undone = IntegerField()
    digest = CharField(help_text="Of which rows, fields and memberships were undone.")
    left = LeftSerializer(many=True)


VERBS = ("view", "change", "delete")  # what undoing a batch may need


class ChangesFilters(FilterSet):
    device = KeyFilter()
    row = KeyFilter()
    user = CharFilter(takes_empty=True)  # what no account did
    since = MomentFilter()
    until = MomentFilter()


class ChangesViewSet(ViewSetMixin, ApiView):
    """Changes of rows that the account may see, latest first.

    `model` (such as `devices.device`) with `row` names a row, `device` all that is a device's,
    `user` whose changes, `since` and `until` from when.
    """

    names_row = True
    # Those on each history say whether it is read, those on its model whether a change is undone.
    permissions = {"list": (), "restore": (), "undo": (), "undo_batch": ()}
    parameters = {"list": ("cursor", "limit", "model", *ChangesFilters.base_filters)}

    @extend_schema(
        responses=forced_singular_serializer(ChangesSerializer),
        parameters=[
            OpenApiParameter("model", str, description="Such as devices.device."),
            OpenApiParameter("row", KEY, description="The key of a row of the model."),
            OpenApiParameter("device", KEY, description="All that is a device's."),
            OpenApiParameter("user", str, description="Whose changes; empty: of no account."),
            OpenApiParameter("since", OpenApiTypes.DATETIME, description="From then on."),
            OpenApiParameter("until", OpenApiTypes.DATETIME, description="Before then."),
        ],
    )
    def list(self, request: Request) -> Response:
        """Return a page of changes, and the cursor of the next one."""
        filters = ChangesFilters(request.query_params, queryset=Device.objects.none())
        check(filters)
        where = self._where(request, filters.form.cleaned_data)
        text = request.query_params.get("cursor")
        after = None if text is None else Cursor.read(text)
        if text is not None and after is None:
            raise ParameterError("cursor", _("Take a cursor from the answer before."))
        page = timeline.latest(where, limit_of(request), after)
        changes = ChangeSerializer(page.entries, many=True)
        return Response({"next": self._next(request, page.older), "results": changes.data})

    @extend_schema(request=ChangeNameSerializer, responses=UndoneSerializer)
    @action(detail=False, methods=["post"])
    def restore(self, request: Request) -> Response:
        """Set a row back to what it said after a change, whatever was changed since.

        The permissions to change such rows and to read their history are needed.
        """
        return self._set_back(request, undoes_change=False)

    @extend_schema(request=ChangeNameSerializer, responses=UndoneSerializer)
    @action(detail=False, methods=["post"])
    def undo(self, request: Request) -> Response:
        """Undo one change of a row, as far as what it wrote still stands.

        The permissions to change such rows and to read their history are needed.
        """
        return self._set_back(request, undoes_change=True)

    @extend_schema(request=BatchSerializer, responses=UndoneBatchSerializer)
    @action(detail=False, methods=["post"], url_path="undo-batch")
    def undo_batch(self, request: Request) -> Response:
        """Undo what one request, command or import changed, as far as nothing changed it since.

        Rows that the account may not change or delete, or whose history it may not read, are left.
        """
        asked, grant = self.asked(BatchSerializer), grant_of(request)
        number = asked["batch"]
        visible = self._visible()
        if not any(one.objects.filter(batch=number).exists() for one in visible):
            raise NotFound
        touched = [permission_to(verb, one.instance_type) for one in visible for verb in VERBS]
        if grant is not None and any(map(grant.narrows, touched)):
            raise PermissionDenied(_("A limit of the token keeps it to some devices."))

        plan = undoing.plan(number, self, lock=True)
        if plan is None:
            raise Conflict(_("It has too many changes to be undone here."), code="too-many")
        digest = plan.digest
        check_shown(asked, digest)
        for model, rows in plan.deleted.items():
            self.check_deletable(model._default_manager.filter(pk__in=[row.pk for row in rows]))
        with self.because(undoing.batch_reason(self._reason())):
            undoing.apply(plan)
        left = [{"why": one.why, "rows": len(one.names)} for one in plan.left]
        return Response({"undone": plan.total, "digest": digest, "left": left})

    @staticmethod
    def _next(request: Request, older: Cursor | None) -> str | None:
        if older is None:
            return None
        parameters = request.query_params.copy()
        parameters["cursor"] = str(older)
        return f"{request.build_absolute_uri(request.path)}?{parameters.urlencode()}"

    def _visible(self) -> Sequence[Any]:
        """Return the histories that the request may read; raises PermissionDenied for none."""
        if visible := visible_to(self):
            return visible
        text = _("To see changes, a permission such as %(name)s is needed.")
        raise PermissionDenied(text % {"name": "devices.view_historicaldevice"})

    def _where(self, request: Request, asked: dict[str, Any]) -> dict[Any, Q]:
        visible = {one: self._reached(request, one) for one in self._visible()}
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
        if "user" in request.query_params:
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

    def _set_back(self, request: Request, *, undoes_change: bool) -> Response:
        asked = self.asked(ChangeNameSerializer)
        model = self._model(asked["model"])
        try:
            way = undoing.reversal_of(model, asked["id"], undoes_change=undoes_change)
        except ObjectDoesNotExist:
            raise NotFound from None
        if not narrowed(request, model._default_manager.filter(pk=way.row.pk)).exists():
            raise NotFound
        preview = way.preview()
        if not preview:
            raise Conflict(
                _("Nothing is left of it to be set back: the row says so, or something newer."),
                code="nothing-to-do",
            )
        self.count_use([way.row], permission_to("change", model))
        if (error := way.check()) is not None:
            raise error
        with self.because(way.reason(self._reason())):
            way.apply()
        self.check_reached(model, [way.row.pk])
        fields = [one._asdict() for one in preview]
        return Response(
            {"model": model._meta.label_lower, "row": way.row.pk, "fields_changed": fields}
        )

    def _model(self, label: str) -> Any:
        """Return the model of the label; raises ValidationError or PermissionDenied."""
        found = {one.instance_type._meta.label_lower: one for one in all_histories()}
        historical = found.get(label)
        if historical is None or not getattr(historical.instance_type, "restored_fields", ()):
            raise ValidationError({"model": [_("No change of such rows can be undone.")]})
        model = historical.instance_type
        demand(self.request, permission_to("view", historical), permission_to("change", model))
        return model


def _both(visible: dict[Any, Q], wanted: dict[Any, Q]) -> dict[Any, Q]:
    return {one: condition & wanted[one] for one, condition in visible.items() if one in wanted}
