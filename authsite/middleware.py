"""What the admin does around each of its requests."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from devices import history


class ChangesFromAdmin:
    """Has changes recorded as made in the admin, by the account that is signed in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer; the account is asked for its name only where something changes."""
        with history.origin(history.Origin.ADMIN, user=request.user):
            return self.get_response(request)
