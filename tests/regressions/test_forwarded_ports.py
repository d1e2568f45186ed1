"""Some proxies append the port to an address that they forward: all came from the proxy then.

Azure's front ends write `203.0.113.10:51234`; IPv6 addresses come in brackets.
"""

from ipaddress import ip_network
from typing import Any

import pytest
from django.core.checks import run_checks

from rpc.authentication import source_address
from tests.support.servers import Server, own_database


@pytest.mark.parametrize(
    ("hops", "address"),
    [
        ("203.0.113.10:51234", "203.0.113.10"),
        ("198.51.100.1, 203.0.113.10:51234", "203.0.113.10"),
        ("203.0.113.10:51234, 10.0.0.1:443", "203.0.113.10"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::1:443", "2001:db8::1:443"),
        ("10.0.0.1:443", None),
        ("", None),
    ],
)
def test_a_port_is_no_part_of_an_address(hops: str, address: str | None, settings: Any) -> None:
    settings.TRUSTED_PROXIES = (ip_network("10.0.0.0/8"),)
    meta = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": hops}
    assert source_address(meta) == address


@pytest.mark.parametrize(
    ("proxies", "header", "found"),
    [
        (("10.0.0.1/32",), "X-Forwarded-For", ["rpc.W004"]),
        (("10.0.0.1/32",), "ClientAddress", []),
        ((), "X-Forwarded-For", []),
    ],
)
def test_a_header_with_two_spellings_is_warned_of(
    proxies: tuple[str, ...], header: str, found: list[str], settings: Any
) -> None:
    settings.TRUSTED_PROXIES = tuple(map(ip_network, proxies))
    settings.FORWARDED_FOR_HEADER = header
    assert [message.id for message in run_checks(tags=["security"])] == found


@pytest.mark.e2e
def test_a_name_without_a_hyphen_has_one_spelling(tmp_path: Any) -> None:
    """Of two spellings granian hands on the last: docs/operations.md says so, too."""
    names = {"TRUSTED_PROXIES": "127.0.0.1/32", "BACKEND_NETWORKS": "10.0.0.0/8"}
    stranger, backend = "203.0.113.9", "10.0.0.9"
    with own_database(tmp_path) as url:
        with Server(tmp_path, url, **names) as server:
            for spellings, status in (
                ({"X-Forwarded-For": stranger, "X_Forwarded_For": backend}, 200),
                ({"X_Forwarded_For": backend, "X-Forwarded-For": stranger}, 401),
            ):
                assert server.ask("POST", "/v1/Hello", b"{}", spellings).status == status
        with Server(tmp_path, url, FORWARDED_FOR_HEADER="ClientAddress", **names) as server:
            for spelled in ("Client-Address", "Client_Address", "X_Forwarded_For"):
                headers = {"ClientAddress": stranger, spelled: backend}
                assert server.ask("POST", "/v1/Hello", b"{}", headers).status == 401
