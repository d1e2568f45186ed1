"""The WSGI application that a production server loads."""

import gc
import os

from django.core.wsgi import get_wsgi_application

from rpc.wsgi import MachineFastPath

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authsite.settings")

application = MachineFastPath(get_wsgi_application())

# The settings are read: what follows, and each request's META where a server copies the
# environment into it, has no need of the secrets.
for name in ("SECRET_KEY", "PEPPERS", "DATABASE_URL", "CACHE_URL"):
    os.environ.pop(name, None)

# What is loaded by now stays: garbage is looked for in what requests leave, not in all of Django.
gc.collect()
gc.freeze()
