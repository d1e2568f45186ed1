"""Fill an empty registry for a benchmark, quickly, and write the requests to ask of it.

`python -m benchmarks.seed DEVICES FOLDER` writes one file for each kind of request, as
`benchmarks.load` reads them; `known` and `chosen`, the identifiers and secrets themselves; and
`devices.tsv`, the digests for who keeps them in memory.
"""

import argparse
import os
import pickle
import random
import uuid
from collections.abc import Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import django

from benchmarks.rtio import Exchange, answer, question, request
from devices.database.batches import batched

BATCH = 5_000
DIFFERENT = 100_000  # devices asked about, of those in a registry of devices alone
ASKED = 20_000  # different questions about commands
FRAMES = 1_000  # different frames of many
FRAME = 100  # commands in each
GROUPS = 200
RULES_OF_DEVICES = 10_000
dice = random.Random(17217)
Ends = tuple[str, str, str]  # source, destination, command


def verification(identifier: str, secret: str) -> Exchange:
    """Return an RTIO question whose answer is yes."""
    number = dice.getrandbits(32)
    return question(number, identifier, secret), answer(number)


def authorization(asked: Sequence[Ends]) -> Exchange:
    """Return a frame with an AuthorizeCommand for each, whose answers are all true."""
    numbers = [dice.getrandbits(31) for _ in asked]
    calls = [
        {
            "cmd": "/v1/Auth.AuthorizeCommand",
            "id": number,
            "args": {"src": source, "dst": destination, "cmd": command},
        }
        for number, (source, destination, command) in zip(numbers, asked, strict=True)
    ]
    document = {"v": 1, "src": "//bench/cloud", "dst": "//bench/registry", "cmds": calls}
    answers = b",".join(b'{"id":%d,"status":0,"resp":true}' % number for number in numbers)
    return request("/", document), b'"resp":[%b]' % answers


def few(most: int, things: Sized) -> int:
    """Return how many there are, or as many as are wanted at most."""
    return min(most, len(things))


def key_of(device: Any, secret: str, scheme: str) -> Any:
    """Return a key that is not saved yet."""
    from devices.credentials import hashing
    from devices.models import PreSharedKey

    kind = hashing.Scheme[scheme]
    pepper, digest = hashing.digest(secret, kind)
    return PreSharedKey(device=device, scheme=kind, digest=digest, pepper=pepper)


def add_devices(count: int) -> dict[str, str]:
    """Create devices with a generated secret each; return the secrets by identifier."""
    from devices.credentials import hashing
    from devices.models import Device, PreSharedKey

    known: dict[str, str] = {}
    for start in range(0, count, BATCH):
        devices = Device.objects.bulk_create(
            Device(identifier=str(uuid.UUID(int=dice.getrandbits(128), version=4)))
            for _ in range(min(BATCH, count - start))
        )
        fresh = {device.pk: hashing.generate() for device in devices}
        PreSharedKey.objects.bulk_create(
            key_of(device, fresh[device.pk], "HMAC_SHA256") for device in devices
        )
        known |= {device.identifier: fresh[device.pk] for device in devices}
    return known


def add_chosen(count: int) -> dict[str, str]:
    """Create devices with a chosen secret each; return the secrets by identifier."""
    from devices.models import Device, PreSharedKey

    devices = Device.objects.bulk_create(Device(identifier=str(uuid.uuid4())) for _ in range(count))
    known = {device.identifier: f"chosen {device.identifier[:8]}" for device in devices}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        keys = pool.map(partial(key_of, scheme="ARGON2ID"), devices, known.values())
        PreSharedKey.objects.bulk_create(keys)
    return known


def add_groups(devices: list[Any]) -> dict[Any, list[Any]]:
    """Put each device into two groups; return the groups with their members."""
    from devices.models import Device, DeviceGroup

    groups = DeviceGroup.objects.bulk_create(
        DeviceGroup(name=f"group {number}") for number in range(GROUPS)
    )
    membership = Device.groups.through
    members: dict[Any, list[Any]] = {group: [] for group in groups}
    rows = []
    for device in devices:
        for group in dice.sample(groups, 2):
            members[group].append(device)
            rows.append(membership(device_id=device.pk, devicegroup_id=group.pk))
    for some in batched(rows, BATCH):  # a transaction each: PostgreSQL checks them as it ends
        membership.objects.bulk_create(some)
    return members


def add_permissions() -> list[Ends]:
    """Put the devices into groups, add rules, and return questions that the rules allow.

    Each device is in two groups. Each group may read within itself; some devices have a rule of
    their own; a deny for everyone is looked up every time.
    """
    from acl.models import CommandPermission
    from devices.models import Device

    devices = list(Device.objects.only("pk", "identifier"))
    members = add_groups(devices)
    pairs = [
        (dice.choice(devices), dice.choice(devices)) for _ in range(few(RULES_OF_DEVICES, devices))
    ]
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
                for group in members
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
    asked = [
        (source.identifier, destination.identifier, "/v1/Valve.Open")
        for source, destination in dice.sample(pairs, few(ASKED // 2, pairs))
    ]
    populated = [of_group for of_group in members.values() if len(of_group) > 1]
    for _ in range(few(ASKED, devices) - len(asked)):
        source, destination = dice.sample(dice.choice(populated), 2)
        asked.append((source.identifier, destination.identifier, "/v1/Config.Get"))
    dice.shuffle(asked)
    return asked


def tidy() -> None:
    """Do what PostgreSQL does within a minute by itself, and would while something is measured."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def write_digests(path: Path) -> None:
    """Write a line for each device: its identifier and its key's digest."""
    from devices.models import PreSharedKey

    rows = PreSharedKey.objects.order_by().values_list("device__identifier", "digest")
    with path.open("w") as file:
        file.writelines(f"{identifier}\t{digest}\n" for identifier, digest in rows.iterator())


def write(folder: Path, known: dict[str, str], chosen: dict[str, str]) -> None:
    """Add rules; write every kind of request, and what competitors need."""
    asked = add_permissions()
    write_digests(folder / "devices.tsv")
    anyone = question(1, *next(iter(known.items())), path="/empty")
    written: dict[str, object] = {
        "empty": [(anyone, answer(0))],
        "verifier": [verification(*one) for one in known.items()],
        "authorize": [authorization([ends]) for ends in asked],
        "frames": [authorization(dice.choices(asked, k=FRAME)) for _ in range(few(FRAMES, known))],
        "known": list(known.items()),
        "chosen": list(chosen.items()),
    }
    for name, content in written.items():
        (folder / name).write_bytes(pickle.dumps(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("devices", type=int, help="with generated secrets")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chosen", type=int, default=0, help="further ones, with chosen secrets")
    parser.add_argument("--only-devices", action="store_true", help="no rules")
    options = parser.parse_args()
    django.setup()
    known = add_devices(options.devices)
    if options.only_devices:
        asked = dice.sample(list(known.items()), few(DIFFERENT, known))
        exchanges = [verification(*one) for one in asked]
        (options.folder / "verifier").write_bytes(pickle.dumps(exchanges))
    else:
        write(options.folder, known, add_chosen(options.chosen))
    tidy()


if __name__ == "__main__":
    main()
