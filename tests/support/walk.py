"""Walk through the admin as somebody: every page, and what each page offers."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import transaction
from django.test import Client
from django.urls import Resolver404, resolve

URLENCODED = "application/x-www-form-urlencoded"  # as browsers send a form without files
# What is not followed: it would end the session, or is about the browser and not about rights.
LEFT_OUT = {"logout", "login", "choose_language"}
CONFIRMATIONS = {"confirmed", "post", "shown"}  # fields of a form that was asked for before
MAX_ALIKE = 1  # addresses of one view with parameters, and without


Fields = list[tuple[str, str]]


@dataclass
class Form:
    """A form of a page, as a browser would send it unchanged; the first row of a list is ticked."""

    action: str
    method: str
    fields: Fields = field(default_factory=list)
    buttons: Fields = field(default_factory=list)
    actions: list[str] = field(default_factory=list)

    def sent(self) -> Iterator[tuple[str, Fields]]:
        """Yield what each button sends, by its name; of the actions of a list, each of them."""
        for action in self.actions:
            yield "", [*self.fields, ("action", action)]
        if not self.actions:
            for name, value in self.buttons:
                yield name, [*self.fields, *([(name, value)] if name else [])]


class Page(HTMLParser):
    """The links and forms of a page."""

    def __init__(self, address: str, text: str) -> None:
        super().__init__()
        self.address = address
        self.links: list[str] = []
        self.forms: list[Form] = []
        self._by_id: dict[str, Form] = {}
        self._owned: list[tuple[str, str, dict[str, str]]] = []  # by forms that may come later
        self._form: Form | None = None
        self._select: tuple[Form, str, bool] | None = None
        self._options: list[tuple[str, bool]] = []
        self._area: tuple[Form, str] | None = None
        self._text = ""
        self.feed(text)
        for form, tag, given in self._owned:
            if form in self._by_id:
                self._add(self._by_id[form], tag, given)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "a" and "href" in given:
            self.links.append(urljoin(self.address, given["href"]))
        elif tag == "form":
            action = urljoin(self.address, given.get("action") or self.address)
            self._form = Form(action, given.get("method", "get").lower())
            self.forms.append(self._form)
            if "id" in given:
                self._by_id[given["id"]] = self._form
        elif tag == "option" and self._select:
            self._options.append((given.get("value", ""), "selected" in given))
        elif tag in {"input", "button", "select", "textarea"} and "disabled" not in given:
            if "form" in given:
                self._owned.append((given["form"], tag, given))
            elif self._form is not None:
                self._add(self._form, tag, given)

    def _add(self, form: Form, tag: str, given: dict[str, str]) -> None:
        name, value, kind = given.get("name", ""), given.get("value", ""), given.get("type", "")
        if kind == "submit" or (tag == "button" and kind not in {"button", "reset"}):
            form.buttons.append((name, value))
        elif not name or kind in {"file", "button", "reset"}:
            return
        elif tag == "select":
            self._select, self._options = (form, name, "multiple" in given), []
        elif tag == "textarea":
            self._area, self._text = (form, name), ""
        elif name == ACTION_CHECKBOX_NAME and kind == "checkbox":
            if all(one != name for one, _value in form.fields):
                form.fields.append((name, value))
        elif kind not in {"checkbox", "radio"} or "checked" in given:
            form.fields.append((name, value or ("on" if kind == "checkbox" else "")))

    def handle_data(self, text: str) -> None:
        if self._area:
            self._text += text

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "textarea" and self._area:
            form, name = self._area
            form.fields.append((name, self._text.removeprefix("\n")))
            self._area = None
        elif tag == "select" and self._select:
            (form, name, is_multiple), self._select = self._select, None
            if name == "action":
                form.actions += [value for value, _chosen in self._options if value]
                return
            chosen = [value for value, is_chosen in self._options if is_chosen]
            if not chosen and not is_multiple:
                chosen = [value for value, _chosen in self._options[:1]]
            form.fields += [(name, value) for value in chosen]


class Deed(NamedTuple):
    """What a form does, whatever its row: the view that it is sent to, and by which button.

    `action` is that of a list; `is_confirmed` whether the form says that it was asked before.
    """

    view: str
    button: str
    action: str
    is_confirmed: bool


class Answer(NamedTuple):
    """How something was answered, the page that leads there, and the error where one was raised."""

    status: int
    asked: str
    found_on: str
    error: str = ""

    def __str__(self) -> str:
        return f"{self.status} {self.asked}, found on {self.found_on} {self.error}"


def error_of(answer: Any) -> str:
    """Return what was raised where a view failed; the client is to raise nothing itself."""
    raised = vars(answer).get("exc_info") or (None, None)
    return repr(raised[1]) if answer.status_code >= 500 else ""


@cache
def view_of(address: str) -> str:
    """Return the name of the view at an address of the admin; empty where there is none."""
    path = urlsplit(address).path
    if not path.startswith("/admin/"):
        return ""
    try:
        name = resolve(path).url_name or ""
    except Resolver404:
        return "nowhere"
    return "" if name in LEFT_OUT else name


class Walk:
    """Follows what pages offer, as whoever a browser is logged in for."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.answers: list[Answer] = []
        self.deeds: dict[Deed, tuple[str, Fields, str]] = {}
        self._asked: dict[str, Answer] = {}
        self._alike: Counter[Any] = Counter()
        self._waiting: list[tuple[str, str]] = []

    def visit(self, address: str, found_on: str = "") -> None:
        """Ask for an address, unless others like it were asked for; note what its page offers."""
        address = address.partition("#")[0]
        view, query = view_of(address), urlsplit(address).query
        if not view:
            return
        if address not in self._asked:
            alike = view, bool(query)
            if self._alike[alike] >= MAX_ALIKE:
                return
            self._alike[alike] += 1
            answer: Any = self.client.get(address)
            asked = f"GET {address}"
            self._asked[address] = Answer(answer.status_code, asked, "", error_of(answer))
            self.read(answer, address, found_on)
        self.answers.append(self._asked[address]._replace(found_on=found_on))

    def read(self, answer: Any, address: str, found_on: str = "") -> None:
        """Note what an answer leads to; nobody chose to be led on to another address."""
        content = b"".join(answer) if answer.streaming else answer.content
        if answer.status_code in {301, 302}:
            self._waiting.append((urljoin(address, answer["Location"]), found_on))
        elif answer.status_code == 200 and "text/html" in answer.get("Content-Type", ""):
            page = Page(address, content.decode())
            self._waiting += ((link, address) for link in page.links)
            for form in page.forms:
                self._note(form, address)

    def _note(self, form: Form, address: str) -> None:
        view = view_of(form.action)
        if form.method == "get":
            action = urlsplit(form.action)._replace(query=urlencode(form.fields))
            self._waiting.append((action.geturl(), address))
        elif view:
            for button, sent in form.sent():
                names = dict(sent)
                is_confirmed = not CONFIRMATIONS.isdisjoint(names)
                deed = Deed(view, button, names.get("action", ""), is_confirmed)
                self.deeds.setdefault(deed, (form.action, sent, address))

    def follow(self) -> None:
        """Ask for everything that pages lead to."""
        while self._waiting:
            self.visit(*self._waiting.pop())

    def go_everywhere(self, addresses: Iterable[str]) -> None:
        """Follow the start page and these addresses; send each form, and undo what that did.

        What a form leads to, such as a question before something is done, is sent as well.
        """
        self.visit("/admin/")
        self.follow()
        for address in addresses:
            self.visit(address)
            self.follow()
        done: set[Deed] = set()
        while waiting := self.deeds.keys() - done:
            for deed in sorted(waiting):
                answer = self.send(deed)
                _action, _sent, found_on = self.deeds[deed]
                told = answer.status_code, f"POST {deed}", found_on, error_of(answer)
                self.answers.append(Answer(*told))
            done |= waiting

    def send(self, deed: Deed) -> Any:
        """Send a form, undo what that did, and note what the answer offers."""
        action, sent, _found_on = self.deeds[deed]
        with transaction.atomic():
            answer = self.client.post(action, urlencode(sent), content_type=URLENCODED)
            if answer.status_code == 200:
                self.read(answer, action)
                self._waiting.clear()  # what its links lead to may be undone by now
            transaction.set_rollback(True)
        return answer
