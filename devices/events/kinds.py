"""The kinds of events, of all apps: the words of the stream and of webhooks. (docs/events.md)"""

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class Kind(models.TextChoices):
    """What happened, as `noun.verb`."""

    DEVICE_CREATED = "device.created", _("Device created")
    DEVICE_CHANGED = "device.changed", _("Device changed")
    DEVICE_ENABLED = "device.enabled", _("Device enabled")
    DEVICE_DISABLED = "device.disabled", _("Device disabled")
    DEVICE_DELETED = "device.deleted", _("Device deleted")
    GROUP_CREATED = "group.created", _("Device group created")
    GROUP_CHANGED = "group.changed", _("Device group changed")
    GROUP_DELETED = "group.deleted", _("Device group deleted")
    MEMBERSHIP_CREATED = "membership.created", _("Device joined a group")
    MEMBERSHIP_DELETED = "membership.deleted", _("Device left a group")
    CREDENTIAL_ISSUED = "credential.issued", _("Credential issued")
    CREDENTIAL_REGISTERED = "credential.registered", _("Credential registered")
    CREDENTIAL_ROTATED = "credential.rotated", _("Key rotated")
    CREDENTIAL_CHANGED = "credential.changed", _("Credential changed")
    CREDENTIAL_REVOKED = "credential.revoked", _("Credential revoked")
    CREDENTIAL_DELETED = "credential.deleted", _("Credential deleted")
    CREDENTIAL_EXPIRING = "credential.expiring", _("Credential expires soon")
    CREDENTIAL_GUESSED = "credential.guessed", _("Too many wrong secrets")
    TRUST_ANCHOR_CREATED = "trust_anchor.created", _("Trust anchor created")
    TRUST_ANCHOR_CHANGED = "trust_anchor.changed", _("Trust anchor changed")
    TRUST_ANCHOR_DELETED = "trust_anchor.deleted", _("Trust anchor deleted")
    REVOCATION_LIST_CREATED = "revocation_list.created", _("Revocation list loaded")
    REVOCATION_LIST_CHANGED = "revocation_list.changed", _("Revocation list replaced")
    REVOCATION_LIST_DELETED = "revocation_list.deleted", _("Revocation list deleted")
    ATTRIBUTE_CREATED = "attribute.created", _("Attribute defined")
    ATTRIBUTE_CHANGED = "attribute.changed", _("Attribute changed")
    ATTRIBUTE_DELETED = "attribute.deleted", _("Attribute deleted")
    RULE_CREATED = "rule.created", _("Rule created")
    RULE_CHANGED = "rule.changed", _("Rule changed")
    RULE_DELETED = "rule.deleted", _("Rule deleted")
    COMMAND_SET_CREATED = "command_set.created", _("Command set created")
    COMMAND_SET_CHANGED = "command_set.changed", _("Command set changed")
    COMMAND_SET_DELETED = "command_set.deleted", _("Command set deleted")
    COMMAND_SET_PATTERN_CREATED = "command_set_pattern.created", _("Pattern of a set created")
    COMMAND_SET_PATTERN_CHANGED = "command_set_pattern.changed", _("Pattern of a set changed")
    COMMAND_SET_PATTERN_DELETED = "command_set_pattern.deleted", _("Pattern of a set deleted")
    ASSERTION_CREATED = "assertion.created", _("Assertion created")
    ASSERTION_CHANGED = "assertion.changed", _("Assertion changed")
    ASSERTION_DELETED = "assertion.deleted", _("Assertion deleted")
    ASSERTION_BROKEN = "assertion.broken", _("Assertion broken")
    SESSION_ENDED = "session.ended", _("Session ended")
    SESSION_NOT_CONNECTED = "session.not_connected", _("Session to end was not there")
    SESSION_CANCELLED = "session.cancelled", _("Session need not be ended any more")
    SESSION_GIVEN_UP = "session.given_up", _("Session could not be ended")
    SESSION_DELETED = "session.deleted", _("Record of an ended session deleted")
    RTIO_SERVER_CREATED = "rtio_server.created", _("RTIO server created")
    RTIO_SERVER_CHANGED = "rtio_server.changed", _("RTIO server changed")
    RTIO_SERVER_DELETED = "rtio_server.deleted", _("RTIO server deleted")
    ROUTE_CREATED = "route.created", _("Device service route created")
    ROUTE_CHANGED = "route.changed", _("Device service route changed")
    ROUTE_DELETED = "route.deleted", _("Device service route deleted")
    TOKEN_CREATED = "token.created", _("Token created")
    TOKEN_CHANGED = "token.changed", _("Token changed")
    TOKEN_REVOKED = "token.revoked", _("Token revoked")
    TOKEN_DELETED = "token.deleted", _("Token deleted")
    SERVICE_ACCOUNT_CREATED = "service_account.created", _("Service account created")
    SERVICE_ACCOUNT_CHANGED = "service_account.changed", _("Service account changed")
    SERVICE_ACCOUNT_DELETED = "service_account.deleted", _("Service account deleted")
    ACCOUNT_CREATED = "account.created", _("Account created")
    ACCOUNT_CHANGED = "account.changed", _("Account changed")
    ACCOUNT_ENABLED = "account.enabled", _("Account enabled")
    ACCOUNT_DISABLED = "account.disabled", _("Account disabled")
    ACCOUNT_DELETED = "account.deleted", _("Account deleted")
    ACCOUNT_PASSWORD_CHANGED = "account.password_changed", _("Password of an account set")
    ACCOUNT_EMERGENCY_LOGIN = "account.emergency_login", _("Login with an emergency account")
    ACCOUNT_SECOND_FACTOR_ADDED = (
        "account.second_factor_added",
        _("Second factor of an account added"),
    )
    ACCOUNT_SECOND_FACTOR_REMOVED = (
        "account.second_factor_removed",
        _("Second factors of an account removed"),
    )
    ACCOUNT_SUPERUSER_KEPT = "account.superuser_kept", _("Last superuser kept at a sign-on")
    ACCOUNT_TIED = "account.tied", _("Account tied to a sign-on")
    ACCOUNT_UNTIED = "account.untied", _("Account untied from its sign-on")
    ROLE_GIVEN = "role.given", _("Role given")
    ROLE_TAKEN = "role.taken", _("Role taken away")
    ROLE_CREATED = "role.created", _("Role created")
    ROLE_CHANGED = "role.changed", _("Role changed")
    ROLE_DELETED = "role.deleted", _("Role deleted")
    WEBHOOK_CREATED = "webhook.created", _("Webhook created")
    WEBHOOK_CHANGED = "webhook.changed", _("Webhook changed")
    WEBHOOK_DELETED = "webhook.deleted", _("Webhook deleted")
    WEBHOOK_TESTED = "webhook.tested", _("Webhook tested")
    WEBHOOK_SWITCHED_OFF = "webhook.switched_off", _("Webhook switched off after failures")


def kinds() -> list[tuple[str, Any]]:
    """Return every kind as a choice. By its name in migrations: a new kind needs none."""
    return Kind.choices


# The noun of each model whose changes are recorded; without one, a change is refused.
NOUNS = {
    "devices.device": "device",
    "devices.devicegroup": "group",
    "devices.device_groups": "membership",
    "devices.presharedkey": "credential",
    "devices.certificate": "credential",
    "devices.certificateauthority": "trust_anchor",
    "devices.revocationlist": "revocation_list",
    "devices.attributedefinition": "attribute",
    "devices.webhook": "webhook",
    "acl.commandpermission": "rule",
    "acl.commandset": "command_set",
    "acl.commandsetpattern": "command_set_pattern",
    "acl.assertion": "assertion",
    "rpc.rtioserver": "rtio_server",
    "rpc.deviceserviceroute": "route",
    "rpc.sessionending": "session",
    "authsite.apitoken": "token",
    "authsite.serviceaccount": "service_account",
}
