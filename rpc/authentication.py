"""Authenticate callers: only the backend, by a credential or by the network that it calls from.

A credential is a secret (a frame's key, HTTP Basic) or a client certificate that the TLS front
hands on in a header; the front vouches that the client holds its private key.

(contract: Cesanta command endpoint, "Who may call"; RTIO device verifier, "Who may call".)
"""

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import count
from typing import Any
from urllib.parse import unquote

import msgspec
from django.conf import settings
from rest_framework.exceptions import (
    APIException,
    AuthenticationFailed,
    NotAuthenticated,
    PermissionDenied,
)

from devices.authentication import authenticate
from devices.credentials.certificates import backends_named
from devices.models import Device
from devices.telemetry import MAX_REQUEST_ID_LENGTH
from devices.values.addresses import AddressError, entity_id

Network = IPv4Network | IPv6Network

# Any of these, and the configured one, says that a proxy stands between: from anyone but a
# configured proxy it takes the request out of every network.
FORWARDING_HEADERS = frozenset(
    "HTTP_" + name
    for name in (
        "FORWARDED",
        "FORWARDED_FOR",
        "X_FORWARDED",
        "X_FORWARDED_FOR",
        "X_FORWARDED_BY",
        "X_FORWARDED_HOST",
        "X_FORWARDED_PORT",
        "X_FORWARDED_PROTO",
        "X_FORWARDED_SERVER",
        "X_ORIGINAL_FORWARDED_FOR",
        "X_REAL_IP",
        "X_CLIENT_IP",
        "X_CLUSTER_CLIENT_IP",
        "X_ENVOY_EXTERNAL_ADDRESS",
        "X_PROXYUSER_IP",
        "TRUE_CLIENT_IP",
        "CF_CONNECTING_IP",
        "FASTLY_CLIENT_IP",
        "FLY_CLIENT_IP",
        "VIA",
    )
)

REQUEST_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{MAX_REQUEST_ID_LENGTH}}}\Z")
WITH_PORT = re.compile(r"([\d.]+):\d{1,5}|\[([^\[\]]+)\](?::\d{1,5})?", re.ASCII)


class Caller(msgspec.Struct, frozen=True):
    """Who asks: a backend by its ID, or whatever calls from an address in a backend network."""

    identifier: str | None
    address: str | None = None


class Claim(msgspec.Struct, frozen=True):
    """What a request says of its sender besides HTTP: a frame's `src`, as an address, and `key`."""

    address: str | None = None
    key: object = None


NO_CLAIM = Claim()


class BackendCaller:
    """Lets the backend in: by a frame's key, HTTP Basic, a certificate, or its source address.

    Every credential that is presented must hold, even from a backend network. Raises
    NotAuthenticated or AuthenticationFailed (401), or PermissionDenied (403) where the sender
    is known but is no backend, or speaks for another entity.
    """

    challenge = 'Basic realm="authsite", charset="UTF-8"'  # of a 401

    def caller_of(self, meta: Mapping[str, Any], claim: Claim) -> Caller:
        """Return the caller; `claim` is what the body says of its sender."""
        caller = None
        if claim.key is not None:
            caller = _by_key(claim)
        if "HTTP_AUTHORIZATION" in meta:
            caller = _by_basic(meta["HTTP_AUTHORIZATION"], claim)
        if certificate := handed_on_certificate(meta):
            caller = _by_certificate(certificate, claim, caller)
        return self.caller_by_address(meta) if caller is None else caller

    def caller_by_address(self, meta: Mapping[str, Any]) -> Caller:
        """Return the caller of a request that presents no credential; raises NotAuthenticated."""
        address = source_address(meta)
        if address is None or not is_within(address, settings.BACKEND_NETWORKS):
            raise NotAuthenticated
        return Caller(None, address)

    def needs_database(self, meta: Mapping[str, Any], claim: Claim) -> bool:
        """Whether a credential is presented, which the database is asked about."""
        header = settings.CLIENT_CERT_HEADER
        return (
            claim.key is not None
            or "HTTP_AUTHORIZATION" in meta
            or bool(header and meta.get(_meta_name(header)))
        )


def _by_key(claim: Claim) -> Caller:
    if claim.address is None or not isinstance(claim.key, str):
        raise AuthenticationFailed
    return _backend(claim.address, secret=claim.key)


def claimed(meta: Mapping[str, Any], claim: Claim) -> str:
    """Return who a request says that it comes from, right or wrong; "" where it does not say."""
    address = claim.address or ""
    if "HTTP_AUTHORIZATION" in meta:
        try:
            address = _name_and_secret(meta["HTTP_AUTHORIZATION"])[0]
        except AuthenticationFailed:
            return ""
    return _id_or_none(address) or address


def _name_and_secret(header: str) -> tuple[str, str]:
    """Return what HTTP Basic credentials hold; raises AuthenticationFailed."""
    scheme, _, token = header.partition(" ")
    try:
        # The server hands a header on as Latin-1; what counts are its bytes.
        pair = base64.b64decode(token.strip().encode("latin-1"), validate=True).decode()
    except (binascii.Error, ValueError):
        raise AuthenticationFailed from None
    name, colon, secret = pair.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise AuthenticationFailed
    return name, secret


def _by_basic(header: str, claim: Claim) -> Caller:
    name, secret = _name_and_secret(header)
    caller = _backend(name, secret=secret)
    if claim.address is not None and _id_or_none(claim.address) != caller.identifier:
        raise PermissionDenied
    return caller


def _by_certificate(presented: str, claim: Claim, known: Caller | None) -> Caller:
    """Return whose certificate it is: of whom is known or claimed, else of whom it names."""
    if known is not None and known.identifier is not None:
        return _admitted(known.identifier, certificate=presented)
    if claim.address is not None:
        return _backend(claim.address, certificate=presented)
    refusal: APIException = AuthenticationFailed()
    for identifier in backends_named(presented):
        try:
            return _admitted(identifier, certificate=presented)
        except (AuthenticationFailed, PermissionDenied) as error:
            refusal = error
    raise refusal


def _backend(address: str, *, secret: str | None = None, certificate: str | None = None) -> Caller:
    identifier = _id_or_none(address)
    if identifier is None:
        raise AuthenticationFailed
    return _admitted(identifier, secret=secret, certificate=certificate)


def _admitted(
    identifier: str, *, secret: str | None = None, certificate: str | None = None
) -> Caller:
    verdict = authenticate(identifier, secret=secret, certificate=certificate, as_caller=True)
    if not verdict.verified:
        raise AuthenticationFailed(code=verdict.outcome)
    if verdict.kind != Device.Kind.BACKEND:
        raise PermissionDenied
    return Caller(identifier)


def _id_or_none(address: str) -> str | None:
    try:
        return entity_id(address)
    except AddressError:
        return None


def handed_on_certificate(meta: Mapping[str, Any]) -> str | None:
    """Return the client's certificate, PEM or DER in base64, that a configured proxy hands on.

    As nginx escapes it, as RFC 9440 writes it, or as DER in base64. None where there is none, or
    where no header is configured for it. From anyone but a configured proxy it is forged, and so
    is one of two: raises AuthenticationFailed.
    """
    if not settings.CLIENT_CERT_HEADER:
        return None
    value: str = meta.get(_meta_name(settings.CLIENT_CERT_HEADER), "").strip()
    if not value:
        return None
    if not is_within(meta.get("REMOTE_ADDR") or "", settings.TRUSTED_PROXIES):
        raise AuthenticationFailed
    if "," in value:  # the header came twice, and not all of it is the proxy's; no form has one
        raise AuthenticationFailed
    if value.startswith(":") and value.endswith(":"):
        return value[1:-1]
    return unquote(value)


class RequestIds:
    """Names requests, for their answers and their log lines."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(5)
        self._numbers = count(1)

    def of(self, meta: Mapping[str, Any]) -> str:
        """Return the id that a configured proxy gave a request, else a new one."""
        given: str | None = meta.get("HTTP_X_REQUEST_ID")
        if (
            given is not None
            and REQUEST_ID.match(given)
            and is_within(meta.get("REMOTE_ADDR") or "", settings.TRUSTED_PROXIES)
        ):
            return given
        return f"{self._prefix}-{next(self._numbers):x}"


def source_address(meta: Mapping[str, Any]) -> str | None:
    """Return the address that a request really comes from, or None where that is not certain.

    A configured proxy is believed for what its forwarding header (FORWARDED_FOR_HEADER) adds: the
    last address in it that is not itself a configured proxy. A proxy that says nothing, and a
    forwarding header from anyone else, leave the address unknown.
    """
    peer: str = meta.get("REMOTE_ADDR") or ""
    proxies: tuple[Network, ...] = settings.TRUSTED_PROXIES
    forwarded_for = _meta_name(settings.FORWARDED_FOR_HEADER)
    if not (proxies and is_within(peer, proxies)):
        forwarded = forwarded_for in meta or not FORWARDING_HEADERS.isdisjoint(meta.keys())
        return None if forwarded else peer or None
    hops: str = meta.get(forwarded_for, "")
    for hop in reversed(hops.split(",")):
        address = _without_port(hop.strip())
        if not is_within(address, proxies):
            return address or None
    return None


def _without_port(hop: str) -> str:
    """Return the address of a hop, which some proxies write with the port that it came from.

    `203.0.113.10:51234`, `[2001:db8::1]:443` and `[2001:db8::1]`; what is none of these stays.
    """
    match = WITH_PORT.fullmatch(hop)
    return hop if match is None else match[1] or match[2]


@lru_cache(maxsize=8)
def _meta_name(header: str) -> str:
    """Return the key under which a WSGI server hands a header on."""
    return "HTTP_" + header.upper().replace("-", "_")


@lru_cache(maxsize=4096)
def is_within(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address is in one of the networks; what is no address is in none."""
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)
