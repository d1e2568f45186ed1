"""The project's settings, with an empty view beside the machine endpoints to measure against."""

from authsite.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.urls"
# What is made for browsers never sees a machine's request, and would only slow the empty view.
MIDDLEWARE = ["rpc.middleware.MachineEndpoints"]
