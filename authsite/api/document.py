"""The OpenAPI document of everything that answers here, for programs and as a page.

Both are public: they say what the repository publishes and nothing of this installation, and
whoever connects a backend has no staff account.
"""

import json
from functools import cache

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator


@cache
def rendered() -> bytes:
    """Return the document, made once a process: it depends on the code alone. In English."""
    with translation.override("en"):
        document = SchemaGenerator().get_schema(request=None, public=True)
    return json.dumps(document, ensure_ascii=False).encode()


@login_not_required
@require_safe
def openapi(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(rendered(), content_type="application/json")


@login_not_required
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """Show the document to people; nothing of the page comes from another host."""
    return render(request, "api.html", {"title": _("Management API and machine endpoints")})
