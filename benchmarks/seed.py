"""Fill an empty registry with devices for a benchmark, quickly, and write the requests to ask.

`python -m benchmarks.seed DEVICES FOLDER` writes one file for each kind of request, as
`benchmarks.load` reads them.
"""

import json
import pickle
import random
import sys
import uuid
from pathlib import Path

import django

BATCH = 5_000
ASKED = 20_000  # different requests of each kind: more than any cache of pages would flatter
dice = random.Random(17217)


def request(path: str, document: object) -> bytes:
    """Return a POST as RTIO's client sends it: without Content-Type and Accept."""
    body = json.dumps(document).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: registry\r\nUser-Agent: Go-http-client/1.1\r\n"
        f"Content-Length: {len(body)}\r\nAccept-Encoding: gzip\r\n\r\n"
    ).encode() + body


def verification(identifier: str, secret: str) -> tuple[bytes, bytes]:
    """Return an RTIO question whose answer is yes."""
    number = dice.getrandbits(32)
    document = {
        "id": number,
        "method": "verify",
        "deviceid": identifier,
        "devicesecret": secret,
    }
    return request("/deviceverifier", document), b'{"id":%d,"code":"OK"}' % number


def add_devices(count: int) -> list[tuple[str, str]]:
    """Create devices with a generated secret each; return identifiers and secrets."""
    from devices import secrets
    from devices.models import Device, PreSharedKey
    from devices.secrets import Scheme

    pepper = secrets.newest_pepper()
    known = []
    for start in range(0, count, BATCH):
        devices = Device.objects.bulk_create(
            Device(identifier=str(uuid.UUID(int=dice.getrandbits(128), version=4)))
            for _ in range(min(BATCH, count - start))
        )
        keys = []
        for device in devices:
            secret = secrets.generate()
            known.append((device.identifier, secret))
            keys.append(
                PreSharedKey(
                    device=device,
                    scheme=Scheme.HMAC_SHA256,
                    digest=secrets.digest(secret, Scheme.HMAC_SHA256, pepper),
                    pepper=pepper,
                )
            )
        PreSharedKey.objects.bulk_create(keys)
    return known


def main() -> None:
    """Seed and write."""
    django.setup()
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    known = add_devices(count)
    asked = dice.sample(known, min(ASKED, len(known)))
    exchanges = {
        "empty": [(b"GET /empty HTTP/1.1\r\nHost: registry\r\n\r\n", b"200 OK")],
        "verifier": [verification(*device) for device in asked],
    }
    for name, pairs in exchanges.items():
        with (folder / name).open("wb") as file:
            pickle.dump(pairs, file)


if __name__ == "__main__":
    main()
