"""Assertions: what staff expect of the rules, whoever changes them."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from devices.history import Recorded, Records


class Assertion(Recorded):
    """A saved assertion, in one line of words; `acl.analysis.assertions` reads and checks it."""

    text = models.CharField(
        _("assertion"),
        max_length=1000,
        help_text=_(
            "SENDER may COMMAND RECEIVER, SENDER may not COMMAND RECEIVER, or nobody [outside "
            "group:NAME] may PATTERN [RECEIVER]. For example: nobody outside group:ops may "
            "/v1/Sys.*"
        ),
    )
    note = models.CharField(_("note"), max_length=255, blank=True)

    history = Records()
    restored_fields = ("text", "note")

    class Meta:
        ordering = ["text"]
        verbose_name = _("assertion")
        verbose_name_plural = _("assertions")
        constraints = [
            models.UniqueConstraint(
                fields=["text"],
                name="acl_assertion_text_unique",
                violation_error_message=_("This assertion exists."),
            ),
            models.CheckConstraint(condition=~Q(text=""), name="acl_assertion_text_present"),
        ]

    def __str__(self) -> str:
        return self.text
