"""What is wrong with a file, and what looks odd in it, by row and column."""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError

from devices.transfer.columns import quoted
from devices.transfer.formats import Problem
from devices.values.text import storable

MAX_PROBLEMS = 1_000  # kept to be shown; all are counted


class Findings:
    """Problems and warnings, and the rows that are rejected for their problems."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.problem_total = 0
        self.warnings: list[Problem] = []
        self.warning_total = 0
        self.rejected: set[int] = set()  # rows of devices
        self.rejected_groups: set[int] = set()

    def add_problem(
        self, row: int, column: str, message: str, value: object = None, *, group: bool = False
    ) -> None:
        """Note a problem of a cell; a value that is no secret is quoted beside it."""
        (self.rejected_groups if group else self.rejected).add(row)
        self.problem_total += 1
        if len(self.problems) < MAX_PROBLEMS:
            text = storable(message + quoted(column, value))
            self.problems.append(Problem(row, storable(column), text))

    def add_errors(
        self,
        row: int,
        error: ValidationError,
        cells: Mapping[str, Any],
        *,
        group: bool = False,
        **columns: str,
    ) -> None:
        """Note what a model refused; `columns` gives the column of a field with another name."""
        for name, messages in error.message_dict.items():
            column = columns.get(name, name)
            for message in messages:
                self.add_problem(row, column, message, cells.get(column), group=group)

    def warn(self, row: int, column: str, message: str) -> None:
        """Note what looks odd and hinders nothing."""
        self.warning_total += 1
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(Problem(row, column, message))
