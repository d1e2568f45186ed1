"""Values for statements, so many in each."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield values in lists of `size`, the last one shorter; Python 3.12 has it in itertools."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch
