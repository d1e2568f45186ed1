"""Migrate the database of DATABASE_URL as far as `MIGRATIONS`; fill it as that release would have.

Run as `python -m tests.support.earlier_release`; it prints the cookie of a session.
"""

import os
import sys
import time
from typing import Any

import django

# The last migrations of commit 39c6791, and of the packages that it was locked to.
MIGRATIONS = [
    ("authsite", "0001_roles"),  # it depends on all that follow the next one
    ("sessions", "0001_initial"),
    ("acl", "0008_expectations"),
    ("devices", "0009_try_credential"),
    ("rpc", "0001_calls"),
]
IDENTIFIER = "lamp-00000000000000000000000001"
SECRET = "Qx3WaCRuRNymTaou9EHGdb9gps6W42Ph"
DIGEST = "387c6722451533d1f89a4fb2fb8b98f9a79070e623c57cceb6dc799e4d3b1ec3"  # under pepper test-2


def main() -> None:
    """Create a device with its key and its history, a rule, counted calls and a session."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor
    from django.utils import timezone

    for app, migration in MIGRATIONS[:2]:
        call_command("migrate", app, migration, verbosity=0)
    state = MigrationExecutor(connection).loader.project_state(MIGRATIONS)

    def table(app: str, model: str) -> Any:
        return state.apps.get_model(app, model).objects

    now = timezone.now()
    # In bulk, since what is told of a new account today has no table yet.
    kim = User(username="kim", is_staff=True, is_superuser=True)
    kim.set_password("a long enough password")
    User.objects.bulk_create([kim])
    lamp = {"identifier": IDENTIFIER, "kind": "device", "name": "Hall lamp", "description": ""}
    device = table("devices", "Device").create(**lamp)
    table("devices", "PreSharedKey").create(
        device=device, scheme="hmac-sha256", digest=DIGEST, pepper="test-2", hint="Qx3W…"
    )
    for name in ("Lamp", "Hall lamp"):
        table("devices", "HistoricalDevice").create(
            id=device.pk,
            **{**lamp, "name": name},
            enabled=True,
            attributes={},
            origin="admin",
            history_user_id="kim",
            history_change_reason="before the upgrade",
            history_date=now,
            history_type="~",
        )
    table("acl", "CommandPermission").create(
        effect="allow",
        source_kind="everyone",
        destination_kind="itself",
        pattern="/v1/*",
        source_key=0,
        destination_key=0,
        command_key="/v1/*",
    )
    table("rpc", "CallRecord").create(
        digest="0" * 32,
        bucket=now.replace(minute=0, second=0, microsecond=0),
        endpoint="verifier",
        question="credential",
        caller="//api.cesanta.com/cloud",
        subject=IDENTIFIER,
        outcome="refused",
        reason="wrong-secret",
        count=7,
        first=now,
        last=now,
    )
    session = SessionStore()
    session[SESSION_KEY] = str(kim.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = kim.get_session_auth_hash()
    session["signed_in_at"] = session["active_at"] = time.time()
    session.save()
    sys.stdout.write(session.session_key or "")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authsite.settings")
    django.setup()
    main()
