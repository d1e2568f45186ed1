"""What staff see of command permissions; importing it registers the pages."""

from acl.admin import assertion, command_permission, command_set  # noqa: F401
