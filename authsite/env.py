"""Read the environment strictly: a wrong value stops the start and says how to mend it.

django-environ reads `.env` and the files that `*_FILE` variables name; `authsite/readers.py` has
what the values must be.
"""

import io
import logging
import os
import re
from pathlib import Path

import environ
from cryptography.exceptions import UnsupportedAlgorithm
from django.core.exceptions import ImproperlyConfigured

from authsite.operations import RUNTIME
from authsite.readers import FaultError, ItemError, Reader, T, shown

logger = logging.getLogger("authsite.settings")

QUOTED = re.compile(r"""(["']).*\1\Z""", re.DOTALL)
# As django-environ reads a line of `.env`, which takes quotation marks after a space for the value.
ASSIGNMENT = re.compile(r"""(?:export )?([A-Za-z_0-9]+)=(?!\s+["'])""")


class Environment(environ.FileAwareEnv):
    """The environment of the process, over an optional file of defaults (`.env`).

    `names` are the variables that were read, `secrets` those of them that nobody may see.
    """

    def __init__(self, dotenv: Path) -> None:
        """Read the file; raises ImproperlyConfigured for one that cannot be read as a whole.

        django-environ goes on without such a file, without each line that it does not take, and
        with the last of two lines for one name. A file that the process may not read is left out
        with a warning: a service manager gives its services all settings, and `make setup` as root
        wrote an `.env` for root only. The processes of a server have what it said when that
        was started.
        """
        super().__init__()
        self.names: set[str] = set()
        self.secrets: set[str] = set()
        if RUNTIME in os.environ:  # `serve` has read it: a worker in place of another one is alike
            return
        try:
            text = dotenv.read_text("utf-8-sig")
        except FileNotFoundError:
            return
        except PermissionError as error:
            text = "%s is left out: %s. What it sets must be in the environment."
            logger.warning(text, dotenv, _reason(error))
            return
        except (OSError, UnicodeDecodeError) as error:
            raise ImproperlyConfigured(f"{dotenv} cannot be read: {_reason(error)}") from error
        first: dict[str, int] = {}
        said = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            assigned, where = ASSIGNMENT.match(line), f"{dotenv}, line {number},"
            if assigned is None:  # it may hold a secret: it is not repeated
                raise ImproperlyConfigured(
                    f"{where} is not NAME=value without spaces before the name or around the "
                    "equals sign."
                )
            if "\x00" in line:
                raise ImproperlyConfigured(f"{where} holds a NUL character.")
            if (before := first.setdefault(assigned[1], number)) != number:
                raise ImproperlyConfigured(
                    f"{where} sets {assigned[1]}, which line {before} sets, too: delete one of "
                    "the two."
                )
            said.append(line)
        environ.Env.read_env(io.StringIO("\n".join(said)))  # never over what the process was given

    def read(self, name: str, reader: Reader[T], default: str | int | None = "") -> T:
        """Return what is made of a variable, of the file that `NAME_FILE` names, or of the default.

        None: it has no default. Raises ImproperlyConfigured with one sentence: the variable, what
        it must be, what it is. Quotation marks around a value belong to a shell; a secret may
        have them.
        """
        self.names.add(name)
        if reader.is_secret:
            self.secrets.add(name)
        given = self._given(name)
        if not given and default is None:
            raise ImproperlyConfigured(f"{name} is not set. {reader.how}".strip())
        if QUOTED.match(given) and not reader.is_secret:
            raise ImproperlyConfigured(
                f"{name} must stand without quotation marks around it; it is {shown(given)}."
            )
        value = given or str(default)
        try:
            return reader.parse(value)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            said = []
            if not (reader.is_secret or isinstance(error, ItemError)):
                said.append(f"it is {shown(value)}")
            if str(error) and (isinstance(error, FaultError) or not reader.is_secret):
                said.append(str(error))
            must = f"{reader.must}; {': '.join(said)}" if said else reader.must
            raise ImproperlyConfigured(f"{name} must {must}. {reader.how}".strip()) from None

    def _given(self, name: str) -> str:
        try:
            return str(self.ENVIRON[name]).removeprefix("\ufeff").strip()
        except KeyError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            file = os.environ[f"{name}_FILE"]
            raise ImproperlyConfigured(
                f"{name}_FILE cannot be read: {file}: {_reason(error)}"
            ) from error


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
