"""Some proxies append the port to an address that they forward: all came from the proxy then.

Azure's front ends write `203.0.113.10:51234`; IPv6 addresses come in brackets.

A public report of this kind: https://github.com/rack/rack/issues/1227.
"""

from ipaddress import ip_network
from typing import Any

import pytest

from rpc.authentication import source_address
from tests.support.servers import Server, own_database

pytestmark = pytest.mark.once(on="sqlite")


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


@pytest.mark.e2e
def test_names_with_an_underscore_are_no_other_spelling(tmp_path: Any) -> None:
    """Whatever comes last, and whichever header is configured."""
    networks = {"TRUSTED_PROXIES": "127.0.0.1/32", "BACKEND_NETWORKS": "10.0.0.0/8"}
    names = networks | {"WORKERS": "1"}
    stranger, backend = "203.0.113.9", "10.0.0.9"
    with own_database(tmp_path) as url:
        with Server(tmp_path, url, **names) as server:
            for sent, status in (
                ({"X-Forwarded-For": backend}, 200),
                ({"X-Forwarded-For": backend, "X_Forwarded_For": stranger}, 200),
                ({"X-Forwarded-For": stranger, "X_Forwarded_For": backend}, 401),
                ({"X_Forwarded_For": backend, "X-Forwarded-For": stranger}, 401),
                ({"X-Forwarded_For": backend}, 401),
            ):
                assert server.ask("POST", "/v1/Hello", b"{}", sent).status == status
        with Server(tmp_path, url, FORWARDED_FOR_HEADER="ClientAddress", **names) as server:
            for spelled in ("Client-Address", "Client_Address", "X_Forwarded_For"):
                headers = {"ClientAddress": stranger, spelled: backend}
                assert server.ask("POST", "/v1/Hello", b"{}", headers).status == 401
