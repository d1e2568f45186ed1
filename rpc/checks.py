"""Check settings that work and trust too much."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags, register

# Headers that clients send anyway.
ORDINARY = frozenset(
    {"accept", "authorization", "connection", "cookie", "host", "origin", "referer", "user-agent"}
)


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
    message = checks.Warning(
        "CACHE_URL names a cache that keeps nothing: failed guesses are not counted.",
        hint="Leave it out, or name a Valkey, a Redis or a database table.",
        id="rpc.W002",
    )
    return [message] if settings.CACHES["default"]["BACKEND"].endswith("DummyCache") else []


@register(Tags.security)
def certificates_come_from_proxies(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of a certificate header that nobody may send, or that any client can."""
    header = settings.CLIENT_CERT_HEADER
    if not header:
        return []
    found: list[CheckMessage] = []
    if not settings.TRUSTED_PROXIES:
        found.append(
            checks.Warning(
                "CLIENT_CERT_HEADER is set and TRUSTED_PROXIES is empty: no certificate is taken.",
                hint="Name the proxy that ends TLS in TRUSTED_PROXIES.",
                id="rpc.W003",
            )
        )
    if header.lower() == settings.FORWARDED_FOR_HEADER.lower() or header.lower() in ORDINARY:
        found.append(
            checks.Error(
                f"CLIENT_CERT_HEADER names {header}, which says something else.",
                hint="Name a header that the proxy sets for this alone, such as ClientCert.",
                id="rpc.E001",
            )
        )
    if "-" in header:
        found.append(
            checks.Info(
                f"CLIENT_CERT_HEADER names {header}: WSGI does not tell its hyphens from "
                "underscores, so the proxy must drop header names with underscores (nginx does).",
                hint="A name without a hyphen, such as ClientCert, has no second spelling.",
                id="rpc.I001",
            )
        )
    return found
