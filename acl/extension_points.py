"""What apps above this one add to it, each in its `ready()`."""

from collections.abc import Callable, Iterable, Mapping

from acl.engine.decisions import Request

# Requests that a change of the rules is tried with, each with how often it was made of late. Who
# adds a source bounds it.
REQUEST_SOURCES: list[Callable[[], Mapping[Request, int]]] = []
# Names of commands that a field suggests, beside those of rules and requests.
COMMAND_SOURCES: list[Callable[[], Iterable[str]]] = []
