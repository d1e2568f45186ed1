"""What every resource of `/api/v1/` does alike.

`ApiView` is for operations, `RegistryViewSet` for rows. A request that may change something runs in
one transaction: the account and its reason are put into the history, what watches over changes is
asked before and after it, its Idempotency-Key keeps the answer, and `validate_only=true` takes
everything back. A view does what it is asked and need not know of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models, transaction
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _
from rest_framework import mixins
from rest_framework.exceptions import MethodNotAllowed, NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.serializers import BaseSerializer
from rest_framework.status import is_success
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from devices import history
from devices.api.base import problems
from devices.api.base.filters import Backend
from devices.api.base.idempotency import HEADER as IDEMPOTENCY_KEY, Claim
from devices.api.base.pagination import KeyPagination
from devices.api.base.parsing import MAX_BYTES, JsonParser
from devices.api.base.permissions import IsPermitted, grant_of, may, model_permissions, narrowed
from devices.api.base.serializers import NothingSerializer, ReasonSerializer
from devices.api.base.throttling import TokenThrottle
from devices.api.base.versions import describes, entity_tags, matches, version_of
from devices.database import confirmation
from devices.database.turns import hold
from devices.extension_points import WATCHES, Consequences
from devices.history.context import ReasonTooLong, check_reason
from devices.models.dependants import dependants, not_deletable
from devices.values.text import hidden_in

READING = frozenset({"GET", "HEAD"})
REASON = "Change-Reason"
# Of an answer: committed on the primary, but a standby may answer from before it for a while.
UNCONFIRMED = "Not-Confirmed-By-Standbys"
VALIDATE_ONLY, ACCEPT_BROKEN = "validate_only", "accept_broken_assertions"


# The one registry of the API's resources: each app registers its own in its `api.urls`.
router = SimpleRouter(trailing_slash=False, use_regex_path=False)


class Renderer(JSONRenderer):
    """JSON in UTF-8, whatever else a client would accept."""

    charset = None


class Negotiation(DefaultContentNegotiation):
    """Takes an empty `Accept` header as none; answers others that do not fit with what there is."""

    def get_accept_list(self, request: Request) -> list[str]:
        """Return the types without parameters: none is served, and Python fails on some."""
        tokens = super().get_accept_list(request)
        return [token.partition(";")[0].strip() for token in tokens]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        if not request.headers.get("Accept", "").strip(" \t,"):
            return renderers[0], renderers[0].media_type
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            kinds = ", ".join(renderer.media_type for renderer in renderers)
            text = _("Name one of these in the Accept header, or leave it out: %(kinds)s.")
            raise NotAcceptable(text % {"kinds": kinds}) from None


class ApiView(APIView):
    """An operation. `permissions` says what each needs, by action or by method in lower case."""

    renderer_classes: Any = [Renderer]
    content_negotiation_class: Any = Negotiation
    parser_classes: Any = [JsonParser]
    permission_classes: Any = [IsPermitted]
    throttle_classes: Any = [TokenThrottle]
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    max_body = MAX_BYTES

    permissions: ClassVar[Mapping[str, Sequence[str]]] = {}
    parameters: ClassVar[Mapping[str, Sequence[str]]] = {}  # of an address, by operation
    asks_guards = True  # whether what it does can turn a decision about commands
    recorded: ClassVar[frozenset[str]] = frozenset()  # operations that are never only tried
    names_row = False  # whether a body names a row that there may not be; an address, by its `{id}`
    changing = False  # whether this request runs in a transaction of its own
    is_compared = False  # whether its If-Match was

    @property
    def operation(self) -> str:
        """What is asked, as `permissions` names it; HEAD asks what GET does."""
        method = (self.request.method or "").lower()
        return getattr(self, "action", None) or ("get" if method == "head" else method)

    def needed_permissions(self) -> Sequence[str] | None:
        """Return the permissions of the operation; None for one that nobody may ask for."""
        return self.permissions.get(self.operation)

    def known_parameters(self) -> set[str]:
        known = set(self.parameters.get(self.operation, ()))
        if self.request.method not in READING:
            known |= {VALIDATE_ONLY, ACCEPT_BROKEN}
        return known if self.operation not in self.recorded else known - {VALIDATE_ONLY}

    def get_exception_handler(self) -> Callable[..., Any]:
        return problems.handle

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse what cannot be answered; let what changes something run in a transaction."""
        if "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower():
            # Django takes such a body for an empty one.
            text = _("Send the body with a Content-Length, not in chunks.")
            raise problems.Problem(text, "length-required", HTTPStatus.LENGTH_REQUIRED)
        coding = request.headers.get("Content-Encoding", "identity")
        if coding.lower() != "identity":
            text = _("Send the body as it is, without Content-Encoding.")
            status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
            raise problems.Problem(text, "unsupported-content-encoding", status)
        method = (request.method or "").lower()
        if method not in self.http_method_names or not hasattr(self, method):
            raise MethodNotAllowed(str(request.method))
        super().initial(request, *args, **kwargs)
        self._check_parameters(request)
        if request.method not in READING:
            setattr(self, method, partial(self._change, getattr(self, method)))

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Forbid caches to keep an answer: some hold secrets, and all are about this moment."""
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers["Cache-Control"] = "no-store"
        row = getattr(response, "data", None)
        if isinstance(row, Mapping) and "etag" in row:
            response.headers.setdefault("ETag", row["etag"])
        if confirmation.take_unconfirmed():
            response.headers[UNCONFIRMED] = "true"
        return response

    def handle_exception(self, exc: Exception) -> Response:
        converted = problems.as_api_exception(exc)
        return super().handle_exception(exc if converted is None else converted)

    def may(self, permission: str) -> bool:
        return may(self.request, permission)

    has_perm = may  # the name that it has for accounts

    def get_username(self) -> str:
        """Return who asks, likewise."""
        user: Any = self.request.user
        return str(user.get_username())

    def check_deletable(self, rows: QuerySet[Any]) -> None:
        """Raise PermissionDenied where something goes with rows that may not be deleted."""
        if lacking := not_deletable(dependants(rows), self):
            text = _("Something goes with it that you may not delete: %(names)s.")
            raise PermissionDenied(text % {"names": ", ".join(lacking)})

    def asked(self, serializer_class: type[BaseSerializer[Any]]) -> dict[str, Any]:
        """Return what the body says, as a serializer reads it; raises ValidationError."""
        context = {"request": self.request, "view": self}
        serializer = serializer_class(data=self.request.data, context=context)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def flag(self, name: str) -> bool:
        """Return whether the address says true; raises ParameterError where it says neither."""
        value = self.request.query_params.get(name, "false")
        if value not in {"true", "false"}:
            raise problems.ParameterError(name, _("Write true or false."))
        return value == "true"

    def count_use(self, rows: Iterable[Model], *permissions: str) -> None:
        """Count the use of permissions, the operation's unless named, where the token has a rate.

        In the transaction of the change, so that what fails or is only tried spends nothing; on
        rows as they were before a change, on new ones as they are.
        """
        grant = grant_of(self.request)
        if grant is not None:
            rows = list(rows)
            for permission in permissions or self.needed_permissions() or ():
                grant.count_use(permission, rows)

    def check_precondition(self, version: str, *, is_needed: bool) -> None:
        """Refuse to change what is not as the client knows it (`If-Match`)."""
        header = self.request.headers.get("If-Match")
        if header is None:
            if is_needed:
                text = _(
                    "Send If-Match with the ETag of the row that you read, so that nobody's "
                    "change is lost."
                )
                status = HTTPStatus.PRECONDITION_REQUIRED
                raise problems.Problem(text, "precondition-required", status)
            return
        if entity_tags(header) is None:
            raise problems.HeaderError(
                "If-Match", _("Write the ETag of what is changed, in its quotes.")
            )
        if not matches(header, version):
            raise problems.Stale
        self.is_compared = True

    def _check_heeded(self) -> None:
        """Refuse an If-Match that nothing was compared with; `*` asks for no version (RFC 9110)."""
        if not self.is_compared and self.request.headers.get("If-Match") not in {None, "*"}:
            text = _("What is changed here has no ETag: leave it out.")
            raise problems.HeaderError("If-Match", text)

    def check_reached(self, model: type[Model], keys: Iterable[int]) -> None:
        """Raise PermissionDenied where rows are beyond what the token reaches, as they are now."""
        if grant_of(self.request) is not None:
            wanted = set(keys)
            rows: QuerySet[Any] = model._default_manager.filter(pk__in=wanted)
            if narrowed(self.request, rows).count() != len(wanted):
                raise PermissionDenied(_("No limit of the token allows this."))

    def because(self, said: str = "", *, field: str = "") -> AbstractContextManager[None]:
        """Put into the history who asks and why; the name of the token stands before the reason.

        Where nothing is said, the header's reason is kept. One that is too long is told of the
        field of the body that says it, else of the header.
        """
        token = f"[{self.request.auth}]" if self.request.auth is not None else ""
        reason = " ".join(filter(None, (token, said.strip() or self._reason().strip())))
        try:
            check_reason(reason)
        except ReasonTooLong as error:
            if field:
                raise ValidationError({field: error}) from None
            raise problems.HeaderError(REASON, " ".join(error.messages)) from None
        return history.origin(history.Origin.API, user=self.request.user, reason=reason)

    def _reason(self) -> str:
        raw = self.request.headers.get(REASON, "")
        try:
            said = raw.encode("latin-1").decode()
        except UnicodeError:
            said = raw
        if hidden_in(said):
            raise problems.HeaderError(REASON, _("Write a line of text."))
        return said

    def _check_parameters(self, request: Request) -> None:
        known = self.known_parameters()
        for name in request.query_params:
            if name not in known:
                text = _("There is no such parameter here. There are: %(known)s.")
                listed = ", ".join(sorted(known)) or "—"
                raise problems.ParameterError(name, text % {"known": listed})
            if len(request.query_params.getlist(name)) > 1:
                raise problems.ParameterError(name, _("It stands twice in the address."))

    def _change(
        self, handler: Callable[..., Response], request: Request, *args: Any, **kw: Any
    ) -> Response:
        """Run the handler in a transaction, once for an Idempotency-Key; roll back refusals."""
        key = request.headers.get(IDEMPOTENCY_KEY)
        validate_only = self.flag(VALIDATE_ONLY)
        accept_broken = self.flag(ACCEPT_BROKEN)
        claim = None
        if key is not None and not validate_only:
            claim = Claim(request, key)
            if (answer := claim.take()) is not None:
                return answer
        self.changing = True
        try:
            with transaction.atomic(), self.because():
                watches = [watch() for watch in WATCHES] if self.asks_guards else []
                response = handler(request, *args, **kw)
                self._check_heeded()
                is_done = is_success(response.status_code)
                consequences = [compare() for compare in watches] if is_done else []
                if validate_only:
                    transaction.set_rollback(True)
                    return Response(_described(response, consequences))
                if not accept_broken:
                    _refuse_broken(consequences)
                if claim is not None:
                    claim.keep(response)
        except BaseException:
            if claim is not None:
                claim.release()
            raise
        return response


def _refuse_broken(consequences: Sequence[Consequences]) -> None:
    """Raise Conflict where an assertion would not hold any more; the admin asks there."""
    if any(one.broken for one in consequences):
        raise problems.Conflict(
            _(
                "An assertion would not hold any more; nothing was changed. Send "
                "accept_broken_assertions=true if that is meant."
            ),
            code="assertion-broken",
            consequences=[one.as_json() for one in consequences],
        )


def _described(response: Response, consequences: Sequence[Consequences]) -> dict[str, Any]:
    """Return the answer and the consequences of a change that was rolled back."""
    return {
        "valid": True,
        "status": response.status_code,
        "result": without_secrets(response.data),
        "consequences": [one.as_json() for one in consequences],
    }


def without_secrets(value: Any) -> Any:
    """Return an answer without the secrets in it: what was rolled back has none."""
    if isinstance(value, Mapping):
        return {name: without_secrets(one) for name, one in value.items() if name != "secret"}
    if isinstance(value, list | tuple):
        return [without_secrets(one) for one in value]
    return value


class RegistryViewSet(ApiView, GenericViewSet):
    """Rows of a model: what reads and changes them is added by DRF's mixins, or the ones below."""

    filter_backends: Any = [Backend]
    pagination_class: Any = KeyPagination
    ordering = "pk"
    lookup_value_converter = "int"
    unnamed_fields: ClassVar[frozenset[str]] = frozenset()  # operations that take no `fields=`

    def needed_permissions(self) -> Sequence[str] | None:
        """Return the permissions of the operation: the view's own, or else those of the model."""
        own = self.permissions.get(self.operation)
        return own if own is not None else model_permissions(self.model).get(self.operation)

    @property
    def model(self) -> type[Model]:
        view: Any = self  # whose rows are a query set once they are declared
        return view.queryset.model

    def known_parameters(self) -> set[str]:
        """Add what lists are filtered and paged by, and `fields` of what is read."""
        known = super().known_parameters()
        if self.request.method in READING and self.operation not in self.unnamed_fields:
            known.add("fields")
        if self.operation == "list":
            known |= {"cursor", "limit"}
        if self.operation in {"list", "export"}:
            known |= {*getattr(getattr(self, "filterset_class", None), "base_filters", ())}
            known |= {*getattr(self, "filterset_fields", ())}
        return known

    def get_queryset(self) -> QuerySet[Any]:
        return narrowed(self.request, super().get_queryset())

    def get_serializer_context(self) -> dict[str, Any]:
        """Add which fields the answer is to have."""
        context = {**super().get_serializer_context()}
        named = self.request.query_params.get("fields") if self.request else None
        if named is not None and self.request.method in READING:
            context["only"] = self._only(set(named.split(",")))
        return context

    def _only(self, wanted: set[str]) -> set[str]:
        serializer: Any = self.get_serializer_class()
        known = set(serializer(context={"view": self}).fields)
        if unknown := wanted - known:
            text = _("There is no field “%(name)s”. There are: %(known)s.")
            said = {"name": min(unknown)[:100], "known": ", ".join(sorted(known))}
            raise problems.ParameterError("fields", text % said)
        return wanted

    def get_object(self) -> Any:
        """Return the row; one that is changed as `held` does, and counted."""
        row = self.held()
        if self.changing:
            self.count_use([row])
        return row

    def held(self, *, changes: bool = True) -> Any:
        """Return the row; one that is changed under its lock, and only as the client knows it.

        `changes` is False where only what belongs to it is changed (`hold`).
        """
        row = super().get_object()
        if not self.changing:
            return row
        hold(type(row), [row.pk], changes=changes)
        row = super().get_object()
        is_needed = self.operation in {"partial_update", "destroy"}
        self.check_precondition(self.version(row), is_needed=is_needed)
        return row

    def version(self, row: Model) -> str:
        meta = getattr(self.get_serializer_class(), "Meta", None)
        return version_of(row, getattr(meta, "versioned_with", ()))

    def row_response(self, row: Model, status: int = HTTPStatus.OK, **more: Any) -> Response:
        """Answer with a row as it is now, its ETag, and what else there is to say."""
        fresh = self.filter_free().get(pk=row.pk)
        data = {**self.get_serializer(fresh).data, **more}
        return Response(data, status=status, headers={"ETag": self.version(fresh)})

    def create_row(self, request: Request) -> Response:
        """Create a row of the body, within what the token reaches."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        row = serializer.save()
        self.check_reached(type(row), [row.pk])
        self.count_use([row])
        return self.created(row)

    def revoke_row(self, serializer_class: type[ReasonSerializer] = ReasonSerializer) -> Response:
        """Revoke the row that the address names, with what the body says; answer with the row."""
        row = self.get_object()
        asked = self.asked(serializer_class)
        with self.because(asked["reason"], field="reason"):
            row.revoke(by=self.get_username(), **asked)
        return self.row_response(row)

    def created(self, row: Model, **more: Any) -> Response:
        """Answer with a new row, where it is, and what else there is to say."""
        response = self.row_response(row, HTTPStatus.CREATED, **more)
        response["Location"] = self.reverse_action("detail", args=[row.pk], request=None)
        return response

    def filter_free(self) -> QuerySet[Any]:
        """Return all rows as the view reads them, whatever the token reaches."""
        return super().get_queryset()


class ReadMixin(mixins.ListModelMixin):
    """Lists rows, and reads one."""

    def retrieve(self: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return a row with its ETag, or that it is as the client has it."""
        row = self.get_object()
        version = self.version(row)
        if describes(request.headers.get("If-None-Match"), version):
            return Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": version})
        return Response(self.get_serializer(row).data, headers={"ETag": version})


class CreateMixin:
    """Creates a row."""

    def create(self: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Create a row of the body."""
        return self.create_row(request)


class ChangeMixin:
    """Changes the fields of a row that the body names."""

    def partial_update(self: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change a row."""
        row = self.get_object()
        serializer = self.get_serializer(row, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        row = serializer.save()
        self.check_reached(type(row), [row.pk])
        return self.row_response(row)


class DeleteMixin:
    """Deletes a row."""

    def destroy(self: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a row, unless something goes with it that the request may not delete."""
        self.asked(NothingSerializer)
        row = self.get_object()
        self.check_deletable(type(row)._default_manager.filter(pk=row.pk))
        self.perform_destroy(row)
        return Response(status=HTTPStatus.NO_CONTENT)

    def perform_destroy(self: Any, row: models.Model) -> None:
        row.delete()


class RowsViewSet(ReadMixin, CreateMixin, ChangeMixin, DeleteMixin, RegistryViewSet):
    """Rows that are read, created, changed and deleted."""
