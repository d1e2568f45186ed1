"""Where webhooks may lead: what a URL may say, and which addresses may be connected to.

Whoever may name a URL could otherwise have the registry call hosts that only it reaches
(server-side request forgery). A URL is checked when it is saved, and each address when it is
connected to. (docs/threat-model.md)
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

ORDINARY_IPV6 = ip_network("2000::/3")
# Tunnels, through which IPv6 addresses lead to IPv4 ones, past a rule about those (6to4, Teredo);
# and what releases of Python disagree about.
SPECIAL = tuple(
    map(
        ip_network,
        ("2002::/16", "2001::/32", "3fff::/20", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15"),
    )
)

Address = IPv4Address | IPv6Address


class RefusedError(Exception):
    """An address that may not be called, and why."""


def check_url(url: str) -> SplitResult:
    """Return the parts of a URL that may be called; raises RefusedError."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise RefusedError(_("This is no URL.")) from None
    if not url.isascii() or not url.isprintable() or " " in url:
        raise RefusedError(_("Write the URL in ASCII, a name of a host in its xn-- form."))
    if parts.scheme not in ({"https", "http"} if settings.WEBHOOK_HTTP else {"https"}):
        raise RefusedError(
            _("Only https:// is called, unless the setting WEBHOOK_HTTP allows http://.")
        )
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise RefusedError(_("A URL is a host, a path and a query, without name and password."))
    if not is_named(host):
        raise RefusedError(_("%(host)s is not among WEBHOOK_HOSTS.") % {"host": host})
    try:
        address = ip_address(host)
    except ValueError:
        return parts
    check_address(address)
    return parts


def is_named(host: str) -> bool:
    """Whether WEBHOOK_HOSTS is empty or names the host, as itself or as `*.example.com`."""
    host = host.lower().rstrip(".")
    return not settings.WEBHOOK_HOSTS or any(
        host.endswith(one[1:]) if one.startswith("*.") else host == one
        for one in map(str.lower, settings.WEBHOOK_HOSTS)
    )


def check_address(address: Address) -> None:
    """Refuse an address that is neither on the internet nor in WEBHOOK_NETWORKS."""
    mapped = getattr(address, "ipv4_mapped", None) or address
    if any(mapped in network for network in settings.WEBHOOK_NETWORKS):
        return
    is_odd = isinstance(mapped, IPv6Address) and mapped not in ORDINARY_IPV6
    is_special = is_odd or any(mapped in network for network in SPECIAL)
    if is_special or not mapped.is_global or mapped.is_multicast or mapped.is_reserved:
        text = _("%(address)s is not on the internet, nor in WEBHOOK_NETWORKS.")
        raise RefusedError(text % {"address": address})
