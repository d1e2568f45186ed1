"""Sign-ons that were begun and are not finished: each in a signed cookie of its browser.

The cookie holds what the answer of the provider is checked against (OpenID Connect Core 1.0, 3.1.2;
RFC 7636). It is no session: each click of a stranger would leave a row in the database.
"""

import hmac
from dataclasses import asdict, dataclass
from enum import StrEnum

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse

from authsite.accounts.sign_on.refusals import Reason, SignOnRefused

COOKIE = "sign_on"
PATH = "/admin/sign-on/"
SECONDS = 600  # for the password, the second factor and a code that comes late
MAX_NEXT = 1000  # characters of the address to come back to; a cookie holds 4 KB
SALT = "authsite.sign_on"


class Purpose(StrEnum):
    """Why somebody is sent to the provider."""

    SIGN_ON = "sign-on"
    CONFIRM = "confirm"


@dataclass(frozen=True, slots=True)
class PendingSignOn:
    """What is known of a browser that was sent to the provider. `began` is in Unix seconds."""

    purpose: str
    state: str
    nonce: str
    code_verifier: str
    next: str
    began: float


def remember(response: HttpResponse, pending: PendingSignOn) -> None:
    """Put the sign-on into a cookie; whoever has the cookie alone can do nothing with it."""
    response.set_cookie(
        COOKIE,
        signing.dumps(asdict(pending), salt=SALT, compress=True),
        max_age=SECONDS,
        path=PATH,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def forget(response: HttpResponse) -> None:
    response.delete_cookie(COOKIE, path=PATH, samesite="Lax")


def recall(request: HttpRequest, state: str) -> PendingSignOn:
    """Return the sign-on that this browser has begun; raises SignOnRefused where it is another."""
    try:
        kept = signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=SECONDS)
        pending = PendingSignOn(**kept)
    except signing.SignatureExpired:
        raise SignOnRefused(Reason.NOT_BEGUN_HERE, "it took too long") from None
    except (signing.BadSignature, TypeError):
        raise SignOnRefused(Reason.NOT_BEGUN_HERE, "this browser has not begun one") from None
    if not hmac.compare_digest(pending.state.encode(), state.encode()):
        raise SignOnRefused(Reason.NOT_BEGUN_HERE, "the state is that of another one")
    return pending
