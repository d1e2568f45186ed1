"""Staff show who they are once more before a secret leaves, unless they have done so lately."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from devices.admin.base.pages import say_not_saved

Answer = TypeVar("Answer")

CONFIRMED_AT = "confirmed_at"  # in a session: Unix seconds


def confirm(request: HttpRequest) -> None:
    """Note that whoever sends the request has just shown who they are."""
    request.session[CONFIRMED_AT] = time.time()


@receiver(user_logged_in)
def confirm_by_login(*, request: HttpRequest, **_signal: object) -> None:
    """Count a login as such a confirmation."""
    confirm(request)


def is_recent(request: HttpRequest) -> bool:
    """Whether they have done so within the last STAFF_CONFIRM_SECONDS."""
    confirmed: float = request.session.get(CONFIRMED_AT, 0)
    return 0 <= time.time() - confirmed < settings.STAFF_CONFIRM_SECONDS


def recently_authenticated(view: Callable[..., Answer]) -> Callable[..., Answer | HttpResponse]:
    """Make a view, or an action, ask for the password again where that was given long ago.

    It finds the request among the arguments, so that methods are decorated like functions. Staff
    come back to the page by its address: a form that was sent meanwhile is to be sent again.
    """

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Answer | HttpResponse:
        request = next(arg for arg in args if isinstance(arg, HttpRequest))
        if is_recent(request):
            return view(*args, **kwargs)
        say_not_saved(request)
        back = urlencode({"next": request.get_full_path()})
        return HttpResponseRedirect(f"{reverse('admin:confirm_identity')}?{back}")

    return guarded
