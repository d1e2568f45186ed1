"""Rules read as sentences: each combination has its own, plain and with links."""

from itertools import product
from typing import Any

import pytest
from django.utils import translation
from django.utils.html import strip_tags

from acl.admin.sentences import linked
from acl.models import CommandPermission
from acl.models.command_permission import DestinationKind, Effect, SourceKind
from acl.sentences import SENTENCES

pytestmark = pytest.mark.once(on="sqlite")


def test_every_combination_has_a_sentence_of_its_own() -> None:
    combinations = set(product(Effect.values, SourceKind.values, DestinationKind.values))
    assert set(SENTENCES) == combinations
    assert len(set(map(str, SENTENCES.values()))) == len(combinations)


@pytest.mark.parametrize("kinds", SENTENCES)
def test_a_sentence_names_what_the_rule_names(kinds: tuple[str, str, str]) -> None:
    _effect, source, destination = kinds
    text = str(SENTENCES[kinds])
    assert ("{source}" in text) == (source in {"device", "group"})
    assert ("{destination}" in text) == (destination in {"device", "group"})
    assert "{commands}" in text


@pytest.mark.parametrize(
    ("source", "destination", "command", "effect", "said"),
    [
        ("lamp", "hub", "/v1/Config.*", "allow", "lamp may send /v1/Config.* to hub"),
        (
            "sensors",
            "same-group",
            "/v1/Config.*",
            "allow",
            (
                "Devices in group sensors may send /v1/Config.* to devices that share a group "
                "with them"
            ),
        ),
        ("everyone", "everyone", "*", "deny", "No one may send any command to anyone"),
        ("everyone", "itself", "reading", "allow",
         "Every device may send commands of set reading to itself"),
    ],
)  # fmt: skip
def test_what_rules_say(
    source: str, destination: str, command: str, effect: str, said: str,
    make_rule: Any, make_device: Any, make_group: Any, make_set: Any,
) -> None:  # fmt: skip
    names = {
        "lamp": make_device("lamp"),
        "hub": make_device("hub"),
        "sensors": make_group("sensors"),
        "reading": make_set("reading", "/v1/X"),
    }
    rule = make_rule(
        names.get(source, source),
        names.get(destination, destination),
        names.get(command, command),
        effect=effect,
    )
    assert str(rule) == said
    assert strip_tags(linked(rule)) == said


def test_links_lead_to_what_is_named_and_names_are_no_markup(
    make_rule: Any, make_device: Any, make_group: Any
) -> None:
    lamp, group = make_device("lamp"), make_group("<b>{source}</b>")
    html = linked(make_rule(group, lamp, "/v1/X"))
    assert f'<a href="/admin/devices/device/{lamp.pk}/change/"><bdi>lamp</bdi></a>' in html
    assert f'<a href="/admin/devices/devicegroup/{group.pk}/change/">' in html
    assert "&lt;b&gt;{source}&lt;/b&gt;" in html


def test_the_notation_stays_in_every_language(make_rule: Any, make_device: Any) -> None:
    rule = make_rule(make_device("lamp"), "everyone", "/v1/X")
    with translation.override("zh-hans"):
        assert rule.notation == "allow lamp → everyone: /v1/X"


def test_a_rule_that_is_not_filled_in_has_a_text() -> None:
    assert str(CommandPermission()) == "A rule that is not complete"
