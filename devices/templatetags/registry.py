"""`{% load registry %}`: moments, badges, and what narrows a list, in templates."""

from django import template

from devices.admin import changelist, rendering
from devices.text import ISOLATE, isolated

register = template.Library()
register.filter("moment", rendering.moment)
register.simple_tag(rendering.badge, name="badge")
register.filter("enabled_badge", rendering.enabled_badge)
register.filter("isolated", isolated)
register.simple_tag(changelist.narrowed, name="narrowed")
register.simple_tag(changelist.hits, name="hits")


@register.filter
def set_apart(title: object) -> str:
    """Return a title as it stands beside others: isolated, where its names are not already."""
    text = str(title)
    return text if ISOLATE in text else isolated(text)
