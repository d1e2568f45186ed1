"""A file or a document with groups in groups in groups, all of them new, ended with a traceback.

Those of the second level were saved together with what lies in them. A public report of this
kind: https://github.com/sparcs-kaist/new-ara-api/issues/463.
"""

from collections.abc import Mapping
from itertools import pairwise, permutations

import pytest

from acl.as_code import export_document, import_document
from devices.models import DeviceGroup
from devices.models.group import MAX_DEPTH
from devices.transfer.columns import columns_of
from devices.transfer.formats import Format
from devices.transfer.importing import Import
from devices.transfer.tables import read

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

DEEPEST = ["".join(map(str, range(level + 1))) for level in range(MAX_DEPTH)]
CHAIN = {"a": "", "b": "a", "c": "b", "d": "c"}
TREES: list[Mapping[str, str]] = [
    *(dict(order) for order in permutations(CHAIN.items())),
    {DEEPEST[0]: "", **{inner: outer for outer, inner in pairwise(DEEPEST)}},
    {"a": "", "b": "a", "x": "", "y": "x", "c": "b", "z": "y", "c2": "b"},
]


def stored() -> dict[str, str]:
    rows = DeviceGroup.objects.values_list("name", "parent__name")
    return {name: above or "" for name, above in rows}


@pytest.mark.parametrize("tree", TREES, ids=" ".join)
def test_groups_are_made_from_the_top_down_in_whatever_order_they_come(
    tree: Mapping[str, str],
) -> None:
    lines = ["group,parent", *(f"{name},{above}" for name, above in tree.items())]
    made = Import(read("\n".join(lines).encode(), Format.CSV, columns_of))
    made.check()
    made.prepare()
    made.write()
    assert stored() == tree
    document = export_document()
    import_document({**document, "groups": []})
    assert not stored()
    import_document(document)
    assert stored() == tree
