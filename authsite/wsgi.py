"""The WSGI application that a production server loads."""

import gc
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authsite.settings")
django_application = get_wsgi_application()

from rpc.rtio.session_ending import ender  # noqa: E402 (models, which need Django set up)
from rpc.wsgi import MachineFastPath  # noqa: E402

application = MachineFastPath(django_application)

# The settings are read: what follows, and each request's META where a server copies the
# environment into it, has no need of the secrets.
for name in ("SECRET_KEY", "PEPPERS", "JWT_SIGNING_KEYS", "DATABASE_URL", "CACHE_URL"):
    os.environ.pop(name, None)

ender.serve()

# What is loaded by now stays: garbage is looked for in what requests leave, not in all of Django.
gc.collect()
gc.freeze()
