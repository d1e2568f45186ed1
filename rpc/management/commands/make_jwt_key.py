import re
import time
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from devices.management.base import RegistryCommand
from devices.management.files import FileRefused, new_file
from rpc.rtio import tokens

KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")  # as JWT_SIGNING_KEYS takes it


def key_id(text: str) -> str:
    """Return what a key may be called: the server would not start with any other id."""
    if not KEY_ID.fullmatch(text):
        raise ArgumentTypeError(
            f"“{text}” is no id of up to 32 letters, digits, dots, hyphens and underscores"
        )
    return text


class Command(RegistryCommand):
    help = (
        "Make an Ed25519 key pair. The private half goes into JWT_SIGNING_KEYS of this registry,\n"
        "the public half to RTIO: -enable.jwt -jwt.ed25519 FILE. Nothing is stored here."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--id",
            type=key_id,
            default=time.strftime("%Y%m%d", time.gmtime()),
            help="what the key is called (default: today, %(default)s)",
        )
        parser.add_argument(
            "--private",
            type=Path,
            metavar="FILE",
            help="write the private half to a new file, readable by you alone, and do not print it",
        )
        parser.add_argument(
            "--show", action="store_true", help="make none: print the public halves of those in use"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["show"]:
            keys = settings.JWT_SIGNING_KEYS
            public = {key_id: tokens.public_pem(key) for key_id, key in keys.items()}
            text = "\n".join(f"# {key_id}\n{pem}" for key_id, pem in public.items())
            self.answer(text or "No key is configured: /jwtissuer is off.", {"keys": public})
            return
        key = Ed25519PrivateKey.generate()
        entry, public_pem = tokens.setting(options["id"], key), tokens.public_pem(key)
        document = {"id": options["id"], "public": public_pem}
        if options["private"] is not None:
            self._write(options["private"], entry)
            text = public_pem
        else:
            document["setting"] = entry
            text = f"JWT_SIGNING_KEYS={entry}\n\n{public_pem}"
        self.answer(text, document)

    @staticmethod
    def _write(path: Path, entry: str) -> None:
        try:
            with new_file(path.absolute()) as part:
                part.write_text(entry + "\n", "ascii")
        except FileRefused as error:
            raise CommandError(f"{path} cannot be written: {error}", returncode=2) from error
