from typing import Any

from acl.analysis import assertions
from acl.models import Assertion
from devices.management.base import RegistryCommand


class Command(RegistryCommand):
    help = "List the saved assertions, and why those that do not hold do not."

    def handle(self, *args: Any, **options: Any) -> None:
        broken = {one.text: one.why for one in assertions.check(assertions.saved())}
        found = [
            {"text": row.text, "note": row.note, "holds": row.text not in broken,
             "why": broken.get(row.text, "")}
            for row in Assertion.objects.order_by("text")
        ]  # fmt: skip
        lines = [
            f"{'holds ' if one['holds'] else 'broken'}  {one['text']}"
            + (f"  ({one['why']})" if one["why"] else "")
            for one in found
        ]
        self.answer("\n".join(lines) or "No assertion.", {"assertions": found})
