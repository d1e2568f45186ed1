"""The wire formats of the machine endpoints."""

from collections.abc import Mapping
from datetime import timedelta

from django.apps import AppConfig
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

OF_LATE = timedelta(days=7)
MAX_TRIED = 1000  # requests of the journal that a change of permissions is tried with


class RpcConfig(AppConfig):
    """Frames, command definitions, the views, and the journal of what they were asked."""

    name = "rpc"
    verbose_name = _("Journal")

    def ready(self) -> None:
        """Register checks, sections of pages, what permissions are tried with, ended access."""
        # Models, and what imports them, are loaded by now, and not before.
        from acl import extension_points
        from acl.engine.decisions import Request
        from devices.extension_points import ACCESS_ENDED, FACTS, GROUP_PANELS, PANELS, SNIPPETS
        from rpc import checks  # noqa: F401
        from rpc.admin.panels import calls_of_group, last_calls, let_in_through, sessions
        from rpc.admin.snippets import snippets
        from rpc.commands.registry import COMMANDS
        from rpc.models import CallRecord
        from rpc.rtio.session_ending import end_sessions_of

        def requests_of_late() -> Mapping[Request, int]:
            return CallRecord.objects.requests_made(timezone.now() - OF_LATE, MAX_TRIED)

        extension_points.COMMAND_SOURCES.append(lambda: COMMANDS)
        extension_points.REQUEST_SOURCES.append(requests_of_late)
        PANELS.extend((last_calls, sessions))
        GROUP_PANELS.append(calls_of_group)
        FACTS.append(let_in_through)
        SNIPPETS.append(snippets)
        ACCESS_ENDED.append(end_sessions_of)
