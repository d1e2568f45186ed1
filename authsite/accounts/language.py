"""The language that a reader chooses, in place of what the browser asks for."""

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.http import require_POST
from django.views.i18n import set_language


@login_not_required
@require_POST
def choose_language(request: HttpRequest) -> HttpResponseBase:
    """Keep the chosen language in a cookie, or leave it to the browser again, and go back."""
    response = set_language(request)
    if not request.POST.get("language"):
        response.delete_cookie(settings.LANGUAGE_COOKIE_NAME, samesite="Lax")
    return response
