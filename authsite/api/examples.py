"""An example of each operation of the management API, in curl and in httpx.

The document shows them, and `tests/e2e/test_api_examples.py` runs them all. `AUTHSITE_URL` and
`AUTHSITE_TOKEN` are set; `ID`, `ETAG` and `BATCH` are those of a row that was read.
"""

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pprint import pformat
from typing import Any

ID = "$ID"  # in the place of a key, in a body
BATCH = "$BATCH"  # in the place of the number of a batch


@dataclass(frozen=True)
class Example:
    """What an operation is asked with: a body as JSON, or a file of a media type, and a query."""

    body: Any = None
    query: str = ""
    file: str = ""
    media_type: str = "application/json"


REASON = Example({"reason": "taken out of service"})
ENDS = {"source": "//api.cesanta.com/device_123", "destination": "//api.cesanta.com/thermostat"}
QUESTION = {**ENDS, "command": "/v1/Config.Get"}
EVERYONE = {"source_kind": "everyone", "destination_kind": "everyone"}
LAMP = "//example.com/lamp-7"

EXAMPLES: Mapping[str, Example] = {
    "devices_list": Example(query="kind=device&limit=2&fields=identifier,enabled"),
    "devices_create": Example({"identifier": LAMP, "name": "Lamp 7", "groups": []}),
    "devices_change": Example({"name": "Lamp in the hall"}),
    "devices_enable": REASON,
    "devices_disable": REASON,
    "devices_rotate_keys": Example({"overlap_seconds": 86400}),
    "devices_revoke_credentials": REASON,
    "devices_try_credential": Example({"device": ENDS["source"], "secret": "qwerty"}),
    "devices_provision": Example({"identifier": f"{LAMP}-a", "key": {"label": "factory"}}),
    "devices_bulk_create": Example({"devices": [{"identifier": f"{LAMP}-b"}]}),
    "devices_bulk_change": Example({"devices": [{"id": ID, "if_match": "*", "name": "Lamp"}]}),
    "devices_bulk_delete": Example({"devices": [{"id": ID, "if_match": "*"}]}),
    "groups_create": Example({"name": "Lamps -7"}),
    "groups_change": Example({"description": "All lamps of the house"}),
    "groups_add_members": Example({"devices": [1]}),
    "groups_remove_members": Example({"devices": [1]}),
    "keys_list": Example(query="device_identifier=//api.cesanta.com/device_123"),
    "keys_create": Example({"device": 1, "label": "second key"}),
    "keys_change": Example({"label": "factory"}),
    "keys_revoke": REASON,
    "certificates_create": Example(file="certificate.json"),
    "certificates_change": Example({"label": "factory"}),
    "certificates_revoke": REASON,
    "certificates_revoke_presented": Example(file="certificate.json"),
    "trust_anchors_create": Example(file="trust-anchor.json"),
    "trust_anchors_change": Example({"enabled": False}),
    "trust_anchors_load_list": Example(file="root.crl", media_type="application/pkix-crl"),
    "rules_list": Example(query="pattern_prefix=/v1/&effect=allow"),
    "rules_create": Example({**EVERYONE, "effect": "deny", "pattern": "/v1/Nuke.*"}),
    "rules_change": Example({"note": "agreed with operations"}),
    "command_sets_create": Example({"name": "reading -7", "commands": ["/v1/Config.Get"]}),
    "command_sets_change": Example({"commands": ["/v1/Config.Get", "/v1/FS.List"]}),
    "assertions_create": Example({"text": f"nobody may /v1/Nuke.Launch {ENDS['source']}"}),
    "assertions_change": Example({"note": "for the auditors"}),
    "assertions_check": Example({}),
    "decide": Example({"requests": [QUESTION]}),
    "explain": Example(query="&".join(f"{name}={value}" for name, value in QUESTION.items())),
    "what_if": Example({"change": "create", "rule": {**EVERYONE, "pattern": "/v1/Config.Get"}}),
    "lint": Example(query="fault=expired"),
    "permissions_document_apply": Example(file="permissions.json", query="validate_only=true"),
    "calls_list": Example(query="outcome=refused&since=2026-01-01T00:00:00Z"),
    "changes_list": Example(query="model=devices.device&limit=10"),
    "accounts_create": Example({"username": "lee-7", "roles": ["Viewer"]}),
    "accounts_change": Example({"email": "lee@example.com"}),
    "accounts_enable": REASON,
    "accounts_disable": REASON,
    "service_accounts_create": Example(
        {"name": "line-7", "answerable": 1, "purpose": "registers lamps", "roles": ["Viewer"]}
    ),
    "service_accounts_change": Example({"purpose": "registers lamps in hall 3"}),
    "tokens_end": REASON,
    "changes_restore": Example({"model": "devices.device", "id": ID}),
    "changes_undo": Example({"model": "devices.device", "id": ID}),
    "changes_undo_batch": Example({"batch": BATCH}),
    "events_list": Example(query="limit=10"),
    "rtio_servers_create": Example({"name": "rtio -7", "host": "10.0.0.7"}),
    "rtio_servers_change": Example({"enabled": False}),
    "rtio_routes_create": Example({"uri": "/lamps/-7", "url": "http://localhost:17517/lamps"}),
    "rtio_routes_change": Example({"note": "the lamps' service"}),
    "rtio_sessions_end": Example({"device": ID}),
    "jobs_import_devices": Example(
        file="devices.csv", media_type="text/csv", query="format=csv&dry_run=true"
    ),
    "jobs_delete_devices": Example({"identifier_prefix": "//example.com/job-", "expected": 1}),
}


def samples(method: str, path: str, operation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the samples of an operation, as `x-codeSamples` has them."""
    example = EXAMPLES.get(operation["operationId"], Example())
    headers = {}
    if any(one["name"] == "If-Match" for one in operation.get("parameters", ())):
        headers["If-Match"] = "ETAG"
    if example.file:
        headers["Content-Type"] = example.media_type
    address = path + (f"?{example.query}" if example.query else "")
    return [
        {"lang": "Shell", "label": "curl", "source": _curl(method, address, headers, example)},
        {"lang": "Python", "label": "httpx", "source": _httpx(method, address, headers, example)},
    ]


def _curl(method: str, address: str, headers: Mapping[str, str], example: Example) -> str:
    verb = {"get": "", "post": "" if example.body is not None else "--request POST "}
    request = verb.get(method, f"--request {method.upper()} ")
    where = address.replace("{id}", "$ID")
    lines = [f'curl --fail-with-body {request}"$AUTHSITE_URL{where}"']
    lines.append('--header "Authorization: Bearer $AUTHSITE_TOKEN"')
    for name, value in headers.items():
        lines.append(f'--header "{name}: {value if "/" in value else f"${value}"}"')
    if example.file:
        lines.append(f"--data-binary @{example.file}")
    elif example.body is not None:
        text = json.dumps(example.body, ensure_ascii=False).replace("'", "'\\''")
        text = f"--json '{text}'".replace(f'"{ID}"', "'$ID'")
        lines.append(text.replace(f'"{BATCH}"', "\"'$BATCH'\""))
    return " \\\n  ".join(lines)


def _httpx(method: str, address: str, headers: Mapping[str, str], example: Example) -> str:
    where = address.replace("{id}", "{os.environ['ID']}")
    arguments = [f'f"{where}"' if where != address else f'"{where}"']
    if example.file:
        arguments.append(f'content=Path("{example.file}").read_bytes()')
    elif example.body is not None:
        body = pformat(example.body, width=76, sort_dicts=False)
        body = body.replace(f"'{ID}'", "int(os.environ['ID'])")
        arguments.append(f"json={body}".replace(f"'{BATCH}'", "os.environ['BATCH']"))
    if headers:
        said = ", ".join(
            f'"{name}": ' + (f'"{value}"' if "/" in value else f"os.environ['{value}']")
            for name, value in headers.items()
        )
        arguments.append(f"headers={{{said}}}")
    asked = textwrap.indent(",\n".join(arguments), "        ")
    paths = ["from pathlib import Path"] if example.file else []
    return "\n".join(
        [
            "import os",
            *paths,
            "",
            "import httpx",
            "",
            'shown = {"Authorization": f"Bearer {os.environ[\'AUTHSITE_TOKEN\']}"}',
            'with httpx.Client(base_url=os.environ["AUTHSITE_URL"], headers=shown) as api:',
            f"    answer = api.{method}(",
            f"{asked},",
            "    )",
            "    answer.raise_for_status()",
            "    print(answer.text)",
        ]
    )
