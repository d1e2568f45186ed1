"""The project's settings with keys for tests; DATABASE_URL chooses the database as ever."""

import os

from tests.support.environment import NOT_SET

os.environ.setdefault("SECRET_KEY", "for tests only, and long enough not to be complained about")
os.environ["PEPPERS"] = "test-2:bmV3ZXN0IHBlcHBlciBmb3IgdGVzdHMsIDMyIGJ5dGVz"
os.environ.setdefault("BACKEND_NETWORKS", "127.0.0.1/32,::1/128")
os.environ.setdefault("HTTPS", "off")
os.environ["EVIDENCE_INTERVAL"] = "0"  # no writer thread: tests flush themselves
os.environ.update(NOT_SET | dict(os.environ))

from authsite.settings import *  # noqa: F403

WHITENOISE_AUTOREFRESH = True  # a client of a test need not look for all static files first
ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # staff only; speed
