"""Describe what every operation of the management API has in common, for drf-spectacular.

What `devices.api.base.views` does around each view, a client must read of each operation: which
permission it needs, the headers and parameters it takes, `validate_only`, and its problems.
`common_parts.yaml` describes what these are.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from http import HTTPStatus
from inspect import cleandoc, getdoc
from pathlib import Path
from typing import Any

import yaml
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter

from authsite.api.examples import samples
from devices.api.base.views import ACCEPT_BROKEN, READING, VALIDATE_ONLY

Schema = dict[str, Any]

JSON = "application/json"
SUMMARIES = {
    "list": "List {many}",
    "retrieve": "Read {a_one}",
    "create": "Create {a_one}",
    "partial_update": "Change {a_one}",
    "destroy": "Delete {a_one}",
}
NAMES = {"retrieve": "read", "partial_update": "change", "destroy": "delete"}
COMMON_PARTS = Path(__file__).with_name("common_parts.yaml")


@cache
def common_parts() -> Schema:
    """Return what operations have in common, and what they refer to, by its kind."""
    parts: Schema = yaml.safe_load(COMMON_PARTS.read_text("utf-8"))
    return parts


class RegistrySchema(AutoSchema):
    """Adds what `devices.api.base.views.ApiView` and `RegistryViewSet` do around a view."""

    view: Any  # one of those two

    @property
    def handler(self) -> Any:
        return getattr(self.view, getattr(self.view, "action", None) or self.method.lower(), None)

    def get_summary(self) -> str:
        """Return the first line of the view's own text, or one from the name of its rows."""
        own: str | None = super().get_summary()
        named = SUMMARIES.get(self.view.operation)
        model = getattr(self.view, "model", None) if named else None
        if own is None and named and model is not None:
            meta = model._meta
            one = str(meta.verbose_name)
            spoken_as_vowel = "AEFHILMNORSX" if one[:2].isupper() else "AEIOaeio"  # a user
            article = "an" if one[0] in spoken_as_vowel else "a"
            own = named.format(a_one=f"{article} {one}", many=meta.verbose_name_plural)
        return own or self._text().partition("\n")[0].rstrip(".")

    def get_description(self) -> str:  # type: ignore[override]
        """Return the rest of the text, and the permissions that are needed."""
        needed = self.view.needed_permissions() or ()
        permissions = ", ".join(f"`{name}`" for name in needed)
        text = self._text().partition("\n")[2].strip()
        return "\n\n".join(filter(None, (text, permissions and f"Needs {permissions}.")))

    def _text(self) -> str:
        return cleandoc(getdoc(self.handler) or getdoc(type(self.view)) or "")

    def get_operation_id(self) -> str:
        """Return a name that says what is done to what, such as `devices_change`."""
        action = getattr(self.view, "action", None)
        if action is None:
            return str(super().get_operation_id())
        return f"{self.get_tags()[0].replace('-', '_')}_{NAMES.get(action, action)}"

    def get_filter_backends(self) -> list[Any]:
        """Return what filters the rows of a list, or of an export, which is no list of JSON."""
        if self.view.operation == "export":
            return list(self.view.filter_backends)
        return super().get_filter_backends()

    def get_override_parameters(self) -> list[Any]:
        """Add the headers and parameters that the base of the views reads."""
        common = (OpenApiParameter(**one) for one in self._common_parameters())
        return [*super().get_override_parameters(), *common]

    def _common_parameters(self) -> Iterator[Schema]:
        common = common_parts()["x-parameters"]
        if self.method not in READING:
            if self._can_be_tried():
                yield from common["of_tried_changes"]
            yield from common["of_changes"]
            own = self.view.parameters.get(self.view.operation, ())
            if self.view.asks_guards or ACCEPT_BROKEN in own:
                yield from common["of_guarded_changes"]
            if self._has_version():
                required = self.view.operation in {"partial_update", "destroy"}
                for one in common["of_changes_of_a_row"]:
                    yield {**one, "required": True} if required else one
        elif (
            hasattr(self.view, "model")
            and self._rows() is not None
            and self.view.operation not in self.view.unnamed_fields
        ):
            left_out = getattr(self._rows().Meta, "only_of_changes", ())
            names = sorted({*self._rows()().fields} - {*left_out})
            yield {
                "location": "query",
                "name": "fields",
                "type": {"type": "array", "items": {"type": "string", "enum": names}},
                "description": "The fields to answer with, separated by commas; all unless given.",
                "style": "form",
                "explode": False,
            }
            if self._has_version():
                yield from common["of_a_row"]
        if self.view.operation == "list":
            yield from common["of_lists"]

    def _rows(self) -> Any:
        return getattr(self.view, "serializer_class", None)

    def _can_be_tried(self) -> bool:
        return VALIDATE_ONLY in self.view.known_parameters()

    def _has_version(self) -> bool:
        """Whether the operation is about a row with an ETag."""
        return bool(getattr(self.view, "detail", False)) and hasattr(self._rows(), "Meta")

    def get_operation(self, path: str, *args: Any) -> Schema | None:
        """Add the answers that the base of the views gives."""
        operation: Schema | None = super().get_operation(path, *args)
        if operation is None:
            return None
        parameters = operation.get("parameters", ())
        for one in parameters:
            if one["schema"].get("type") == "boolean":
                one["schema"].pop("enum", None)  # the words of a form's field
        answers = operation["responses"]
        for status, answer in answers.items():
            answer["description"] = answer["description"] or HTTPStatus(int(status)).phrase
        if self.method not in READING:
            if self._can_be_tried():
                _add_validation(answers)
            for answer in answers.values():
                answer.setdefault("headers", {}).update(common_parts()["x-headers"]["of_changes"])
        elif self._has_version():
            answers["304"] = {"description": "The row is as `If-None-Match` says."}
            answers["304"]["headers"] = common_parts()["x-headers"]["of_rows"]["304"]
        for status in self._problems(parameters):
            answers.setdefault(str(status), {"$ref": f"#/components/responses/Problem{status}"})
        operation["responses"] = dict(sorted(answers.items()))
        return operation

    def _problems(self, parameters: Iterable[Schema]) -> list[int]:
        """Return the statuses of the problems that the operation can have."""
        required = {one["name"]: one.get("required", False) for one in parameters}
        without = set()
        if self.method in READING:
            without |= {409, 411, 413, 415, 422}
        if "If-Match" not in required and not self.view.operation.startswith("bulk_"):
            without.add(412)  # many rows have their `if_match` in the body
        if not required.get("If-Match"):
            without.add(428)
        names_row = self.view.names_row and self.method not in READING
        if "{" not in self.path and not names_row:
            without.add(404)
        problems = (int(name.removeprefix("Problem")) for name in common_parts()["responses"])
        return [status for status in problems if status not in without]


def _add_validation(answers: Schema) -> None:
    """Describe the answer of `validate_only=true`, beside the operation's own."""
    described = {"$ref": "#/components/schemas/Validation"}
    answer = answers.setdefault("200", {"description": "What would be done (`validate_only`)."})
    content = answer.setdefault("content", {})
    body = content.setdefault(JSON, {"schema": None})
    body["schema"] = {"anyOf": [body["schema"], described]} if body["schema"] else described


class TokenScheme(OpenApiAuthenticationExtension):
    """The tokens of the API."""

    target_class = "authsite.accounts.tokens.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "authsite_<id>_<secret>",
            "description": "A token of the management API (docs/tokens.md).",
        }


class VersionSchema(OpenApiSerializerFieldExtension):
    """The entity tag in a row."""

    target_class = "devices.api.base.serializers.VersionField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> Schema:
        return {"type": "string", "readOnly": True, "description": "As `If-Match` takes it."}


def add_common_parts(result: Schema, generator: Any, **_kwargs: Any) -> Schema:
    """Add what operations refer to, and what each tag is about; a hook of drf-spectacular."""
    components = result["components"]
    for kind in ("responses", "schemas"):
        components.setdefault(kind, {}).update(common_parts()[kind])
    schemas = components["schemas"]
    for schema in schemas.values():
        if "etag" in schema.get("properties", {}):
            schema.pop("required", None)  # with `fields=`, any may be missing
        for one in schema.get("properties", {}).values():
            if "oneOf" in one:  # an empty text, or an e-mail address, whose format is no rule
                one["anyOf"] = one.pop("oneOf")
    for path, item in result["paths"].items():
        for method, operation in item.items():
            _add_headers_of_rows(operation["responses"], schemas)
            operation["x-codeSamples"] = found = samples(method, path, operation)
            shown = "\n\n".join(f"```{one['lang'].lower()}\n{one['source']}\n```" for one in found)
            operation["description"] = f"{operation.get('description', '')}\n\n{shown}".strip()
    texts: dict[str, str] = {}
    for path, _regex, _method, callback in generator.endpoints:
        tag = path.removeprefix("/api/v1/").partition("/")[0]
        text = (getdoc(callback.cls) or "").partition("\n")[0]
        texts.setdefault(tag, text)
    tags = [{"name": name, "description": text} for name, text in sorted(texts.items())]
    result["tags"] = [*tags, *result.get("tags", [])]
    return result


def _add_headers_of_rows(answers: Schema, schemas: Schema) -> None:
    """Describe the headers of answers that are a row, as those with an `etag` are."""
    for status, headers in common_parts()["x-headers"]["of_rows"].items():
        answer = answers.get(status, {})
        schema = answer.get("content", {}).get(JSON, {}).get("schema", {})
        first = schema.get("anyOf", [schema])[0]
        named = schemas.get(first.get("$ref", "").rpartition("/")[2], {})
        if "etag" in named.get("properties", {}):
            answer["headers"] = {**headers, **answer.get("headers", {})}
