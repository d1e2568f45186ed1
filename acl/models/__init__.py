"""What may be commanded: rules, the sets of commands they refer to, and what staff expect."""

from acl.models.assertion import Assertion
from acl.models.command_permission import CommandPermission
from acl.models.command_set import CommandSet, CommandSetPattern

__all__ = ["Assertion", "CommandPermission", "CommandSet", "CommandSetPattern"]
