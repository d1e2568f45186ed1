"""Whatever goes wrong under `/api/v1/`, as problem details (RFC 9457).

`code` says in one word what a program may go by; `errors` names each fault with where it stands: a
`pointer` into the body (RFC 6901, as a fragment), a `parameter` of the address or a `header`.
"""

import logging
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from math import ceil
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import (
    NON_FIELD_ERRORS,
    BadRequest,
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    ValidationError,
)
from django.db import InterfaceError, OperationalError
from django.db.models import ProtectedError, RestrictedError
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    UnreadablePostError,
)
from django.http.multipartparser import MultiPartParserError
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext as _, gettext_lazy
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.fields import get_error_detail
from rest_framework.response import Response
from rest_framework.settings import api_settings

from devices.database.conflicts import is_conflict, is_locked
from devices.values.forms import IN_PARTS, CutOff, check_form

PREFIX = "/api/v1/"
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 5  # seconds
MAX_ERRORS = 100  # that an answer lists

log = logging.getLogger(__name__)


class Problem(exceptions.APIException):
    """A refusal that this API makes itself; `extra` are members of the answer."""

    def __init__(
        self,
        detail: Any = None,
        code: str | None = None,
        status: HTTPStatus | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail, code)
        self.status_code = status or type(self).status_code
        self.extra = extra


class Conflict(Problem):
    """What is asked cannot be done to the rows as they are."""

    status_code = HTTPStatus.CONFLICT
    default_code = "conflict"
    default_detail = gettext_lazy(
        "Somebody changed the same at this moment. Nothing was changed: read again."
    )


def check_shown(asked: Mapping[str, Any], digest: str) -> None:
    """Raise Conflict where the digest that a client sends along is of something else."""
    if asked.get("digest", digest) != digest:
        text = _("What would change is no longer what was shown; nothing was changed. Look again.")
        raise Conflict(text, code="moved")


class Stale(Problem):
    """The row is not as it was when the client read it."""

    status_code = HTTPStatus.PRECONDITION_FAILED
    default_code = "stale"
    default_detail = gettext_lazy(
        "Somebody changed this since you read it. Read it again before you change it."
    )


class ParameterError(Problem):
    """Parameters of the address are unknown, or say nothing that can be used."""

    status_code = HTTPStatus.BAD_REQUEST
    default_code = "parameter"
    default_detail = gettext_lazy("The address has a parameter that cannot be used.")

    def __init__(self, parameter: str, detail: Any, *more: tuple[str, Any]) -> None:
        found = [(parameter, detail), *more]
        super().__init__(errors=[{"parameter": name, "detail": str(text)} for name, text in found])


class HeaderError(Problem):
    """A header says nothing that can be used."""

    status_code = HTTPStatus.BAD_REQUEST
    default_code = "header"
    default_detail = gettext_lazy("A header cannot be used.")

    def __init__(self, header: str, detail: Any) -> None:
        super().__init__(errors=[{"header": header, "detail": str(detail)}])


class Unavailable(Problem):
    """The database does not answer in time, or has no place free."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = gettext_lazy("The registry cannot answer just now. Try again.")
    wait = RETRY_AFTER


def body(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    return {
        "type": f"urn:problem-type:authsite:{code}",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
        **extra,
    }


def errors_of(detail: Any, pointer: str = "#") -> Iterator[dict[str, str]]:
    """Yield each fault of a tree of them, with the pointer to what is at fault."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            own = name in {api_settings.NON_FIELD_ERRORS_KEY, NON_FIELD_ERRORS}
            part = str(name).replace("~", "~0").replace("/", "~1")
            yield from errors_of(inner, pointer if own else f"{pointer}/{part}")
    elif isinstance(detail, list):
        for position, inner in enumerate(detail):
            nested = isinstance(inner, dict | list)
            yield from errors_of(inner, f"{pointer}/{position}" if nested else pointer)
    else:
        yield {
            "pointer": pointer,
            "detail": str(detail),
            "code": str(getattr(detail, "code", "invalid")),
        }


def listed(errors: Iterator[dict[str, str]] | list[dict[str, str]]) -> dict[str, Any]:
    """Return the members that list faults; of too many, the first and how many there are."""
    found = list(errors)
    more = {"errors_total": len(found)} if len(found) > MAX_ERRORS else {}
    return {"errors": found[:MAX_ERRORS], **more}


def as_api_exception(error: Exception) -> exceptions.APIException | None:
    """Return what Django or a model raised as what the API answers; None for a fault of ours."""
    match error:
        case exceptions.APIException():
            return error
        case Http404():
            return exceptions.NotFound()
        case PermissionDenied():
            return exceptions.PermissionDenied(*error.args)
        case UnreadablePostError():
            return exceptions.ParseError(_("The body was not sent to its end."))
        case ValidationError():
            return exceptions.ValidationError(get_error_detail(error))
        case ProtectedError() | RestrictedError():
            return Conflict(_("Other rows refer to it; nothing was deleted."), code="in-use")
        case Exception() if is_conflict(error):
            log.warning("a change met another one: %r", error)
            return Conflict()
        case OperationalError():
            log.warning("an API request was not answered: %s", " ".join(str(error).split()))
            text = _("Others were changing the registry meanwhile. Nothing was changed. Try again.")
            return Unavailable(text if is_locked(error) else None)
    return None


def _not_taken(context: dict[str, Any]) -> exceptions.ErrorDetail:
    """Return what to send a body as, where it came as something else."""
    kinds = ", ".join(parser.media_type for parser in context["view"].parser_classes)
    code = exceptions.UnsupportedMediaType.default_code
    text = _("Send the body with the Content-Type %(kinds)s.") % {"kinds": kinds}
    return exceptions.ErrorDetail(text, code)


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer with a problem; None lets a fault of ours go up, where it is logged."""
    problem = as_api_exception(error)
    if problem is None:
        return None
    headers: dict[str, str] = {}
    if wait := getattr(problem, "wait", None):
        headers["Retry-After"] = str(max(1, ceil(wait)))
    if challenge := getattr(problem, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    extra = getattr(problem, "extra", {})
    if isinstance(problem, exceptions.UnsupportedMediaType):
        problem.detail = _not_taken(context)
    if isinstance(problem, exceptions.NotAuthenticated):
        text = _("Send a token of the API, as Authorization: Bearer authsite_….")
        problem.detail = exceptions.ErrorDetail(text, problem.default_code)
    if isinstance(problem, exceptions.ValidationError):
        code, text = "invalid", _("The request has faults; nothing was changed.")
        extra = listed(errors_of(problem.detail))
    else:
        code, text = str(getattr(problem.detail, "code", problem.default_code)), str(problem.detail)
    return Response(
        body(problem.status_code, code.replace("_", "-"), text, **extra),
        status=problem.status_code,
        headers=headers,
        content_type=MEDIA_TYPE,
    )


@contextmanager
def faults_of(field: str, known: Collection[str] = ()) -> Iterator[None]:
    """Turn errors of a model, about what was presented, into errors of that field.

    Errors of the fields in `known` stay with them.
    """
    try:
        yield
    except ValidationError as error:
        found = get_error_detail(error)
        if not isinstance(found, dict):
            raise exceptions.ValidationError({field: found}) from None
        told: dict[str, Any] = {}
        for name, texts in found.items():
            told.setdefault(name if name in known else field, []).extend(texts)
        raise exceptions.ValidationError(told) from None


@contextmanager
def within(field: str) -> Iterator[None]:
    """Turn errors into errors within that field."""
    try:
        yield
    except exceptions.ValidationError as error:
        raise exceptions.ValidationError({field: error.detail}) from None
    except ValidationError as error:
        raise exceptions.ValidationError({field: get_error_detail(error)}) from None


# --- Outside of the API's views ---------------------------------------------------------------


def is_api(request: HttpRequest) -> bool:
    """Whether the request is one of the API's, whatever becomes of it."""
    return request.path_info.startswith(PREFIX)


def answer(status: HTTPStatus, detail: str, code: str) -> JsonResponse:
    """Return a problem without a view of the API."""
    return JsonResponse(
        body(status, code, detail),
        status=status,
        content_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store"},
    )


@csrf_exempt
@login_not_required
def nothing_here(_request: HttpRequest, **_rest: str) -> HttpResponse:
    """Answer any other address below `/api/v1/`."""
    return answer(HTTPStatus.NOT_FOUND, _("There is nothing at this address."), "not-found")


def unavailable(request: HttpRequest, template: str) -> HttpResponse:
    """Answer, staff with a page, where the database cannot be asked; this does not ask it."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    if is_api(request):
        response: HttpResponse = answer(status, str(Unavailable.default_detail), "unavailable")
    else:
        with translation.override(translation.get_language_from_request(request)):
            language, was_sent = translation.get_language(), request.method == "POST"
            page = render_to_string(template, {"LANGUAGE_CODE": language, "was_sent": was_sent})
        response = HttpResponse(page, status=status)
    response["Retry-After"] = str(RETRY_AFTER)
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer what Django cannot make a request of (`handler400`)."""
    if is_api(request):
        text = _("This is no request that can be read.")
        if isinstance(exception, DisallowedHost):
            text = _("The registry does not answer for this host (ALLOWED_HOSTS).")
        return answer(HTTPStatus.BAD_REQUEST, text, "bad-request")
    if isinstance(exception, CutOff):
        return defaults.bad_request(request, exception, "cut_off.html")
    if isinstance(exception, RequestDataTooBig | TooManyFieldsSent):
        page: HttpResponse = defaults.bad_request(request, exception, "413.html")
        page.status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return page
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer what is refused before a view of the API is asked (`handler403`)."""
    if is_api(request):
        return answer(HTTPStatus.FORBIDDEN, _("This is not permitted."), "permission-denied")
    return defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer an address that leads nowhere (`handler404`)."""
    if is_api(request):
        return nothing_here(request)
    try:
        if request.content_type == IN_PARTS:
            check_form(request)
        return defaults.page_not_found(request, exception)
    except (BadRequest, MultiPartParserError, SuspiciousOperation) as error:
        return bad_request(request, error)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Answer a fault of ours or of the database, which is in the log (`handler500`)."""
    error = sys.exception()
    if isinstance(error, OperationalError | InterfaceError):
        why = "locked" if is_locked(error) else "failed"
        return unavailable(request, f"database_{why}.html")
    if is_api(request):
        text = _("The registry failed. Its log says why, under the X-Request-Id of this answer.")
        return answer(HTTPStatus.INTERNAL_SERVER_ERROR, text, "internal")
    return defaults.server_error(request)
