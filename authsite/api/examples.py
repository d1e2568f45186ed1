"""An example of each operation of the management API, in curl and in httpx.

`examples.yaml` says what each is asked with. The document shows them, and
`tests/e2e/test_api_examples.py` runs them all. `AUTHSITE_URL` and `AUTHSITE_TOKEN` are set; `ID`,
`ETAG` and `BATCH` are those of a row that was read.
"""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

import msgspec

ID = "$ID"  # in the place of a key, in a body
BATCH = "$BATCH"  # in the place of the number of a batch


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operation is asked with: a body as JSON, or a file of a media type, and a query."""

    body: Any = None
    query: str = ""
    file: str = ""
    media_type: str = "application/json"


EXAMPLES = msgspec.yaml.decode(
    Path(__file__).with_name("examples.yaml").read_bytes(), type=dict[str, Example]
)


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
