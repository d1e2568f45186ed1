"""The name by which migrations know what deletes certificates."""

from devices.models.credentials.certificate import keep_revoked

__all__ = ["keep_revoked"]
