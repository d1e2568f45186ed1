"""Names of libraries that are private or not documented, and that this project uses.

`python -m tests.support.library_names` prints them as docs/library-names.md has them;
tests/authsite/test_undocumented_names.py fails where one goes, is no longer used, or is not listed.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from inspect import getsource
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("authsite", "devices", "acl", "rpc")
HEAD = """# Names of libraries that are not documented

Private or undocumented names that this project uses, and where. A test fails when one of them goes
(`tests/authsite/test_undocumented_names.py`), or when a private one is used that is not listed.
None is asked for by a verification but those of `devices/database/`, which save 5 % of its time
([decisions.md](decisions.md), "Statements written in SQL"). This page is made by
`python -m tests.support.library_names`.
"""
# Documented, in spite of their underscore: Django's model API, and named tuples.
PUBLIC = frozenset(
    {"_meta", "_default_manager", "_replace", "_make", "_asdict", "_fields", "_exit"}
)


class Name(NamedTuple):
    """A name, where it is used, and what for."""

    module: str
    name: str  # `Class.attribute` for what is overridden, or called on an instance
    file: str
    purpose: str

    def find(self) -> Any:
        """Return what it names; raises where that is gone."""
        owner: Any = import_module(self.module)
        first, *rest = self.name.split(".")
        found = getattr(owner, first)
        for part in rest:
            if not hasattr(found, part) and f"self.{part}" not in getsource(found):
                raise AttributeError(self.name)
            found = getattr(found, part, None)
        return found

    @property
    def last(self) -> str:
        """The name as the code says it."""
        return self.name.rpartition(".")[2]


ADMIN, BACKENDS, MODELS = "django.contrib.admin", "django.db.backends.base.base", "django.db.models"
NAMES = [
    Name("json", "detect_encoding", "devices/transfer/texts.py", "what a text is in"),
    Name(
        "redis.connection",
        "AbstractConnection.connect_check_health",
        "devices/database/cache.py",
        "bounds the look-up of a name",
    ),
    Name(
        "redis.connection",
        "AbstractConnection.is_connected",
        "devices/database/cache.py",
        "tells whether a name is to be looked up",
    ),
    Name("axes.apps", "AppConfig", "authsite/apps.py", "gives the app a name for staff"),
    Name(f"{ADMIN}.forms", "AdminPasswordChangeForm", "authsite/accounts/views.py", "asks again"),
    Name(
        f"{ADMIN}.options",
        "IncorrectLookupParameters",
        "devices/admin/import_export.py",
        "what a list raises for an address that makes no sense",
    ),
    Name(f"{ADMIN}.options", "IS_POPUP_VAR", "devices/admin/base/pages.py", "forms in pop-ups"),
    Name(f"{ADMIN}.helpers", "ACTION_CHECKBOX_NAME", "devices/admin/base/actions.py", "of a list"),
    Name(f"{ADMIN}.utils", "label_for_field", "devices/admin/base/lists.py", "heads of columns"),
    Name(f"{ADMIN}.views.main", "ORDER_VAR", "devices/admin/base/lists.py", "of a list"),
    Name(f"{ADMIN}.views.main", "PAGE_VAR", "devices/admin/base/lists.py", "of a list"),
    Name(f"{ADMIN}.views.main", "SEARCH_VAR", "devices/admin/base/lists.py", "of a list"),
    Name(
        f"{ADMIN}.widgets", "AdminSplitDateTime", "devices/admin/base/forms.py", "looks as Django's"
    ),
    Name(
        f"{ADMIN}.widgets", "AutocompleteSelect", "devices/admin/base/widgets.py", "suggests rows"
    ),
    Name(
        f"{ADMIN}.widgets",
        "AutocompleteSelectMultiple",
        "devices/admin/base/widgets.py",
        "the same",
    ),
    Name(
        "django.contrib.auth.management",
        "create_permissions",
        "authsite/roles.py",
        "roles are made of permissions that a migration needs at once",
    ),
    Name("django.core.handlers.wsgi", "WSGIRequest", "rpc/wsgi.py", "the page of a full server"),
    Name(BACKENDS, "BaseDatabaseWrapper.connection", "devices/database/drivers.py", "the driver"),
    Name(
        BACKENDS,
        "BaseDatabaseWrapper.wrap_database_errors",
        "devices/database/drivers.py",
        "Django's database errors",
    ),
    Name(
        BACKENDS,
        "BaseDatabaseWrapper.settings_dict",
        "devices/database/slots.py",
        "connections of slots",
    ),
    Name(
        BACKENDS, "BaseDatabaseWrapper.inc_thread_sharing", "devices/database/slots.py", "the same"
    ),
    Name(
        "django.db.backends.sqlite3.base",
        "DatabaseWrapper._start_transaction_under_autocommit",
        "devices/database/sqlite3/base.py",
        "transactions of SQLite take turns",
    ),
    Name(
        "django.db.backends.base.operations",
        "BaseDatabaseOperations.quote_name",
        "devices/history/recording.py",
        "history is copied by the database",
    ),
    Name(
        "django.db.models.sql.query",
        "Query.sql_with_params",
        "devices/history/recording.py",
        "the same",
    ),
    Name("django.middleware.csrf", "rotate_token", "authsite/accounts/login.py", "second factors"),
    Name("django.utils.formats", "number_format", "devices/admin/base/changelist.py", "10,000"),
    Name(
        "django.utils.http",
        "url_has_allowed_host_and_scheme",
        "authsite/accounts/sign_on/views.py",
        "next",
    ),
    Name(
        "django.forms.forms",
        "BaseForm.add_initial_prefix",
        "devices/admin/base/forms.py",
        "what a form showed",
    ),
    Name(
        "django.forms.models",
        "BaseModelFormSet.save_existing",
        "devices/admin/base/forms.py",
        "changed fields only",
    ),
    Name(
        "django.forms.models",
        "BaseModelForm._post_clean",
        "devices/admin/credentials/presented.py",
        "reads what was uploaded before the model checks it",
    ),
    Name("prometheus_client", "Histogram._sum", "authsite/operations/metrics.py", "adds in bulk"),
    Name("prometheus_client", "Histogram._buckets", "authsite/operations/metrics.py", "the same"),
    Name(
        "psycopg.adapt",
        "Transformer.set_pgresult",
        "devices/database/drivers.py",
        "rows without a cursor",
    ),
    Name("psycopg.adapt", "Transformer.load_rows", "devices/database/drivers.py", "the same"),
    Name(
        "rest_framework.fields",
        "get_error_detail",
        "devices/api/base/serializers.py",
        "faults of models",
    ),
    Name(
        "simple_history.models",
        "HistoricalRecords.copy_fields",
        "devices/history/models.py",
        "no index",
    ),
    Name(
        "simple_history.models",
        "HistoricalRecords.get_extra_fields",
        "devices/history/models.py",
        "whose page shows a change",
    ),
    Name(
        "simple_history.models",
        "HistoricalRecords.get_change_reason_for_object",
        "devices/history/models.py",
        "why changes are made now",
    ),
    Name(
        "simple_history.models",
        "HistoricalRecords.post_delete",
        "devices/history/models.py",
        "deletions in bulk are recorded in bulk",
    ),
]


def private_names() -> Iterator[tuple[str, str]]:
    """Yield the attributes with an underscore that no code of ours defines, and their files."""
    files = [
        path
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if "migrations" not in path.parts
    ]
    trees = {path: ast.parse(path.read_text("utf-8")) for path in files}
    own = {node.attr for node in _attributes(trees.values()) if isinstance(node.ctx, ast.Store)}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
    for path, tree in trees.items():
        for node in _attributes([tree]):
            name = node.attr
            if name.startswith("_") and not name.endswith("__") and name not in own | PUBLIC:
                yield name, str(path.relative_to(ROOT))


def _attributes(trees: Iterable[ast.AST]) -> Iterator[ast.Attribute]:
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                yield node


def page() -> str:
    """Return the page of the documentation."""
    rows = [f"| `{one.module}` | `{one.name}` | `{one.file}` | {one.purpose} |" for one in NAMES]
    packages = len({one.module.partition(".")[0] for one in NAMES})
    return "\n".join(
        [
            HEAD,
            f"{len(NAMES)} names of {packages} packages.",
            "",
            "| module | name | used in | for |",
            "|---|---|---|---|",
            *sorted(rows),
            "",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(page())
