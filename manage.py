#!/usr/bin/env python
"""Authsite's command line: `./manage.py help` lists what it can do."""

import os
import sys


def main() -> None:
    """Run one management command with the project's settings."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authsite.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(_said(f"configuration error: {error}"))


def _said(complaint: str) -> int:
    """Print a complaint; return the exit code of what could not even be tried."""
    sys.stderr.write(f"{complaint}\n")
    return 2


if __name__ == "__main__":
    main()
