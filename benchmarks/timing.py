"""Whether the time of an answer tells who is registered: `python -m benchmarks.timing`.

Wrong secrets are tried on unknown identifiers and on devices of several kinds, in random order,
one after the other: first on fresh entities, so that each guess is hashed, then on throttled ones.
Once through the model, once through the command endpoint, which answers `false` to all of them,
of one process over one connection.

For each kind the median is printed, and how far it lies from that of unknown identifiers (with the
95 % confidence interval of a bootstrap).
"""

import argparse
import http.client
import json
import random
import time
import uuid
from collections.abc import Callable, Sequence
from statistics import median

from benchmarks import machine
from benchmarks.contenders import ours
from benchmarks.registries import DATABASES, empty, set_up
from benchmarks.report import table

UNKNOWN = "unknown identifier"
KINDS = {  # and how many generated and chosen keys a device of it has
    "device without a key": (0, 0),
    "generated secret": (1, 0),
    "five generated secrets": (5, 0),
    "chosen secret": (0, 1),
    "two chosen secrets": (0, 2),
}
RESAMPLES = 500
Ask = Callable[[str], None]
Times = dict[str, list[float]]


# --- The registry ---------------------------------------------------------------------------


def add_entities(each: int) -> dict[str, list[str]]:
    """Create so many devices of each kind; return the identifiers, the unknown ones included."""
    from devices.credentials import hashing
    from devices.credentials.hashing import Scheme
    from devices.models import Device, PreSharedKey

    digests = {scheme: hashing.digest(hashing.generate(), scheme) for scheme in Scheme}
    entities = {UNKNOWN: [str(uuid.uuid4()) for _ in range(each)]}
    for kind, (generated, chosen) in KINDS.items():
        schemes = [Scheme.HMAC_SHA256] * generated + [Scheme.ARGON2ID] * chosen
        devices = Device.objects.bulk_create(
            Device(identifier=str(uuid.uuid4())) for _ in range(each)
        )
        PreSharedKey.objects.bulk_create(
            PreSharedKey(
                device=device, scheme=scheme, pepper=digests[scheme][0], digest=digests[scheme][1]
            )
            for device in devices
            for scheme in schemes
        )
        entities[kind] = [device.identifier for device in devices]
    return entities


# --- The measurement ------------------------------------------------------------------------


def timed(ask: Ask, entities: dict[str, list[str]], each: int) -> Times:
    """Ask so often for each kind, in random order; return the seconds that answers took."""
    order = [
        (kind, known[number % len(known)])
        for kind, known in entities.items()
        for number in range(each)
    ]
    random.shuffle(order)
    times: Times = {kind: [] for kind in entities}
    for kind, identifier in order:
        began = time.perf_counter()
        ask(identifier)
        times[kind].append(time.perf_counter() - began)
    return times


def ask_model(identifier: str) -> None:
    from devices.authentication import authenticate

    if authenticate(identifier, secret="wrong").verified:
        raise SystemExit("a wrong secret was verified")


class Endpoint:
    """A keep-alive connection to the command endpoint."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def __call__(self, identifier: str) -> None:
        args = {"id": identifier, "credentials": {"psk": "wrong"}}
        command = {"cmd": "/v1/Auth.Authenticate", "id": 1, "args": args}
        frame = {"v": 1, "src": "//api.cesanta.com/cloud", "cmds": [command]}
        self.connection.request("POST", "/", json.dumps(frame), {"Host": "registry"})
        answer = json.loads(self.connection.getresponse().read())
        if answer["resp"][0].get("resp") is not False:
            raise SystemExit(f"not the answer to a wrong secret: {answer}")


# --- The statistics -------------------------------------------------------------------------


def difference(known: Sequence[float], unknown: Sequence[float]) -> str:
    """Return how far a median lies from that of unknown identifiers, and its interval, in ms."""
    found = sorted(
        median(random.choices(known, k=len(known)))
        - median(random.choices(unknown, k=len(unknown)))
        for _ in range(RESAMPLES)
    )
    low, high = found[int(RESAMPLES * 0.025)], found[int(RESAMPLES * 0.975)]
    between = median(known) - median(unknown)
    return f"{between * 1000:+.3f} ({low * 1000:+.3f} to {high * 1000:+.3f})"


def report(title: str, times: Times) -> None:
    unknown = times[UNKNOWN]
    rows = [
        [
            kind,
            f"{len(known)}",
            f"{median(known) * 1000:.3f}",
            "" if known is unknown else difference(known, unknown),
        ]
        for kind, known in times.items()
    ]
    head = (title, "n", "median ms", "minus unknown, ms (95 %)")
    print(f"\n{table(head, rows)}", flush=True)


def measure(name: str, ask: Ask, options: argparse.Namespace) -> None:
    """Measure both series through one way of asking."""
    report(f"{name}, hashed", timed(ask, add_entities(options.hashed), options.hashed))
    throttled = add_entities(2)
    for _ in range(6):
        timed(ask, throttled, 2)
    report(f"{name}, throttled", timed(ask, throttled, options.throttled))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hashed", type=int, default=40, help="hashed guesses of each kind")
    parser.add_argument("--throttled", type=int, default=1500, help="throttled ones")
    parser.add_argument("--kind", choices=DATABASES, default="SQLite", help="of database")
    options = parser.parse_args()
    with empty(options.kind) as asked:
        set_up(asked.url, WORKERS="1")
        print(f"{options.kind}; {machine.description()}")
        measure("model", ask_model, options)
        with ours(options.kind).serving(asked.url) as server:
            measure("HTTP", Endpoint(server.port), options)


if __name__ == "__main__":
    main()
