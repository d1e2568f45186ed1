"""Fill an empty registry for a benchmark, quickly, and write the requests to ask of it.

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

Exchange = tuple[bytes, bytes]

BATCH = 5_000
ASKED = 20_000  # different requests of each kind: no cache of pages holds them all
GROUPS = 200
RULES_OF_DEVICES = 10_000
dice = random.Random(17217)


def request(path: str, document: object) -> bytes:
    """Return a POST as RTIO's client sends it: without Content-Type and Accept."""
    body = json.dumps(document).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: registry\r\nUser-Agent: Go-http-client/1.1\r\n"
        f"Content-Length: {len(body)}\r\nAccept-Encoding: gzip\r\n\r\n"
    ).encode() + body


def verification(identifier: str, secret: str) -> Exchange:
    """Return an RTIO question whose answer is yes."""
    number = dice.getrandbits(32)
    document = {"id": number, "method": "verify", "deviceid": identifier, "devicesecret": secret}
    return request("/deviceverifier", document), b'{"id":%d,"code":"OK"}' % number


def authorization(source: str, destination: str, command: str) -> Exchange:
    """Return a frame with one AuthorizeCommand whose answer is true."""
    number = dice.getrandbits(31)
    arguments = {"src": source, "dst": destination, "cmd": command}
    call = {"cmd": "/v1/Auth.AuthorizeCommand", "id": number, "args": arguments}
    document = {"v": 1, "src": "//bench/cloud", "dst": "//bench/registry", "cmds": [call]}
    return request("/", document), b'"resp":[{"id":%d,"status":0,"resp":true}]' % number


def add_devices(count: int) -> dict[str, str]:
    """Create devices with a generated secret each; return the secrets by identifier."""
    from devices import secrets
    from devices.models import Device, PreSharedKey
    from devices.secrets import Scheme

    pepper = secrets.newest_pepper()
    known: dict[str, str] = {}
    for start in range(0, count, BATCH):
        devices = Device.objects.bulk_create(
            Device(identifier=str(uuid.UUID(int=dice.getrandbits(128), version=4)))
            for _ in range(min(BATCH, count - start))
        )
        fresh = {device.pk: secrets.generate() for device in devices}
        PreSharedKey.objects.bulk_create(
            PreSharedKey(
                device=device,
                scheme=Scheme.HMAC_SHA256,
                digest=secrets.digest(fresh[device.pk], Scheme.HMAC_SHA256, pepper),
                pepper=pepper,
            )
            for device in devices
        )
        known |= {device.identifier: fresh[device.pk] for device in devices}
    return known


def add_permissions() -> list[Exchange]:
    """Put the devices into groups, add rules, and return frames that the rules allow.

    Each device is in two groups. Each group may read within itself; some devices have a rule of
    their own; a deny for everyone is looked up every time.
    """
    from acl.models import CommandPermission
    from devices.models import Device, DeviceGroup

    groups = DeviceGroup.objects.bulk_create(
        DeviceGroup(name=f"group {number}") for number in range(GROUPS)
    )
    devices = list(Device.objects.only("pk", "identifier"))
    membership = Device.groups.through
    members: dict[int, list[Device]] = {group.pk: [] for group in groups}
    rows = []
    for device in devices:
        for group in dice.sample(groups, 2):
            members[group.pk].append(device)
            rows.append(membership(device_id=device.pk, devicegroup_id=group.pk))
    membership.objects.bulk_create(rows, batch_size=BATCH)
    pairs = [(dice.choice(devices), dice.choice(devices)) for _ in range(RULES_OF_DEVICES)]
    CommandPermission.objects.bulk_create(
        [
            CommandPermission(
                effect="deny",
                source_kind="everyone",
                destination_kind="everyone",
                pattern="/v1/Config.Erase",
            ),
            *(
                CommandPermission(
                    source_kind="group",
                    source_group=group,
                    destination_kind="same-group",
                    pattern="/v1/Config.*",
                )
                for group in groups
            ),
            *(
                CommandPermission(
                    source_kind="device",
                    source_device=source,
                    destination_kind="device",
                    destination_device=destination,
                    pattern="/v1/Valve.Open",
                )
                for source, destination in pairs
            ),
        ],
        batch_size=BATCH,
    )
    exchanges = [
        authorization(source.identifier, destination.identifier, "/v1/Valve.Open")
        for source, destination in dice.sample(pairs, min(ASKED // 2, len(pairs)))
    ]
    for _ in range(ASKED - len(exchanges)):
        source, destination = dice.sample(members[dice.choice(groups).pk], 2)
        exchanges.append(authorization(source.identifier, destination.identifier, "/v1/Config.Get"))
    dice.shuffle(exchanges)
    return exchanges


def main() -> None:
    """Seed and write."""
    django.setup()
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    known = add_devices(count)
    asked = dice.sample(sorted(known), min(ASKED, len(known)))
    exchanges = {
        "empty": [(b"GET /empty HTTP/1.1\r\nHost: registry\r\n\r\n", b" 200 OK")],
        "bare": [(b"GET /bare HTTP/1.1\r\nHost: registry\r\n\r\n", b" 200 OK")],
        "verifier": [verification(identifier, known[identifier]) for identifier in asked],
        "authorize": add_permissions(),
    }
    for name, pairs in exchanges.items():
        with (folder / name).open("wb") as file:
            pickle.dump(pairs, file)


if __name__ == "__main__":
    main()
