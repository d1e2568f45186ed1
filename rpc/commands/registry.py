"""Register commands: a definition, in the form of the Auth service's pages, and a function.

Nothing else knows a command's name. Arguments are validated from the definition.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Definition = Mapping[str, Any]
Arguments = Mapping[str, Any]

# What the event loop asks before a request is answered, by what it is asked of, and the answers:
# devices' keys by identifier, decisions by request.
KEYS, DECISIONS = "keys", "decisions"
Wanted = tuple[str, Any]
Questions = Mapping[str, list[Any]]
Known = Mapping[str, Mapping[Any, Any]]


def is_number(value: object) -> bool:
    """Whether a JSON value is a number; in Python, truth values are numbers, too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


TYPES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "boolean": ("a boolean", lambda value: isinstance(value, bool)),
    "integer": ("an integer", lambda value: type(value) is int),
    "number": ("a number", is_number),
    "object": ("an object", lambda value: isinstance(value, dict)),
    "array": ("an array", lambda value: isinstance(value, list)),
}


class InvalidArguments(ValueError):
    """The arguments do not fit the command's definition; the text says which and how."""


@dataclass(slots=True)
class Command:
    """One command that frames may name.

    `run` takes the arguments that the definition names as keywords and returns the command's
    value, None for none, or a Result where the journal keeps more than that it was called. Where
    it answers `many` calls at once, it takes a list of arguments and returns a value for each.
    `check`, where there is one, raises InvalidArguments for what the definition cannot say.
    `needs_database` is whether it asks the database anything. `question`, where there is one, is
    all that it asks for given arguments, or None where that cannot be said. Then `run` also takes
    each question with its answer, None for none (`found`), and raises MustWait where that is not
    enough.
    """

    name: str
    definition: Definition
    run: Callable[..., Any]
    many: bool = False
    check: Callable[[Arguments], None] | None = None
    needs_database: bool = True
    question: Callable[[Arguments], Wanted | None] | None = None

    def arguments(self, presented: object) -> Arguments:
        """Return the arguments of the definition from those presented; others are ignored.

        Raises InvalidArguments with the text that the wire carries.
        """
        try:
            arguments = _checked("args", self.definition, presented, required="required_args")
            if self.check is not None:
                self.check(arguments)
        except InvalidArguments as error:
            short = self.name.rpartition("/")[2].rpartition(".")[2]
            raise InvalidArguments(f"invalid args for {short}: {error}") from None
        return arguments


def _checked(
    path: str, definition: Definition, presented: object, *, required: str
) -> dict[str, Any]:
    """Return the members of an object that its definition knows, each of its type."""
    members: Mapping[str, Definition] = definition.get("args") or definition.get("properties", {})
    prefix = "" if path == "args" else f"{path}."
    if not isinstance(presented, dict):
        raise InvalidArguments(f"{path} must be an object")
    for name in definition.get(required, ()):
        if name not in presented:
            raise InvalidArguments(f"{prefix}{name} is required")
    arguments: dict[str, Any] = {}
    for name, member in members.items():
        if name not in presented:
            continue
        value = presented[name]
        noun, fits = TYPES[member["type"]]
        if not fits(value):
            raise InvalidArguments(f"{prefix}{name} must be {noun}")
        if "properties" in member:
            value = _checked(f"{prefix}{name}", member, value, required="required")
        arguments[name] = value
    return arguments


COMMANDS: dict[str, Command] = {}
SERVICES: dict[str, str] = {}  # by name: what the service is for
NAMESPACE = "http://cesanta.com/clubby/service"


def command(
    *names: str, definition: Definition, **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the command of that name, or of those names, as Command has it."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            COMMANDS[name] = Command(name, definition, run, **options)
        return run

    return register


def service_of(name: str) -> tuple[str, str]:
    """Return the service and the method that a command's name is made of.

    `/v1/Auth.Authenticate` is Authenticate of `/v1/Auth`, `/v1/Hello` is Hello of `/v1`.
    """
    folder, slash, last = name.rpartition("/")
    service, dot, method = last.rpartition(".")
    return (f"{folder}{slash}{service}", method) if dot else (folder, last)


def services() -> dict[str, dict[str, Any]]:
    """Return the definitions of all commands by service, as `/v1/Services.Get` serves them."""
    found: dict[str, dict[str, Any]] = {}
    for command in COMMANDS.values():
        service, method = service_of(command.name)
        description = found.setdefault(
            f"{NAMESPACE}{service}",
            {"name": service, "namespace": NAMESPACE, "doc": SERVICES[service], "methods": {}},
        )
        description["methods"][method] = command.definition
    return found
