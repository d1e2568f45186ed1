"""System checks: settings that work and trust too much."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags, register


@register(Tags.security)
def networks_are_narrow(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of a network that is the whole world."""
    return [
        checks.Warning(
            f"{name} holds {network}: every address there is.",
            hint="Name the networks of the backend, or of the proxies, and no others.",
            id="rpc.W001",
        )
        for name in ("BACKEND_NETWORKS", "TRUSTED_PROXIES")
        for network in getattr(settings, name)
        if network.prefixlen == 0
    ]


@register(Tags.security)
def failures_are_counted(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of a cache that keeps nothing: guesses at secrets would not be counted."""
    if not settings.CACHES["default"]["BACKEND"].endswith("DummyCache"):
        return []
    return [
        checks.Warning(
            "CACHE_URL names a cache that keeps nothing: failed guesses are not counted.",
            hint="Leave it out, or name a Valkey, a Redis or a database table.",
            id="rpc.W002",
        )
    ]
