"""The WSGI application that a production server loads."""

import gc
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

gc.disable()  # nothing of what is loaded here is garbage
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authsite.settings")
django_application = get_wsgi_application()

# Models, which need Django set up:
from authsite.operations import metrics  # noqa: E402
from authsite.operations.garbage import collect_seldom  # noqa: E402
from authsite.operations.health import Readiness, is_draining  # noqa: E402
from authsite.operations.server import leave_group  # noqa: E402
from authsite.operations.wsgi import Operations  # noqa: E402
from authsite.settings import env  # noqa: E402
from devices.background.jobs import worker  # noqa: E402
from devices.credentials.pre_shared_keys import stored_keys  # noqa: E402
from devices.database import answers  # noqa: E402
from devices.events.delivering import deliverer  # noqa: E402
from devices.events.waiting import watcher  # noqa: E402
from rpc.rtio.session_ending import ender  # noqa: E402
from rpc.wsgi import MachineFastPath  # noqa: E402

fast_path = MachineFastPath(django_application)
readiness = Readiness(fast_path.machines, lambda: stored_keys(["readiness-of-this-process"]))
application = Operations(fast_path, readiness)
metrics.start()
answers.start()
leave_group()

# The settings are read: what follows, and each request's META where a server copies the
# environment into it, has no need of the secrets.
for name in env.secrets:
    os.environ.pop(name, None)

ender.serve()
worker.serve()
watcher.is_stopping = is_draining
if settings.DELIVER:
    deliverer.serve()

gc.enable()
# What is loaded by now stays: garbage is looked for in what requests leave, not in all of Django.
collect_seldom()
