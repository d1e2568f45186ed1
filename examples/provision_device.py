"""Provision the device of a serial number as a factory does, and verify it as RTIO would.

Set AUTHSITE_URL=https://registry.example and AUTHSITE_TOKEN (scopes devices.add_device and
devices.add_presharedkey; devices.view_devicegroup and devices.change_device for a group). RTIO's
question needs no token from a backend network. A script that was cut off is run again with the same
serial number: the Idempotency-Key makes the registry answer as before, with the same secret.
"""

import json
import os
import sys
import urllib.request
import uuid

REGISTRY = os.environ["AUTHSITE_URL"]
TOKEN = os.environ["AUTHSITE_TOKEN"]


def post(path: str, body: object, **headers: str) -> dict[str, object]:
    """Return the answer to a POST; raises urllib.error.HTTPError for a refusal."""
    request = urllib.request.Request(  # noqa: S310 - the operator names the registry
        REGISTRY + path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        found: dict[str, object] = json.load(answer)
    return found


if len(sys.argv) != 2:  # noqa: PLR2004
    sys.exit(f"usage: {sys.argv[0]} SERIAL")
serial = sys.argv[1]
identifier = str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://factory.example/{serial}"))
made: dict[str, dict[str, str]] = post(  # type: ignore[assignment]
    "/api/v1/devices/provision",
    {"identifier": identifier, "name": f"Lamp {serial}", "key": {"label": "factory"}},
    **{"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": f"provision-lamp-{serial}"},
)
secret = made["key"]["secret"]  # flash it now: it is nowhere else
question = {"method": "verify", "id": 1, "deviceid": identifier, "devicesecret": secret}
verified = {"identifier": identifier, **post("/deviceverifier", question)}
sys.stdout.write(f"{json.dumps(verified)}\n")
