"""The WSGI application that a production server loads."""

import os

from django.core.wsgi import get_wsgi_application

from rpc.handler import MachinesFirst

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authsite.settings")

application = MachinesFirst(get_wsgi_application())
