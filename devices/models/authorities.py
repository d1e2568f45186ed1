"""The name by which migrations know the validator of naming templates."""

from devices.models.credentials.authority import check_template

__all__ = ["check_template"]
