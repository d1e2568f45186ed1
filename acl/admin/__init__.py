"""What staff see of command permissions; importing it registers the pages."""

from acl.admin import command_permission  # noqa: F401
