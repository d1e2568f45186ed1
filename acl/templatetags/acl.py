"""`{% load acl %}`: rules and answers in templates."""

from django import template
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from acl.admin import sentences
from acl.engine.decisions import Decision
from acl.models import CommandPermission
from devices.admin.base.rendering import Tone, badge

register = template.Library()
register.filter("sentence", sentences.linked)
register.filter("numbered", sentences.numbered)


@register.filter
def state_badge(rule: CommandPermission) -> SafeString:
    return sentences.state_badge(rule, timezone.now())


@register.filter
def answer_badge(decision: Decision) -> SafeString:
    if decision.allowed:
        return badge(Tone.GOOD, _("allowed"))
    return badge(Tone.BAD, _("denied"))
