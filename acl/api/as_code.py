"""Permissions as code over the API: the whole document, read, planned and applied."""

import re
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from acl import as_code, documents
from acl.api.questions import ConsequencesSerializer
from devices.api.base.permissions import grant_of
from devices.api.base.serializers import CharField, ChoiceField, ListField, Serializer
from devices.api.base.views import ApiView
from devices.database.statements import one_state

READ = (
    "devices.view_device",
    "devices.view_devicegroup",
    "acl.view_commandset",
    "acl.view_commandpermission",
)
WRITE = (
    *READ,
    "devices.change_device",
    *(f"devices.{verb}_devicegroup" for verb in ("add", "change", "delete")),
    *(
        f"acl.{verb}_{model}"
        for model in ("commandset", "commandsetpattern", "commandpermission")
        for verb in ("add", "change", "delete")
    ),
)
PLACE = re.compile(r"((?:groups|command_sets|permissions)\[\d+\][\w.\[\]]*): (.*)", re.DOTALL)


ETAG = OpenApiParameter(
    "ETag",
    location=OpenApiParameter.HEADER,
    response=[200],
    description="Stands for this state of the document.",
)


class DocumentSerializer(Serializer):
    """All groups, command sets and permissions. (docs/permissions.md)"""

    format = ChoiceField(choices=[1])
    groups = ListField(child=serializers.JSONField())
    command_sets = ListField(child=serializers.JSONField())
    permissions = ListField(child=serializers.JSONField())


class AppliedSerializer(Serializer):
    """What an import changed, as lines of a diff, and what that turned."""

    difference = ListField(child=CharField())
    consequences = ConsequencesSerializer()


class PermissionsDocumentView(ApiView):
    """All groups, command sets and rules as one document, as `export_permissions` writes."""

    permissions = {"get": READ, "put": WRITE}

    @extend_schema(
        operation_id="permissions_document_read", responses=DocumentSerializer, parameters=[ETAG]
    )
    def get(self, _request: Request) -> Response:
        """Return the whole document, with an ETag that stands for this state of the registry."""
        self._ask_for_all()
        with one_state():
            document = as_code.export_document()
        return Response(document, headers={"ETag": _tag(document)})

    @extend_schema(
        operation_id="permissions_document_apply",
        request=DocumentSerializer,
        responses=AppliedSerializer,
        parameters=[
            OpenApiParameter(
                "If-Match",
                location=OpenApiParameter.HEADER,
                required=True,
                description="The ETag of the document that was read; of another state nothing is "
                "changed (412).",
            ),
            ETAG,
        ],
    )
    def put(self, request: Request) -> Response:
        """Make the registry what the document says; what it does not name goes.

        With `validate_only=true` it is a plan: the difference, and what it would turn.
        """
        self._ask_for_all()
        with as_code.locked():
            self.check_precondition(_tag(as_code.export_document()), is_needed=True)
            try:
                # Whether broken assertions are accepted, is asked around this view.
                imported = as_code.import_document(request.data, is_watched=True)
            except ValidationError as error:
                raise exceptions.ValidationError(_placed(error.messages)) from None
        return Response(
            {"difference": imported.difference, "consequences": imported.consequences.as_json()},
            headers={"ETag": _tag(as_code.export_document())},
        )

    def _ask_for_all(self) -> None:
        """Refuse a token whose limits name rows or a rate: the document is about everything."""
        grant = grant_of(self.request)
        if grant is not None and any(map(grant.narrows, self.needed_permissions() or ())):
            raise PermissionDenied(_("A limit of the token keeps it to some devices."))


def _tag(document: dict[str, Any]) -> str:
    return f'"{documents.digest_of(documents.dump(document))}"'


def _placed(messages: list[str]) -> dict[str, Any]:
    """Return what is wrong with a document as a tree, each fault where it stands."""
    tree: dict[str, Any] = {}
    for message in messages:
        found = PLACE.match(message)
        path = re.findall(r"\w+", found[1]) if found else []
        inner = tree
        for name in path:
            inner = inner.setdefault(name, {})
        inner.setdefault("non_field_errors", []).append(found[2] if found else message)
    return tree
