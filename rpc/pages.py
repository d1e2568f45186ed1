"""The page that reads the OpenAPI document to people, and the document itself for programs.

Both are public: they say what the repository publishes and nothing of this installation, and
whoever connects a backend has no staff account.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import translation
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from rpc.openapi import JSON, document


class Member(NamedTuple):
    """One member of a message, or of an object within it."""

    name: str
    type: str
    required: bool
    description: SafeString


class Message(NamedTuple):
    """One form that a body may have."""

    title: str
    members: list[Member]


class Example(NamedTuple):
    """A body, for reading."""

    summary: str
    text: str


class Answer(NamedTuple):
    """An answer of an operation, by its HTTP status."""

    status: str
    description: SafeString
    messages: list[Message]
    examples: list[Example]


class Operation(NamedTuple):
    """What a path answers to a POST."""

    anchor: str
    path: str
    summary: SafeString
    description: SafeString
    parameters: list[Member]
    messages: list[Message]
    examples: list[Example]
    answers: list[Answer]


class Reader:
    """Reads a document as the page shows it: references followed, members in lines."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content

    def sections(self) -> Iterator[tuple[Mapping[str, Any], list[Operation]]]:
        """Yield each tag with its operations."""
        for tag in self.content["tags"]:
            yield (
                tag,
                [
                    self.operation(path, item["post"])
                    for path, item in self.content["paths"].items()
                    if item["post"]["tags"] == [tag["name"]]
                ],
            )

    def operation(self, path: str, operation: Mapping[str, Any]) -> Operation:
        """Return one operation."""
        body = operation["requestBody"]["content"][JSON]
        return Operation(
            operation["operationId"],
            path,
            marked(operation["summary"]),
            marked(operation["description"]),
            [
                Member(one["name"], self.type_of(one["schema"]), False, marked(one["description"]))
                for one in map(self.resolved, operation.get("parameters", []))
            ],
            self.messages(body["schema"]),
            examples(body),
            [self.answer(*item) for item in operation["responses"].items()],
        )

    def answer(self, status: str, response: Mapping[str, Any]) -> Answer:
        """Return one answer."""
        response = self.resolved(response)
        body = response.get("content", {}).get(JSON, {"schema": {}})
        return Answer(
            status, marked(response["description"]), self.messages(body["schema"]), examples(body)
        )

    def messages(self, schema: Mapping[str, Any]) -> list[Message]:
        """Return the forms that a schema allows; a form in an array is not told again."""
        title = schema.get("$ref", "").rpartition("/")[2]
        schema = self.resolved(schema)
        if "anyOf" in schema:
            return [
                message
                for one in schema["anyOf"]
                if one.get("type") != "array"
                for message in self.messages(one)
            ]
        members = list(self.members(schema))
        return [Message(title, members)] if members else []

    def members(self, schema: Mapping[str, Any], within: str = "") -> Iterator[Member]:
        """Yield the members of an object, those of the objects within it after each."""
        schema = self.resolved(schema)
        for name, found in schema.get("properties", {}).items():
            member = self.resolved(found)
            yield Member(
                f"{within}{name}",
                self.type_of(member),
                name in schema.get("required", ()),
                marked(member.get("description", "")),
            )
            inner = self.resolved(member.get("items", member))
            place = f"{within}{name}[]." if "items" in member else f"{within}{name}."
            for one in inner.get("anyOf", [inner]):
                yield from self.members(one, place)

    def type_of(self, schema: Mapping[str, Any]) -> str:
        """Return in words what a value must be."""
        schema = self.resolved(schema)
        if "const" in schema:
            return json.dumps(schema["const"])
        if "enum" in schema:
            return ", ".join(map(json.dumps, schema["enum"]))
        kinds = schema.get("type", _("anything"))
        words = kinds if isinstance(kinds, str) else ", ".join(kinds)
        return "; ".join([words, *limits_of(schema)])

    def resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a reference stands for; what is none, itself."""
        while "$ref" in node:
            found: Any = self.content
            for step in node["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            node = found
        return node


def limits_of(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words what bounds a value."""
    if "maximum" in schema:
        yield _("%(least)d to %(most)d") % {"least": schema["minimum"], "most": schema["maximum"]}
    if "maxLength" in schema:
        yield _("%(least)d to %(most)d characters") % {
            "least": schema["minLength"],
            "most": schema["maxLength"],
        }
    if "maxItems" in schema:
        yield _("at most %(most)d items") % {"most": schema["maxItems"]}


def marked(text: str) -> SafeString:
    """Return a text of the document, what stands between backticks as code."""
    return format_html_join(
        "",
        "{}",
        (
            (format_html("<code>{}</code>", part) if position % 2 else part,)
            for position, part in enumerate(text.split("`"))
        ),
    )


def examples(body: Mapping[str, Any]) -> list[Example]:
    """Return the examples of a body, indented."""
    return [
        Example(one["summary"], json.dumps(one["value"], indent=2, ensure_ascii=False))
        for one in body.get("examples", {}).values()
    ]


@login_not_required
@require_safe
@translation.override("en")
def openapi(_request: HttpRequest) -> HttpResponse:
    """Return the document for programs, which is the same for all of them."""
    return JsonResponse(document(), json_dumps_params={"indent": 2, "ensure_ascii": False})


@login_not_required
@require_safe
def api(request: HttpRequest) -> HttpResponse:
    """Show the document to people; nothing of it comes from another host."""
    content = document()
    return render(
        request,
        "rpc/api.html",
        {
            **admin.site.each_context(request),
            "title": _("Machine endpoints"),
            "description": marked(content["info"]["description"]),
            "sections": list(Reader(content).sections()),
        },
    )
