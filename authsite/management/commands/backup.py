from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import CommandError, CommandParser

from authsite.operations.backup import BackupError, backup, manifest_of
from devices.management.base import RegistryCommand, counted
from devices.management.files import FileRefused


class Command(RegistryCommand):
    help = (
        "Write the whole database into FILE, as of one moment, and what is in it into FILE.json.\n"
        "The file is checked before it gets its name. PEPPERS are not in it: keep them apart.\n"
        "For PostgreSQL, pg_dump and pg_restore must be on PATH. Exit 1 where it was not done."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="a file that does not exist yet")

    def handle(self, *, file: Path, **options: Any) -> None:
        if str(file) == "-":
            raise CommandError("a backup is two files: name one", returncode=2)
        try:
            manifest = backup(file.absolute())
        except (BackupError, FileRefused) as error:
            raise CommandError(str(error), returncode=1) from error
        needed = ", ".join(
            f"{one} ({counted(keys, 'key')})" for one, keys in manifest.peppers.items()
        )
        self.answer(
            f"Wrote {file} ({counted(manifest.size, 'byte')}, {counted(manifest.total, 'row')}) "
            f"and {manifest_of(file)}.\nPeppers that its keys need: {needed or 'none'}.",
            {"file": str(file), **msgspec.to_builtins(manifest)},
        )
