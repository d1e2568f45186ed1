"""What a checkout's own `.env` says is nothing to the tests."""

import re
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"
# Each variable that `.env` may set, as if it were not set: what a process is given goes before it.
NAMES = re.findall(r"^#?([A-Z0-9_]+)=", EXAMPLE.read_text("utf-8"), re.MULTILINE)
NOT_SET = dict.fromkeys([*NAMES, *(f"{name}_FILE" for name in NAMES)], "")
