"""`manage.py seed_demo`: the registry that the documentation's examples speak of."""

import json
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from acl.models import CommandPermission
from acl.notation import read_rule
from devices.management.base import RegistryCommand
from devices.models import Device, DeviceGroup, PreSharedKey

REGISTRY = Path(settings.BASE_DIR, "authsite", "demo_registry.json")


class Command(RegistryCommand):
    """Fill an empty registry with the demo's devices, keys and permissions."""

    help = (
        "Load the demo registry: devices whose secrets are printed in the documentation. Never "
        "run it on a registry that is to be trusted; one that is not empty is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add who may sign in, and what to do where there is nothing to do."""
        super().add_arguments(parser)
        parser.add_argument(
            "--staff-user",
            metavar="NAME",
            help="also create this superuser, with a generated password that is printed once",
        )
        parser.add_argument(
            "--if-empty",
            action="store_true",
            help="do nothing, and succeed, where the registry is not empty",
        )

    def handle(self, *, staff_user: str | None, if_empty: bool, **options: Any) -> None:
        """Load everything or nothing; exit with 1 where there is something already."""
        with transaction.atomic():
            if any(model.objects.exists() for model in (Device, DeviceGroup, CommandPermission)):
                if if_empty:
                    self.answer(
                        options, "The registry is not empty: left as it is.", {"seeded": False}
                    )
                    return
                raise CommandError("the registry is not empty: nothing was loaded", returncode=1)
            registry = json.loads(REGISTRY.read_text())
            for entry in registry["devices"]:
                _add_device(**entry)
            for entry in registry["permissions"]:
                _add_permission(**entry)
            password = _create_staff(staff_user) if staff_user else None
        counts = {name: len(registry[name]) for name in ("devices", "permissions")}
        text = "Loaded {devices} devices and {permissions} permissions.".format(**counts)
        if password:
            text += f"\nSign in at /admin/ as {staff_user} with the password {password}"
        elif staff_user:
            text += f"\nThe user {staff_user} exists; the password is unchanged."
        self.answer(
            options,
            text,
            {"seeded": True, **counts, "staff_user": staff_user, "password": password},
        )


def _add_device(
    *, identifier: str, kind: str, secret: str | None = None, enabled: bool = True
) -> None:
    device = Device(identifier=identifier, kind=kind, enabled=enabled)
    device.full_clean()
    device.save()
    if secret is not None:
        PreSharedKey.objects.register(device=device, secret=secret, label="demo")


def _add_permission(*, effect: str, source: str, destination: str, command: str) -> None:
    permission = read_rule(effect=effect, source=source, destination=destination, command=command)
    permission.full_clean()
    permission.save()


def _create_staff(name: str) -> str | None:
    """Create a superuser and return the password, which is kept nowhere; None where one exists."""
    if User.objects.filter(username=name).exists():
        return None
    password = secrets.token_urlsafe(12)
    User.objects.create_superuser(name, password=password)
    return password
