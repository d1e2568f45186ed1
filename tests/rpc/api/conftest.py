"""Clients of the API."""

from tests.devices.api.conftest import api, client_of

__all__ = ["api", "client_of"]
