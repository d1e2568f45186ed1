"""How deep a JSON text nests, before it is decoded."""

import pytest

from devices.values.json_text import is_deeper

pytestmark = pytest.mark.once(on="sqlite")


@pytest.mark.parametrize(
    ("text", "deeper"),
    [
        (b"[[[]]]", False),
        (b"[[[]],[[]]]", False),
        (b"[[[[]]]]", True),
        (b"[],[],[],[]", False),
        (b'[[["[[[["]]]', False),
        (b'[[["\\"[[[["]]]', False),
        (b'[[["\\\\",[]]]]', True),
        (b'{"a":[{"b":{}}]}', True),
        (b"[[[[", True),
        (b"]]]][[[[", False),
    ],
)
def test_depth_is_that_of_brackets_outside_of_strings(text: bytes, deeper: bool) -> None:
    assert is_deeper(text, 3) is deeper
