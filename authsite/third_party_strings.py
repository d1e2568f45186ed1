"""Strings of other packages that they leave in English or say otherwise: docs/translation.md.

Nothing reads them here: marking them puts them into our catalogues, which Django asks first.
Strings of scripts are kept in `djangojs.po` by hand.
"""

from django.utils.translation import gettext_noop as _, ngettext_lazy

DJANGO = (
    _("Model name"),
    _("Add link"),
    _("Change or view list link"),
    _("Error:"),
    _(":"),
    _("Add %s"),
    _("Save and add another"),
    ngettext_lazy(
        "This password is too short. It must contain at least %d character.",
        "This password is too short. It must contain at least %d characters.",
        "n",
    ),
)
AXES = (
    _("access attempt"), _("access attempts"), _("access log"), _("access logs"), _("User Agent"),
    _("IP Address"), _("Username"), _("HTTP Accept"), _("Path"), _("Attempt Time"),
    _("Failed Logins"), _("Logout Time"), _("Session key hash (sha256)"), _("Meta Data"),
    _("Locked Out"), _("Attempt Remaining"), _("Clean up expired attempts"), _("Not set"),
)  # fmt: skip
WEBAUTHN = (
    _("Error processing WebAuthn request."),
    _("Unprocessable Entity"),
    _("This user account is marked as disabled."),
    _("This Passkey has been marked as disabled."),
    _("Authentication required."),
    _("User is not verified."),
)
