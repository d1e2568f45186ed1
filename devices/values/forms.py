"""Forms as they were sent."""

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, UnreadablePostError

IN_PARTS = "multipart/form-data"  # a form with files
UNREADABLE = (UnreadablePostError, TypeError)


class CutOff(BadRequest):
    """The end of a form did not come: its sender has gone, or is too slow."""


def check_form(request: HttpRequest) -> None:
    """Read a form, where its token is about to be looked for; raises BadRequest.

    Django lets pass what Python fails with on parameters of a part's header (`x*=''; x*0=a`), and
    takes one that is cut off for one without a token.
    """
    if request.method == "POST" and settings.CSRF_COOKIE_NAME in request.COOKIES:
        try:
            request.POST  # noqa: B018
        except UNREADABLE as error:
            raise refusal_of(error) from error


def refusal_of(error: Exception) -> BadRequest:
    """Return what is told of a form that cannot be read."""
    if isinstance(error, UnreadablePostError):
        return CutOff()
    return BadRequest("a part of the form has a header that cannot be read")
