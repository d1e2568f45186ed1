"""Forms as browsers send them; and what is sent, with the keys of rows in it."""

from html.parser import HTMLParser
from typing import Any


class Inputs(HTMLParser):
    """What a browser would send of a page's form, unchanged."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sent: dict[str, Any] = {}
        self.select = self.area = ""
        self.feed(page[page.index('id="content"') :])

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        name, value = given.get("name") or "", given.get("value") or ""
        if given.get("type") == "checkbox" and "value" not in given:
            value = "on"
        unchecked = given.get("type") in {"checkbox", "radio"} and "checked" not in given
        if tag == "input" and name and not unchecked and given.get("type") != "submit":
            if name.startswith("initial-") or (given.get("type") == "checkbox" and value != "on"):
                self.sent.setdefault(name, []).append(value)
            else:
                self.sent[name] = value
        elif tag == "select":
            self.select = name
        elif tag == "option" and "selected" in given:
            self.sent.setdefault(self.select, []).append(value)
        elif tag == "textarea":
            self.area = name
            self.sent[name] = ""

    def handle_data(self, text: str) -> None:
        if self.area:
            self.sent[self.area] += text.removeprefix("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self.area = ""


def inputs(response: Any) -> dict[str, Any]:
    """Return what a browser would send of the form on a page."""
    return Inputs(response.content.decode()).sent


def filled(value: Any, rows: dict[str, Any]) -> Any:
    """Return what is sent, with a row's key, or what else was made, for each text like `{name}`."""
    if isinstance(value, dict):
        return {name: filled(one, rows) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, rows) for one in value]
    return rows[value[1:-1]] if isinstance(value, str) and value.startswith("{") else value
