from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from devices.management.base import ChangeCommand, fields_of, trimmed
from devices.models import Device, PreSharedKey


class Command(ChangeCommand):
    help = (
        "Register a device, with a first key if one is asked for.\n\n"
        "A generated secret is printed once and stored nowhere; a given one is stored one-way\n"
        "and never printed. Prefer --secret-stdin to --secret: a command line can be read by\n"
        "other users of the machine and stays in the shell's history."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("identifier", help="the ID, exactly as the device presents it")
        parser.add_argument(
            "--kind",
            choices=Device.Kind.values,
            default=Device.Kind.DEVICE.value,
            help="a backend may call the machine endpoints; a device never (default: device)",
        )
        parser.add_argument("--name", type=trimmed, default="", help="what staff call it")
        parser.add_argument(
            "--group",
            action="append",
            default=[],
            metavar="NAME",
            help="an existing group to put it in; may be given again",
        )
        parser.add_argument("--disabled", action="store_true", help="refuse it for now")
        secret = parser.add_mutually_exclusive_group()
        secret.add_argument(
            "--generate-secret", action="store_true", help="issue a key and print its secret once"
        )
        secret.add_argument(
            "--secret-stdin", action="store_true", help="read the secret from standard input"
        )
        secret.add_argument("--secret", metavar="S", help="the secret itself; see above")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        given = self.secret_from_stdin() if options["secret_stdin"] else options["secret"]
        said = {name: options[name] for name in ("identifier", "kind", "name")}
        device = Device(**said, enabled=not options["disabled"])
        device.full_clean()
        for warning in device.registration_warnings():
            self.stderr.write(f"warning: {warning}")
        with self.change(options):
            device.save()
            device.groups.set([self.group(name) for name in options["group"]])
        document = {
            **fields_of(device, "identifier", "kind", "enabled"),
            "groups": sorted(set(options["group"])),
            "key": None,
        }
        lines = [f"Registered {device.kind} {device.identifier}."]
        if options["generate_secret"]:
            key, secret = PreSharedKey.objects.issue(device=device)
            document |= {"key": key.pk, "secret": secret}
            lines.append(f"Secret (shown once): {secret}")
        elif given is not None:
            key = PreSharedKey.objects.register(device=device, secret=given)
            document["key"] = key.pk
            self.warn_if_weak(given, device)
        self.answer("\n".join(lines), document)
