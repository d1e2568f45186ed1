"""What may be commanded: rules, and the named sets of commands that rules refer to."""

from acl.models.command_sets import CommandSet, CommandSetPattern
from acl.models.permissions import CommandPermission

__all__ = ["CommandPermission", "CommandSet", "CommandSetPattern"]
