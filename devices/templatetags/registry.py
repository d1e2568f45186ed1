"""`{% load registry %}`: moments, badges, and what narrows a list, in templates."""

import re

from django import template
from django.utils.safestring import SafeString, mark_safe

from devices.admin.base import changelist, rendering
from devices.models.dependants import kept_counts
from devices.values.text import ISOLATE, isolated, joined

register = template.Library()
register.filter("moment", rendering.moment)
register.simple_tag(rendering.badge, name="badge")
register.filter("enabled_badge", rendering.enabled_badge)
register.filter("isolated", isolated)
register.filter("joined", joined)
register.filter("kept_counts", kept_counts)
register.simple_tag(changelist.narrowed, name="narrowed")
register.simple_tag(changelist.hits, name="hits")


WAITED_FOR = re.compile(r"<script (?![^>]*\b(?:async|defer)\b)(?=[^>]*\bsrc=)")


@register.filter
def deferred(head: object) -> SafeString:
    """Return what a page loads with no script that it waits for; scripts run in the same order.

    On a slow network the page is read, and its form filled in, before they are there.
    """
    return mark_safe(WAITED_FOR.sub("<script defer ", str(head)))  # noqa: S308 (what the page wrote)


@register.filter
def set_apart(title: object) -> str:
    """Return a title as it stands beside others: isolated, where its names are not already."""
    text = str(title)
    return text if ISOLATE in text else isolated(text)
