"""What the commands about command sets have in common."""

from typing import Any

from django.core.management.base import CommandError

from acl.models import CommandSet


def command_set(name: str) -> CommandSet:
    """Return the command set of that name; ends with 1 where there is none."""
    try:
        return CommandSet.objects.get(name=name)
    except CommandSet.DoesNotExist:
        raise CommandError(f"there is no command set named “{name}”", returncode=1) from None


def described(row: CommandSet) -> dict[str, Any]:
    commands = sorted(one.pattern for one in row.patterns.all())
    return {"set": row.name, "description": row.description, "commands": commands}
