from dataclasses import dataclass


@dataclass
class D:
    allowed: bool


class M:
    def decide(self, *a):
        return D(False)

    def decide_many(self, x):
        return [D(False) for _ in x]


class CommandPermission:
    objects = M()
