"""Long work over the API: asked for, followed and cancelled."""

import hashlib
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.fields import SerializerMethodField
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api.base.parsing import BytesParser
from devices.api.base.permissions import grant_of, narrowed
from devices.api.base.problems import Conflict, ParameterError, check_shown
from devices.api.base.serializers import (
    CharField,
    IntegerField,
    ModelSerializer,
    NothingSerializer,
    RowField,
    Serializer,
)
from devices.api.base.views import ACCEPT_BROKEN, ReadMixin, RegistryViewSet
from devices.background.jobs import DELETING, NEEDED, WRITING, sealed
from devices.history.context import current_reason
from devices.models import Device, DeviceGroup, Job
from devices.models.job import MAX_UNFINISHED, REQUIRED, JobKind, JobState, asked_with
from devices.transfer.formats import MAX_BYTES, Format

MAX_DELETED = 200_000  # devices in one job
OPTIONS = ("create_groups", "random", "dry_run")


@extend_schema_field({"type": ["object", "null"]})
class ResultField(serializers.JSONField):
    """What a job came to; null until it is over."""


class JobSerializer(ModelSerializer):
    """A job, and how far it is; `result` is there once it is over."""

    result = ResultField(read_only=True)
    done = SerializerMethodField(
        help_text="Of `total` in this stage. On SQLite null while rows are written: not known."
    )

    class Meta:
        model = Job
        fields = [
            "id",
            "kind",
            "state",
            "reason",
            "stage",
            "done",
            "total",
            "cancel_requested",
            "created",
            "started",
            "finished",
            "result",
            "error",
        ]
        read_only_fields = fields

    def get_done(self, job: Job) -> int | None:
        """Return how far the job is, where that can be written while it changes rows."""
        if job.state == JobState.DONE and job.total is not None:
            return job.total  # what was written last, it wrote before it was through
        writes = job.state == JobState.RUNNING and job.stage in {WRITING, DELETING}
        return None if writes and connection.vendor == "sqlite" else job.done


class DeletionJobSerializer(JobSerializer):
    """A job that was asked for to delete devices."""

    digest = CharField(read_only=True, help_text="Of which devices are deleted.")

    class Meta(JobSerializer.Meta):
        fields = [*JobSerializer.Meta.fields, "digest"]


class DeletionSerializer(Serializer):
    """Which devices are deleted: those for which all holds that is said here."""

    group = RowField(
        queryset=DeviceGroup.objects.all(), required=False, help_text="They are in it itself."
    )
    group_or_below = RowField(
        queryset=DeviceGroup.objects.all(),
        required=False,
        help_text="They are in it or in a group that lies in it.",
    )
    identifier_prefix = CharField(required=False)
    expected = IntegerField(
        min_value=1,
        max_value=MAX_DELETED,
        help_text="How many there are, as the client knows it; with another number none is.",
    )

    digest = CharField(
        required=False,
        help_text="Of which devices they are, as `validate_only=true` told it: no others go.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.keys() & {"group", "group_or_below", "identifier_prefix"}:
            raise ValidationError(_("Name a group, how identifiers begin, or both."))
        return attrs


class JobViewSet(ReadMixin, RegistryViewSet):
    """Jobs of this token: done in the order in which they were asked for, whole or not at all."""

    queryset = Job.objects.defer("content")
    serializer_class = JobSerializer
    ordering = "-pk"
    asks_guards = False  # the job asks them
    max_body = MAX_BYTES
    permissions = {
        "list": (),
        "retrieve": (),
        "cancel": (),
        "import_devices": REQUIRED[JobKind.IMPORT_DEVICES],
        "delete_devices": REQUIRED[JobKind.DELETE_DEVICES],
    }
    parameters = {
        "import_devices": ("format", *OPTIONS, ACCEPT_BROKEN),
        "delete_devices": (ACCEPT_BROKEN,),
    }

    def get_queryset(self) -> QuerySet[Job]:
        return Job.objects.defer("content").filter(asked_with=self._asks)

    @property
    def _asks(self) -> str:
        grant: Any = grant_of(self.request)
        return asked_with(self.request.user if grant is None else grant)

    @extend_schema(
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses={202: JobSerializer},
        parameters=[
            OpenApiParameter("format", str, enum=Format.values, required=True),
            *(OpenApiParameter(name, bool) for name in OPTIONS),
        ],
    )
    @action(detail=False, methods=["post"], url_path="import-devices", parser_classes=[BytesParser])
    def import_devices(self, request: Request, **_kwargs: Any) -> Response:
        """Import the file that is the body: CSV, JSON, NDJSON or XLSX, up to 64 MiB.

        The file is kept encrypted until the job is over. `dry_run=true` only checks it.
        """
        kind = request.query_params.get("format")
        if kind not in Format.values:
            raise ParameterError("format", _("Write csv, json, ndjson or xlsx."))
        if not request.data:
            raise ValidationError(_("The body is empty: send the file."))
        grant = grant_of(request)
        needed = (*(self.needed_permissions() or ()), *NEEDED.values())
        if grant is not None and any(map(grant.narrows, needed)):
            raise PermissionDenied(_("A limit of the token keeps it to some devices."))
        file: Any = request.data
        pepper, content = sealed(file)
        return self._asked(
            JobKind.IMPORT_DEVICES,
            content=content,
            pepper=pepper,
            parameters={
                "format": kind,
                **{name: self.flag(name) for name in OPTIONS},
                "may": [one for one in NEEDED.values() if self.may(one)],
            },
        )

    @extend_schema(request=DeletionSerializer, responses={202: DeletionJobSerializer})
    @action(detail=False, methods=["post"], url_path="delete-devices")
    def delete_devices(self, request: Request, **_kwargs: Any) -> Response:
        """Delete the devices that are there now, with what hangs on them."""
        said = self.asked(DeletionSerializer)
        chosen: Any = narrowed(request, Device.objects.all())
        if "group" in said:
            chosen = chosen.filter(groups=said["group"])
        if "group_or_below" in said:
            chosen = chosen.in_group_or_below(said["group_or_below"].pk)
        if "identifier_prefix" in said:
            chosen = chosen.filter(identifier__startswith=said["identifier_prefix"])
        keys = list(chosen.order_by("pk").values_list("pk", flat=True)[: MAX_DELETED + 1])
        if len(keys) != said["expected"]:
            raise Conflict(
                _("There are %(count)d such devices, not %(expected)d.")
                % {"count": len(keys), "expected": said["expected"]},
                code="unexpected-count",
            )
        digest = hashlib.sha256(repr(keys).encode()).hexdigest()
        check_shown(said, digest)
        named = Device.objects.filter(pk__in=chosen.order_by().values("pk"))
        self.check_deletable(named)
        grant = grant_of(request)
        if grant is not None and grant.narrows("devices.delete_device"):
            self.count_use(chosen)
        response = self._asked(JobKind.DELETE_DEVICES, parameters={"devices": keys})
        response.data["digest"] = digest
        return response

    @extend_schema(request=None, responses=JobSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_kwargs: Any) -> Response:
        """End a job so that it changes nothing; one that is over stays as it is."""
        self.asked(NothingSerializer)
        job = self.get_object()
        job.cancel(timezone.now())
        return self.row_response(job)

    def _asked(self, kind: JobKind, *, parameters: dict[str, Any], **fields: Any) -> Response:
        mine = Job.objects.unfinished().filter(asked_with=self._asks)
        if mine.count() >= MAX_UNFINISHED:
            raise Conflict(
                _("%(most)d jobs wait or run already.") % {"most": MAX_UNFINISHED}, code="too-many"
            )
        owner: Any = self.request.user
        job = Job.objects.create(
            kind=kind,
            owner=owner,
            asked_with=self._asks,
            reason=current_reason(),
            parameters={**parameters, "accept_broken": self.flag(ACCEPT_BROKEN)},
            **fields,
        )
        response = self.created(job)
        response.status_code = HTTPStatus.ACCEPTED
        return response
