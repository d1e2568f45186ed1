"""The ASGI application that a production server loads: a loop in front of the WSGI one."""

from authsite.wsgi import application as wsgi, fast_path  # isort: skip - it sets Django up

from collections.abc import Sequence

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS

from authsite.operations.asgi import LoopApplication
from devices.credentials.pre_shared_keys import KEYS_OF_DEVICES, StoredKey, by_identifier
from devices.database.answers import ANSWERS
from devices.database.in_loop import LoopAsker
from rpc.urls import MACHINE_PATHS, verifier

nothing: Sequence[StoredKey] = ()
asker: LoopAsker[Sequence[StoredKey]] | None = None
if ANSWERS not in settings.DATABASES and not settings.DATABASE_POOLER:
    asker = LoopAsker(
        fast_path.machines.another(DEFAULT_DB_ALIAS), KEYS_OF_DEVICES, by_identifier, nothing
    )
paths = [path for path, view in MACHINE_PATHS.items() if view is verifier]
application = LoopApplication(wsgi, verifier, paths, asker)
