"""Where webhooks may lead: URLs, hosts and addresses that are permitted, and all others."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from devices.events.addresses import RefusedError, check_address, check_url

pytestmark = pytest.mark.once(on="sqlite")

PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:2800:220:1::1", "2a00:1450:4001::1"]
INNER = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "3fff::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2001:0:7f00:1::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_may_be_called(address: str) -> None:
    check_address(ip_address(address))


@pytest.mark.parametrize("address", INNER)
def test_inner_addresses_may_not_be_called(address: str, settings: Any) -> None:
    with pytest.raises(RefusedError):
        check_address(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(RefusedError):
        check_url(f"https://{host}/")


def test_networks_that_are_named_may_be_called(settings: Any) -> None:
    settings.WEBHOOK_NETWORKS = (ip_network("10.1.0.0/16"), ip_network("fd00:1::/32"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5"):
        check_address(ip_address(address))
    for address in ("10.2.0.1", "::ffff:10.2.0.1", "fd00:2::5", "127.0.0.1"):
        with pytest.raises(RefusedError):
            check_address(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "//example.com/",
        "example.com",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://example.com:port/",
        "https://example.com:99999/",
        "https://example.com/#part",
        "https://exämple.com/",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://[::1",
        "",
    ],
)
def test_urls_that_are_not_called(url: str) -> None:
    with pytest.raises(RefusedError):
        check_url(url)


def test_plain_http_only_where_it_is_permitted(settings: Any) -> None:
    settings.WEBHOOK_HTTP = True
    assert check_url("http://example.com:8080/hook?x=1").port == 8080


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("example.com", True),
        ("EXAMPLE.com.", True),
        ("a.b.example.org", True),
        ("example.org", False),
        ("badexample.org", False),
        ("example.com.evil.net", False),
        ("93.184.216.34", False),
    ],
)
def test_hosts_that_are_named(host: str, may: bool, settings: Any) -> None:
    settings.WEBHOOK_HOSTS = ["example.com", "*.example.org"]
    if may:
        check_url(f"https://{host}/")
        return
    with pytest.raises(RefusedError):
        check_url(f"https://{host}/")
