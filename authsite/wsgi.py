"""The WSGI application that a production server loads."""

import gc
import os

from django.core.wsgi import get_wsgi_application

from rpc.wsgi import MachineFastPath

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authsite.settings")

application = MachineFastPath(get_wsgi_application())

# What is loaded by now stays: garbage is looked for in what requests leave, not in all of Django.
gc.collect()
gc.freeze()
