"""What may be commanded: rules, the sets of commands they refer to, and what staff expect."""

from acl.models.assertions import Assertion
from acl.models.command_sets import CommandSet, CommandSetPattern
from acl.models.permissions import CommandPermission

__all__ = ["Assertion", "CommandPermission", "CommandSet", "CommandSetPattern"]
