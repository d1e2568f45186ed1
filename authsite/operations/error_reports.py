"""Reports of exceptions: the error page under DEBUG, and mails to administrators."""

import re
from collections.abc import ItemsView
from types import FrameType
from typing import Any

from django.http import HttpRequest
from django.utils.safestring import SafeString, mark_safe
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from authsite.accounts.token_text import redacted

# What a request brings along; a WSGI server may add the whole environment of its process.
REQUEST_META = re.compile(
    r"(HTTP|CONTENT|SERVER|REMOTE|REQUEST)_\w+|PATH_INFO|QUERY_STRING|SCRIPT_NAME|wsgi\.\w+"
)


class SecretFilter(SafeExceptionReporterFilter):
    """Hide secrets from error reports, under DEBUG too.

    No value that was sent in a form and no variable of the code is shown: a secret may be in any
    of them.
    """

    hidden_settings = re.compile(
        SafeExceptionReporterFilter.hidden_settings.pattern + "|PEPPER|DATABASE|CACHE|URL|COOKIE",
        flags=re.IGNORECASE,
    )

    def get_safe_request_meta(self, request: HttpRequest) -> dict[str, Any]:
        meta: dict[str, Any] = super().get_safe_request_meta(request)
        return {name: value for name, value in meta.items() if REQUEST_META.fullmatch(name)}

    def get_post_parameters(self, request: HttpRequest | None) -> Any:
        """Return the names of the fields that were sent, with their values hidden."""
        return dict.fromkeys(request.POST if request else (), self.cleansed_substitute)

    def get_traceback_frame_variables(
        self, request: HttpRequest | None, tb_frame: FrameType
    ) -> ItemsView[str, Any]:
        """Return the names of the variables of a frame, with their values hidden."""
        return dict.fromkeys(tb_frame.f_locals, self.cleansed_substitute).items()


class TokenlessReporter(ExceptionReporter):
    """Reports exceptions without the tokens of the API, wherever they were sent in."""

    def get_traceback_html(self) -> SafeString:
        return mark_safe(redacted(super().get_traceback_html()))  # noqa: S308 (it was safe)

    def get_traceback_text(self) -> SafeString:
        return mark_safe(redacted(super().get_traceback_text()))  # noqa: S308 (it was safe)
