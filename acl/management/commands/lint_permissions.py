from typing import Any

from django.utils import timezone

from acl.analysis.lint import lint
from acl.models import CommandPermission
from devices.management.base import RegistryCommand


class Command(RegistryCommand):
    help = (
        "Report rules that can never decide (expired, repeated, shadowed by a wider denial, about\n"
        "a disabled device or an empty group) and rules that open everything."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        findings = list(lint(CommandPermission.objects.all(), now=timezone.now()))
        self.answer(
            "\n".join(map(str, findings)) or "No findings.",
            {"findings": [finding.as_document() for finding in findings]},
            yes=not findings,
        )
