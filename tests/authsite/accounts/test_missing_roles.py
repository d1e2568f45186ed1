"""A page that is refused names the roles of which one would do."""

import re

import pytest
from django.contrib.auth.models import Group

from devices.models import Device
from tests.support.staff import browser_of, staff

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

REFUSED = {
    "Viewer": {
        "/admin/devices/device/add/": "Operator",
        "/admin/devices/device/{pk}/delete/": "Operator",
        "/admin/devices/device/{pk}/issue-key/": "Security",
        "/admin/acl/commandpermission/add/": "Security",
        "/admin/rpc/callrecord/": "Auditor, Operator, Security",
        "/admin/axes/accessattempt/": "Auditor",
        "/admin/auth/user/": "",
    },
    "Operator": {"/admin/devices/certificate/add/": "Security"},
    "": {"/admin/devices/device/": "Auditor, Operator, Security, Viewer"},
}
CASES = [(role, path, wanted) for role, pages in REFUSED.items() for path, wanted in pages.items()]


@pytest.mark.parametrize(("role", "path", "wanted"), CASES)
def test_the_role_is_named(role: str, path: str, wanted: str) -> None:
    device = Device.objects.create(identifier="x" * 36)
    answer = browser_of(staff(role=role)).get(path.format(pk=device.pk))
    page = re.sub(r"\s+", " ", re.sub("<[^>]*>", "", answer.content.decode()))
    assert answer.status_code == 403
    if wanted:
        assert f"It needs one of these roles: {wanted} " in page
        assert (f"Your roles: {role}" if role else "You have no role.") in page
    else:
        assert "only superusers may do this" in page


def test_a_group_of_ones_own_is_named_likewise() -> None:
    own = Group.objects.create(name="<Night shift>")
    own.permissions.set(Group.objects.get(name="Operator").permissions.all())
    page = browser_of(staff()).get("/admin/devices/device/add/").content.decode()
    assert "<strong>&lt;Night shift&gt;, Operator</strong>" in page
