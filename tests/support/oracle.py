"""A second engine, as naive as can be: it walks up the tree and loops over every rule.

It shares nothing with the real one but the words for effects and kinds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Rule:
    """A rule in plain values; moments are numbers, devices and groups are names."""

    effect: str
    source: tuple[str, str]
    destination: tuple[str, str]
    patterns: list[str]
    enabled: bool = True
    begins: int | None = None
    ends: int | None = None


@dataclass
class Registry:
    """Everything that a decision hangs on."""

    parents: dict[str, str | None] = field(default_factory=dict)
    devices: dict[str, tuple[bool, frozenset[str]]] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)

    def decide(
        self, source: str, destination: str, command: str, now: int
    ) -> tuple[bool, set[int]]:
        """Return whether the command may pass, and which rules could be named for it."""
        for end in (source, destination):
            if end not in self.devices or not self.devices[end][0]:
                return False, set()
        matching = [
            position
            for position, rule in enumerate(self.rules)
            if rule.enabled
            and (rule.begins is None or now >= rule.begins)
            and (rule.ends is None or now < rule.ends)
            and self.is_source(rule, source)
            and self.is_destination(rule, source, destination)
            and any(matches(pattern, command) for pattern in rule.patterns)
        ]
        denying = {position for position in matching if self.rules[position].effect == "deny"}
        return (False, denying) if denying else (bool(matching), set(matching))

    def is_source(self, rule: Rule, device: str) -> bool:
        kind, name = rule.source
        return (
            kind == "everyone"
            or (kind == "device" and name == device)
            or (kind == "group" and name in set(self.groups_of(device)))
        )

    def is_destination(self, rule: Rule, source: str, device: str) -> bool:
        kind, name = rule.destination
        return (
            kind == "everyone"
            or (kind == "device" and name == device)
            or (kind == "group" and name in set(self.groups_of(device)))
            or (kind == "itself" and source == device)
            or (kind == "same-group" and bool(self.devices[source][1] & self.devices[device][1]))
        )

    def groups_of(self, device: str) -> Iterator[str]:
        for group in self.devices[device][1]:
            current: str | None = group
            while current is not None:
                yield current
                current = self.parents[current]


def matches(pattern: str, command: str) -> bool:
    """Whether a pattern matches a command, read off the sentence that defines patterns."""
    if pattern.endswith("*"):
        return command.startswith(pattern[:-1])
    return command == pattern
