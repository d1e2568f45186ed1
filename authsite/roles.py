"""Roles: the groups of staff accounts, and the permissions of each.

This is the one place that names them. A migration writes them into the database; after a change
here, a new migration calls `establish` again. What administrators add to a group stays there.
"""

from typing import Any

from django.apps import apps as installed
from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions

APPS = ("devices", "acl", "rpc", "axes", "authsite")


def _each(verbs: str, app: str, *models: str) -> frozenset[str]:
    return frozenset(f"{app}.{verb}_{model}" for verb in verbs.split() for model in models)


DEVICES = ("device", "devicegroup", "attributedefinition")
CREDENTIALS = ("presharedkey", "certificate", "certificateauthority", "revocationlist")
RULES = ("commandpermission", "commandset", "commandsetpattern", "assertion")
RTIO = ("rtioserver", "deviceserviceroute")
TOKENS = ("apitoken", "serviceaccount")
ACCOUNTS = (*TOKENS, "account")  # by the API; the admin's pages are superusers'
HISTORY_OF_DEVICES = _each(
    "view", "devices", *(f"historical{model}" for model in (*DEVICES, "membership"))
)
HISTORY = (
    HISTORY_OF_DEVICES
    | _each("view", "devices", *(f"historical{model}" for model in (*CREDENTIALS, "webhook")))
    | _each("view", "acl", *(f"historical{model}" for model in RULES))
    | _each("view", "rpc", *(f"historical{model}" for model in (*RTIO, "sessionending")))
    | _each("view", "authsite", *(f"historical{model}" for model in TOKENS))
)
VIEWER = (
    _each("view", "devices", *DEVICES, *CREDENTIALS)
    | _each("view", "acl", *RULES)
    | _each("view", "rpc", *RTIO, "sessionending")
)
CALLS = _each("view", "rpc", "callrecord")

EVENTS = _each("view", "devices", "event", "webhook", "delivery")

ROLES: dict[str, frozenset[str]] = {
    "Viewer": VIEWER,
    "Operator": VIEWER
    | HISTORY_OF_DEVICES
    | CALLS
    | _each("add change delete", "devices", *DEVICES),
    "Security": VIEWER
    | HISTORY
    | CALLS
    | EVENTS
    | _each("add change delete", "devices", *CREDENTIALS, "webhook")
    | _each("add change delete", "acl", *RULES)
    | _each("add change delete", "rpc", *RTIO)
    | _each("view add change", "authsite", *ACCOUNTS)
    | {"devices.try_credential", "devices.resend_delivery", "rpc.end_session"},
    "Auditor": VIEWER
    | HISTORY
    | CALLS
    | EVENTS
    | _each("view", "axes", "accessattempt", "accesslog")
    | _each("view", "authsite", *ACCOUNTS),
}

GRANTED = frozenset[str]().union(*ROLES.values())
# What can have an effect: besides what roles have, what superusers may hand on of Django's own.
EFFECTIVE = (
    GRANTED
    | _each("view delete", "auth", "user", "group")
    | _each("delete", "axes", "accessattempt", "accesslog")
)


def establish(apps: Apps) -> None:
    """Create the groups and give them their permissions, as far as the models of `apps` go."""
    group_model: Any = apps.get_model("auth", "Group")
    permission: Any = apps.get_model("auth", "Permission")
    for label in APPS:
        # Undocumented; Django itself calls it only after all migrations, too late for this one.
        create_permissions(installed.get_app_config(label), verbosity=0, apps=apps)
    known = {
        f"{app}.{codename}": pk
        for pk, app, codename in permission.objects.filter(
            content_type__app_label__in=APPS
        ).values_list("pk", "content_type__app_label", "codename")
    }
    for name, wanted in ROLES.items():
        group, _made = group_model.objects.get_or_create(name=name)
        group.permissions.add(*(known[one] for one in sorted(wanted & known.keys())))


def abolish(apps: Apps) -> None:
    group_model: Any = apps.get_model("auth", "Group")
    group_model.objects.filter(name__in=ROLES).delete()
