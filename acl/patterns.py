"""The name by which migrations know the validator of command patterns."""

from acl.engine.patterns import validate_pattern

__all__ = ["validate_pattern"]
