"""The same as in English."""

from authsite.formats.en.formats import *  # noqa: F403
