"""The project's settings, with empty views beside the machine endpoints to measure against."""

from authsite.settings import *  # noqa: F403
from authsite.settings import MIDDLEWARE

ROOT_URLCONF = "benchmarks.urls"
MIDDLEWARE = ["benchmarks.urls.MachineEndpointsAndBare", *MIDDLEWARE[1:]]
