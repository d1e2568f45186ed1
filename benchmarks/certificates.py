"""What checking a certificate costs, in CPU: `python -m benchmarks.certificates`.

The last rows are what a stranger can make one check cost.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

from benchmarks.registries import DATABASES, empty, set_up

ROUNDS = 200


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median CPU time of one round, of five series."""
    series = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(rounds):
            work()
        series.append((time.process_time() - started) / rounds * 1000)
    return median(series)


def measure(rounds: int, rsa_bits: int) -> None:
    """Print what each sort of check costs."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from django.db import connection

    from devices.authentication import authenticate
    from devices.models import Certificate, CertificateAuthority, Device
    from tests.support import pki

    device = Device.objects.create(identifier="sensor-1")
    root = pki.authority("Root")
    anchor = CertificateAuthority.objects.register(presented=root.pem, name="Root")
    between = pki.authority("Between", root)
    ten = pki.chain_below(root, 10)
    pinned = pki.device_certificate("pinned")
    Certificate.objects.register(device=device, presented=pinned.pem)
    presented = {
        "pinned": pinned.pem,
        "chain of three": pki.pem(pki.device_certificate("sensor-1", between), between),
        "ten intermediates": pki.pem(pki.device_certificate("sensor-1", ten[-1]), *ten),
    }
    hostile = {}
    for name, key in (
        ("loop of ten, EC", pki.key("loop")),
        (f"loop of ten, RSA {rsa_bits}", rsa.generate_private_key(65537, rsa_bits)),
    ):
        loop = [pki.authority("Loop", private_key=key) for _ in range(10)]
        below = pki.device_certificate("sensor-1", loop[0])
        CertificateAuthority.objects.register(
            presented=pki.authority("Loop", private_key=pki.key(name)).pem, name=name
        )
        hostile[name] = pki.pem(below, *loop)

    def report(name: str, text: str, rounds: int, *, verified: bool) -> None:
        def check() -> bool:
            verdict = authenticate("sensor-1", certificate=text, now=pki.NOW, record=False)
            return verdict.verified

        if check() is not verified:
            raise AssertionError(name)
        print(f"{name:32} {milliseconds(check, rounds):8.2f} ms")

    print(f"CPU of one check, {connection.vendor}:")
    for name, text in presented.items():
        report(name, text, rounds, verified=True)
    anchor.load_list(pki.revocation_list(root, *range(1, 5000)), by="benchmark")
    for name, text in list(presented.items())[1:]:
        report(f"{name}, with a list", text, rounds, verified=True)
    for name, text in hostile.items():
        report(name, text, min(rounds, 5), verified=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each check in a series")
    parser.add_argument("--rsa", type=int, default=8192, help="bits of the largest key")
    parser.add_argument("--kind", choices=DATABASES, default="SQLite", help="of database")
    options = parser.parse_args()
    with empty(options.kind) as asked:
        set_up(asked.url)
        measure(options.rounds, options.rsa)


if __name__ == "__main__":
    main()
