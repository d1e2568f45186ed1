"""`{% load accounts %}`: what a page says of the account that it refused."""

from django import template

from authsite.accounts.missing_roles import missing

register = template.Library()
register.simple_tag(missing, name="missing_roles")
