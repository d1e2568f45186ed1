"""What is read in two statements is shown where others delete a row between them.

CWE-367: a decision named a rule, and the rules were read next. Where an import of permissions had
deleted it by then, a change over the API, which asks all assertions, ended with 500.
"""

from typing import Any

import pytest
from django.db.models import QuerySet
from rest_framework.test import APIClient

from acl.analysis import assertions, lint
from tests.support.rules import make_rule
from tests.support.staff import browser_of, staff

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]


def test_rows_are_left_out_that_are_gone(
    make_device: Any, make_group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lamp, yard = make_device("lamp"), make_group("yard", parent=make_group("site"))
    lamp.name = "Lamp"
    lamp.save()
    for effect in ("deny", "allow", "allow"):
        make_rule(lamp, "itself", "/v1/X", effect=effect)
    make_rule(lamp, "itself", "/v1/On")
    monkeypatch.setattr(QuerySet, "in_bulk", lambda *_rows, **_named: {})

    (broken,) = assertions.check(["lamp may not /v1/On lamp"])
    assert broken.why.endswith("none denies it")
    assert lint.report(None).findings == []

    kim = staff("view_historicaldevice", "view_devicegroup")
    client = APIClient()
    client.force_authenticate(kim)
    assert client.get("/api/v1/changes").status_code == 200
    page = f"/admin/devices/devicegroup/{yard.pk}/change/"
    assert browser_of(kim).get(page).status_code == 200
