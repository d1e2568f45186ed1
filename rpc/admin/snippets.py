"""What staff paste into a device, a terminal or a configuration once they have a new secret."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from django.http import HttpRequest
from django.utils.translation import gettext as _

from devices.extension_points import Snippet
from devices.models import Device
from devices.models.device import RTIO_MAX_LENGTH, RTIO_MIN_LENGTH
from devices.values.addresses import written

# The body is read from the terminal, not from the arguments, which others on the machine see.
CURL = """curl --data-binary @- {url} <<'END'
{body}
END"""
CURL_AS = """curl --config - {url} <<'END'
user = {user}
data-binary = {body}
END"""


def snippets(request: HttpRequest, device: Device, secret: str) -> Iterator[Snippet]:
    """Yield the forms in which a device, or a part of the backend, takes its secret."""
    if device.kind == Device.Kind.BACKEND:
        yield from _of_backend(request, device, secret)
        return
    url = request.build_absolute_uri("/deviceverifier")
    credential = {"deviceid": device.identifier, "devicesecret": secret}
    yield Snippet(_("JSON"), json.dumps(credential, ensure_ascii=False))
    characters = len(device.identifier)
    if RTIO_MIN_LENGTH <= characters <= RTIO_MAX_LENGTH:  # else its answer is NOT_FOUND
        question: dict[str, Any] = {"method": "verify", "id": 1, **credential}
        title = _("Try it, from a network of the backend: the answer is OK")
    else:
        url = request.build_absolute_uri("/v1/Auth.Authenticate")
        question = {"id": written(device.identifier), "credentials": {"psk": secret}}
        title = _("Try it, from a network of the backend: the result is true")
    yield Snippet(title, CURL.format(url=url, body=json.dumps(question, ensure_ascii=False)))


def _of_backend(request: HttpRequest, device: Device, secret: str) -> Iterator[Snippet]:
    if device.basic_warning():
        body = json.dumps(
            {
                "v": 1,
                "src": device.identifier,
                "key": secret,
                "cmds": [{"cmd": "/v1/Hello", "id": 1}],
            },
            ensure_ascii=False,
        )
        yield Snippet(
            _("Try it: status 0 in the answer means that the backend is let in"),
            CURL.format(url=request.build_absolute_uri("/rpc"), body=body),
        )
        return
    url = request.build_absolute_uri("/deviceverifier")
    name = _basic_name(device.identifier)
    named = f"{quote(name, safe='')}:{quote(secret, safe='')}"
    parts = urlsplit(url)
    yield Snippet(
        _("URL of the device verifier, for RTIO"),
        urlunsplit(parts._replace(netloc=f"{named}@{parts.netloc}")),
    )
    body = json.dumps({"method": "verify", "id": 1, "deviceid": "-" * 36, "devicesecret": "-" * 24})
    yield Snippet(
        _("Try it: the answer NOT_FOUND means that the backend is let in"),
        CURL_AS.format(
            url=url, user=json.dumps(f"{name}:{secret}", ensure_ascii=False), body=json.dumps(body)
        ),
    )


def _basic_name(identifier: str) -> str:
    """Return an ID as an address that HTTP Basic takes for a name: a colon would end it."""
    address = written(identifier)
    return address.replace(":", "%3A") if address.startswith("//") else address
