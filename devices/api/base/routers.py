"""The one registry of the API's resources: each app registers its own in its `api.urls`."""

from rest_framework.routers import SimpleRouter

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
