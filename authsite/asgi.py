"""The ASGI application that a production server loads: a loop in front of the WSGI one."""

from authsite.wsgi import application as wsgi, fast_path  # isort: skip - it sets Django up

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone

from acl.engine.decisions import find_decisions_by_request, statements_in_loop
from authsite.operations.asgi import LoopApplication
from devices.credentials.pre_shared_keys import KEYS_OF_DEVICES, find_keys
from devices.database import answers
from devices.database.in_loop import LoopAsker, StandbyAsker
from devices.database.statements import Query, Steps
from rpc.commands.registry import COMMANDS, DECISIONS, KEYS
from rpc.urls import MACHINE_PATHS, command_path


def asker(
    ask_all: Callable[[Sequence[Any]], Steps[Mapping[Any, Any]]], *statements: Query
) -> LoopAsker[Any, Any]:
    """Return what asks in the loop: the standby first, where there is one."""
    connection = fast_path.machines.another
    primary = LoopAsker(connection(DEFAULT_DB_ALIAS), ask_all, statements)
    if answers.standby is None:
        return primary
    own = connection(answers.ANSWERS)
    return StandbyAsker(own, ask_all, statements, standby=answers.standby, primary=primary)


vendor = connections[DEFAULT_DB_ALIAS].vendor
decisions = partial(find_decisions_by_request, vendor=vendor)
askers = {
    KEYS: asker(find_keys, Query(KEYS_OF_DEVICES, (timezone.now(), timezone.now(), []))),
    DECISIONS: asker(decisions, *statements_in_loop(vendor)),
}
# Seconds after which a thread that computes lets others go on: what writes behind requests would
# keep the loop waiting whenever it comes back from a wait (docs/performance.md, "The tail").
sys.setswitchinterval(0.0005)
views = {**MACHINE_PATHS, **dict.fromkeys(COMMANDS, command_path)}
application = LoopApplication(wsgi, views, askers)
