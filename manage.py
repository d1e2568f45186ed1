#!/usr/bin/env python
"""Authsite's command line: `./manage.py help` lists what it can do."""

import gc
import os
import pathlib
import signal
import sys


def main() -> None:
    """Run one management command with the project's settings.

    Where the pipe is closed that it prints to, as by `head`, it ends as other programs do then.
    """
    fill_streams()
    try:
        _run()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in filter(None, (sys.stdout, sys.stderr)):  # else Python tries once more
            os.dup2(nowhere, stream.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:  # while modules are loaded, or in a command of Django
        sys.stderr.write("interrupted\n")
        sys.exit(128 + signal.SIGINT)


def fill_streams() -> None:
    """Open nothing in the place of what is closed of the standard streams.

    Otherwise the next socket or file takes its number, and whatever is printed goes into that.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # what is opened takes the lowest number that is free
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _run() -> None:
    gc.set_threshold(50_000, 20, 20)  # of what is loaded little is garbage: it is looked for seldom
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "authsite.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ModuleNotFoundError as error:
        sys.exit(_said(_missing(error)))

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(_said(f"configuration error: {error}"))
    except ModuleNotFoundError as error:
        if _is_ours(error):
            raise
        sys.exit(_said(_missing(error)))
    finally:
        _flush()


def _is_ours(error: ModuleNotFoundError) -> bool:
    """Whether a module of this project is missing, or none is named: a fault of the code."""
    top = (error.name or "").partition(".")[0]
    return not top or (pathlib.Path(__file__).parent / top).exists()


def _missing(error: ModuleNotFoundError) -> str:
    if (error.name or "").partition(".")[0] in sys.stdlib_module_names:
        return f"{sys.executable} was built without its module {error.name}: use another Python"
    return (
        f"{error.name} is not installed for {sys.executable}: run `make setup`, and then "
        ".venv/bin/python manage.py"
    )


def _flush() -> None:
    """Print what is left; raises BrokenPipeError. What else fails, Python says as it ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        pass


def _said(complaint: str) -> int:
    """Print a complaint; return the exit code of what could not even be tried."""
    sys.stderr.write(f"{complaint}\n")
    return 2


if __name__ == "__main__":
    main()
