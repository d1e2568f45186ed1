"""`{% load registry %}`: moments and badges in templates."""

from django import template

from devices.admin import rendering

register = template.Library()
register.filter("moment", rendering.moment)
register.simple_tag(rendering.badge, name="badge")
register.filter("enabled_badge", rendering.enabled_badge)
