"""`{% load registry %}`: moments, badges, and what narrows a list, in templates."""

from django import template

from devices.admin import changelist, rendering

register = template.Library()
register.filter("moment", rendering.moment)
register.simple_tag(rendering.badge, name="badge")
register.filter("enabled_badge", rendering.enabled_badge)
register.simple_tag(changelist.narrowed, name="narrowed")
register.simple_tag(changelist.hits, name="hits")
