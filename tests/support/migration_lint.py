"""Lint migrations: what the release before could not work with, or what locks a table for long.

Run as `python -m tests.support.postgres python -m tests.support.migration_lint`; the SQL that is
looked at is PostgreSQL's. A migration that landed is never edited: those of ACCEPTED stay as
they are, each for a reason.
"""

import logging
import os
import sys
from typing import Any

import django

APPS = ("devices", "acl", "rpc", "authsite")
# Landed before there was a linter, or harmless for the reason given.
ACCEPTED = {
    "0002_rules_by_command": "rules are few",
    "0005_rules_by_command_and_both_ends": "rules are few",
    "0007_lists_of_rules": "rules are few",
    "0004_credentials_by_end": "landed; later indexes of large tables are created concurrently",
    "0007_backends_by_identifier": "landed; holds backends only, which are few",
    "0008_keys_issued_once": "the column is new, and empty in every row",
    "0012_keys_pinned_by_fingerprint": "landed; certificates that pin a key",
}
# How functions of data migrations name their variables: ruff and mypy look after those.
STYLE = (
    "RUNPYTHON_ARGS_NAMING_CONVENTION",
    "RUNPYTHON_MODEL_IMPORT",
    "RUNPYTHON_MODEL_VARIABLE_NAME",
)
LOCKING = ("CREATE_INDEX", "DROP_INDEX", "CREATE_INDEX_EXCLUSIVE", "REINDEX")


def main() -> int:
    """Lint; return how many migrations have faults."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    logging.disable(logging.INFO)
    from django_migration_linter import MigrationLinter

    def lint(**options: Any) -> int:
        linter = MigrationLinter(
            include_apps=APPS,
            ignore_name=list(ACCEPTED),
            exclude_migration_tests=STYLE,
            warnings_as_errors_tests=LOCKING,
            no_cache=True,
            **options,
        )
        linter.lint_all_migrations()
        return int(linter.nb_erroneous)

    # Silent unless something is wrong: it names what is accepted, too.
    return lint(no_output=True) and lint(quiet=("ok", "ignore", "warning"))


if __name__ == "__main__":
    sys.exit(bool(main()))
