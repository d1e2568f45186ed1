import json
import os
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from acl.models import CommandPermission
from authsite.management import demo
from devices.management.base import RegistryCommand
from devices.models import Device, DeviceGroup, PreSharedKey

REGISTRY = Path(settings.BASE_DIR, "authsite", "management", "demo_registry.json")


class Command(RegistryCommand):
    help = (
        "Load the demo registry: devices whose secrets are printed in the documentation. Never\n"
        "run it on a registry that is to be trusted; one that is not empty is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
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
        parser.add_argument(
            "--furnish",
            action="store_true",
            help="also add groups, a fleet, rules and days of calls, so that pages have what to "
            "show; refused where HTTPS is on, as it is in production",
        )
        parser.add_argument(
            "--serve",
            action="store_true",
            help="then serve the registry, as `serve` does, and print how to log in at the end",
        )

    def handle(
        self, *, staff_user: str | None, if_empty: bool, furnish: bool, serve: bool, **options: Any
    ) -> None:
        """Load everything or nothing; exit with 1 where there is something already."""
        if furnish and settings.HTTPS:
            raise CommandError("HTTPS is on: this looks like production", returncode=1)
        with transaction.atomic():
            document = self._load(staff_user, if_empty=if_empty)
            if furnish and document["seeded"]:
                demo.furnish(timezone.now())
                document |= {
                    "devices": Device.objects.count(),
                    "permissions": CommandPermission.objects.count(),
                }
        if document["seeded"]:
            text = "Loaded {devices} devices and {permissions} rules.".format(**document)
        else:
            text = "The registry is not empty: left as it is."
        sign_in = _how_to_sign_in(staff_user, document.get("password"))
        if serve:
            self.stdout.write(text)
            self._serve(sign_in)
            return
        if document["seeded"] and staff_user:
            text += "\n" + sign_in.replace("{url}", "")
        self.answer(text, document)

    @staticmethod
    def _load(staff_user: str | None, *, if_empty: bool) -> dict[str, Any]:
        if any(model.objects.exists() for model in (Device, DeviceGroup, CommandPermission)):
            if if_empty:
                return {"seeded": False}
            raise CommandError("the registry is not empty: nothing was loaded", returncode=1)
        registry = json.loads(REGISTRY.read_text("utf-8"))
        for entry in registry["devices"]:
            _add_device(**entry)
        for entry in registry["permissions"]:
            demo.add_rule(**entry)
        counts = {name: len(registry[name]) for name in ("devices", "permissions")}
        password = _create_staff(staff_user) if staff_user else None
        return {"seeded": True, **counts, "staff_user": staff_user, "password": password}

    def _serve(self, sign_in: str) -> None:
        """Become the server, which prints how to log in once it answers."""
        os.environ.setdefault("DELIVER", "on")  # nobody runs `deliver` beside a demo
        try:
            call_command("serve", notice=f"{sign_in}\n", skip_checks=False)
        except CommandError:
            self.stdout.write(sign_in.replace("{url}", ""))  # else nobody knows the password
            raise


def _how_to_sign_in(name: str | None, password: str | None) -> str:
    """Return the line that tells staff; {url} stands for the server's."""
    where = "Log in at {url}/admin/"
    if password:
        return f"{where} as {name} with the password {password}"
    if name and User.objects.filter(username=name).exists():
        return (
            f"The user {name} exists; the password is unchanged (to set another: manage.py "
            f"changepassword {name}). {where}"
        )
    return where


def _add_device(
    *, identifier: str, kind: str, secret: str | None = None, enabled: bool = True
) -> None:
    device = Device(identifier=identifier, kind=kind, enabled=enabled)
    device.full_clean()
    device.save()
    if secret is not None:
        PreSharedKey.objects.register(device=device, secret=secret, label="demo")


def _create_staff(name: str) -> str | None:
    """Create a superuser and return the password, which is kept nowhere; None where one exists."""
    if User.objects.filter(username=name).exists():
        return None
    password = secrets.token_urlsafe(12)
    User.objects.create_superuser(name, password=password)
    return password
