"""Why somebody was not signed on, in words for that person."""

import re
from enum import Enum
from http import HTTPStatus

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext, gettext_lazy as _

from devices.admin.base.pages import site_page
from devices.telemetry import request_id

# What a provider's answers are held against before somebody is refused.
MAX_SKEW = 60  # seconds between its clock and ours
MAX_DETAIL = 1000  # characters of a line in the log
ERROR_CODE = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,80}\Z")  # RFC 6749, 4.1.2.1


class Reason(Enum):
    """Each with what the person is told."""

    UNREACHABLE = _("Your company's sign-on does not answer. Try again in a minute.")
    UNUSABLE_ANSWER = _(
        "Your company's sign-on answered with something that cannot be trusted or read. "
        "An administrator of the registry finds the cause in its log."
    )
    DECLINED = _("Your company's sign-on did not let you in, or you cancelled there.")
    NOT_BEGUN_HERE = _(
        "This sign-on was not begun in this browser, took too long, or was used already. "
        "Begin again."
    )
    WEAK = _(
        "Your company's sign-on did not check you as strictly as this registry asks for. "
        "An administrator of the registry finds in its log what was missing."
    )
    NOT_FRESH = _(
        "Your company's sign-on did not ask you again who you are, so nothing was confirmed."
    )
    OTHER_PERSON = _("You confirmed with another account than the one that you are signed on with.")
    NO_NAME = _(
        "Your company's sign-on gave no name that an account can have. An administrator of "
        "the registry finds in its log what was missing."
    )
    NO_SUBJECT = _(
        "Your company's sign-on did not say by what your account is recognized. An "
        "administrator of the registry finds in its log what was missing."
    )
    NAME_TAKEN = _(
        "There is an account of this name already, and it is not tied to your company "
        "account. An administrator can tie them together: manage.py tie_account."
    )
    NO_ROLE = _(
        "Your company account brings no role in this registry. Ask whoever looks after it to "
        "put you into one of these groups:"
    )
    DISABLED = _("Your account in this registry is disabled. Ask an administrator.")

    @property
    def status(self) -> HTTPStatus:
        return STATUSES.get(self, HTTPStatus.FORBIDDEN)


STATUSES = {
    Reason.UNREACHABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.UNUSABLE_ANSWER: HTTPStatus.BAD_GATEWAY,
    Reason.NOT_BEGUN_HERE: HTTPStatus.BAD_REQUEST,
}


class SignOnRefused(Exception):
    """Somebody is not signed on. `detail` is for the operator's log, and holds no secret."""

    def __init__(self, reason: Reason, detail: str = "", *, wanted: tuple[str, ...] = ()) -> None:
        said = " ".join(detail.split())  # one line, whatever a provider has put into its errors
        said = said if len(said) <= MAX_DETAIL else f"{said[:MAX_DETAIL]}…"
        super().__init__(f"{reason.name.lower()}: {said}" if said else reason.name.lower())
        self.reason = reason
        self.wanted = wanted


def refusal_page(request: HttpRequest, refusal: SignOnRefused) -> TemplateResponse:
    return site_page(
        admin.site,
        request,
        "admin/sign_on/refused.html",
        title=gettext("Not signed on"),
        text=refusal.reason.value,
        wanted=refusal.wanted,
        request_id=request_id.get(),
        status=refusal.reason.status,
        headers={"Cache-Control": "no-store"},
    )
