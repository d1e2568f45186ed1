"""The description of the machine endpoints, `docs/openapi.json`: for programs, and as a page.

Both are public: they say what the repository publishes and nothing of this installation, and
whoever connects a backend has no staff account. `tests/rpc/test_openapi.py` holds the document to
the code.
"""

import json
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

DOCUMENT = settings.BASE_DIR / "docs" / "openapi.json"


def indented(value: object) -> str:
    """Return a value as the page shows it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def operation(path: str, described: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a path's POST: its texts, its arguments and its examples."""
    request = described["requestBody"]["content"]["application/json"]
    answer = described["responses"]["200"]["content"]["application/json"]
    answers = answer.get("examples", {})
    return {
        "path": path,
        **described,
        "schemas": [indented(request["schema"]), indented(answer["schema"])],
        "examples": [
            (one["summary"], indented(one["value"]), indented(answers[name]["value"]))
            for name, one in request.get("examples", {}).items()
        ],
    }


@login_not_required
@require_safe
def openapi(_request: HttpRequest) -> HttpResponse:
    """Return the document."""
    return HttpResponse(DOCUMENT.read_bytes(), content_type="application/json")


@login_not_required
@require_safe
def api(request: HttpRequest) -> HttpResponse:
    """Show the document to people; nothing of the page comes from another host."""
    document = json.loads(DOCUMENT.read_bytes())
    return render(
        request,
        "rpc/api.html",
        {
            **admin.site.each_context(request),
            "title": _("Machine endpoints"),
            "description": document["info"]["description"],
            "operations": [operation(path, one["post"]) for path, one in document["paths"].items()],
            "schemas": {
                name: indented(one) for name, one in document["components"]["schemas"].items()
            },
        },
    )
