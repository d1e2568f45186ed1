"""The ASGI application that a production server loads: a loop in front of the WSGI one."""

from authsite.wsgi import application as wsgi, fast_path  # isort: skip - it sets Django up

from collections.abc import Sequence

from django.db import DEFAULT_DB_ALIAS

from authsite.operations.asgi import LoopApplication
from devices.credentials.pre_shared_keys import KEYS_OF_DEVICES, StoredKey, by_identifier
from devices.database import answers
from devices.database.in_loop import LoopAsker, StandbyAsker
from rpc.urls import MACHINE_PATHS, verifier

nothing: Sequence[StoredKey] = ()
connection = fast_path.machines.another
asker = LoopAsker(connection(DEFAULT_DB_ALIAS), KEYS_OF_DEVICES, by_identifier, nothing)
if answers.standby is not None:
    asker = StandbyAsker(
        connection(answers.ANSWERS),
        KEYS_OF_DEVICES,
        by_identifier,
        nothing,
        standby=answers.standby,
        primary=asker,
    )
paths = [path for path, view in MACHINE_PATHS.items() if view is verifier]
application = LoopApplication(wsgi, verifier, paths, asker)
