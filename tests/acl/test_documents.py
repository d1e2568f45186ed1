"""Documents as texts: whatever is written is read as it was; what would be lost is refused."""

import pytest
import yaml
from django.core.exceptions import ValidationError

from acl.documents import load, represent_text

pytestmark = pytest.mark.once(on="sqlite")


def test_a_next_line_comes_back_where_yaml_has_no_compiled_part() -> None:
    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_representer(str, represent_text)
    for text in ("a\x85b", "\x85", "a\x85\n b", "plain"):
        assert yaml.safe_load(yaml.dump(text, Dumper=Dumper, allow_unicode=True)) == text


@pytest.mark.parametrize("merge", ["<<", "? !!merge []\n  "])
def test_objects_that_take_over_from_others_do_not_multiply(merge: str) -> None:
    lines = ["- &a0 {note: x}"]
    lines += [f"- &a{n}\n  {merge}: [*a{n - 1}, *a{n - 1}]" for n in range(1, 13)]
    with pytest.raises(ValidationError, match="Line 3: merge keys"):
        load("\n".join(lines))


@pytest.mark.parametrize(
    ("named", "aliases"),
    [
        (["- &a [" + "x," * 10_000 + "]"], "- [" + "*a," * 50 + "]"),
        (["- &a " + "x" * 50_000], "- [" + "*a," * 20 + "]"),
        (["- &a [x]", *(f"- &a [{'*a,' * 10}]" for _ in range(7))], "- *a"),
    ],
    ids=["a list", "a text", "laughs"],
)
def test_aliases_do_not_multiply(named: list[str], aliases: str) -> None:
    """CWE-776: 800 KB of a list of names and of its aliases were 10,000,000,000 of them."""
    assert load("- &a x\n- *a\n") == ["x", "x"]
    with pytest.raises(ValidationError, match="aliases stand for too much"):
        load("\n".join([*named, aliases]))


def test_no_number_is_longer_than_any_that_is_meant() -> None:
    """CWE-407: the time for `1:1:…`, in YAML one number, grew with the square of its length."""
    assert load("- 1_000\n- 1:30\n") == [1000, 90]
    for number in (f"1{':1' * 200}", f"0x{'f' * 400}"):
        with pytest.raises(ValidationError, match="A number has more than 400 digits"):
            load(f"- {number}\n")


def test_a_name_that_stands_twice_is_told_where_only_json_can_be_read() -> None:
    with pytest.raises(ValidationError, match="“a” stands twice in one object"):
        load('{"a": "\\ud83d\\ude00", "a": 2}')


def test_a_name_that_stands_twice_is_told_in_what_can_be_written() -> None:
    with pytest.raises(ValidationError, match="“\ufffd” stands twice in one object"):
        load(r'{"\udc00": 1, "\udc00": 2}')
