"""The wire formats of the machine endpoints."""

from django.apps import AppConfig


class RpcConfig(AppConfig):
    """Frames, command definitions and the two views."""

    name = "rpc"

    def ready(self) -> None:
        """Register the system checks."""
        from rpc import checks  # noqa: F401
