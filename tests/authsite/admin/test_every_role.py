"""Every role at every address of the admin: what a page offers is answered, all else refused.

A link or a button that leads to a refusal is clumsy; a form that a role may send although none of
its pages has it is a fault.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from authsite import roles
from authsite.accounts.tokens.models import ApiToken
from devices.models import Device
from rpc.rtio.models import Cause, DeviceServiceRoute, EndingState, RtioServer, SessionEnding
from tests.e2e import furnish
from tests.support import admin_pages
from tests.support.walk import Deed, Walk, view_of

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="processes")]

SUPERUSER, NONE = "superuser", "no role"
# Accounts that may see the rows of one model and nothing else, while pages name rows of others.
SINGLE = (
    "acl.view_commandpermission",
    "authsite.view_apitoken",
    "devices.view_device",
    "devices.view_presharedkey",
    "rpc.view_callrecord",
)
WHO = [SUPERUSER, *roles.ROLES, NONE, *SINGLE]
REFUSALS = {403, 404, 405}
WRITES = ("INSERT", "UPDATE", "DELETE")
SESSIONS = "django_session"

WalkOf = Callable[[str], Walk]


@pytest.fixture(scope="module")
def clients(kept_rows: None) -> dict[str, Client]:
    """Fill the registry, so that every page has something to show; return a browser of each."""
    call_command("seed_demo", json=True, verbosity=0)
    root = User.objects.create_superuser(SUPERUSER)
    furnish.main()
    _sessions()
    AccessLog.objects.create(username="kim", ip_address="127.0.0.1")
    AccessAttempt.objects.create(username="kim", ip_address="127.0.0.1", failures_since_start=9)
    found = {}
    for who in WHO:
        user = root if who == SUPERUSER else User.objects.create_user(who, is_staff=True)
        if who in roles.ROLES:
            user.groups.add(Group.objects.get(name=who))
        elif who in SINGLE:
            app, _dot, codename = who.partition(".")
            user.user_permissions.add(
                Permission.objects.get(content_type__app_label=app, codename=codename)
            )
        if scopes := [one for one in ("devices.view_device",) if user.has_perm(one)]:
            ApiToken.objects.issue(owner=user, name="own", scopes=scopes)
        found[who] = Client(raise_request_exception=False)
        found[who].force_login(user)
    return found


def _sessions() -> None:
    """Add an RTIO server, a route, and sessions that were ended there, one of a deleted device."""
    now = timezone.now()
    backend = Device.objects.filter(kind=Device.Kind.BACKEND).first()
    server = RtioServer.objects.create(name="rtio-1", host="rtio.example.com", backend=backend)
    DeviceServiceRoute.objects.create(uri="/weather", url="https://weather.example.com/")
    gone = Device.objects.create(identifier="gone")
    device = Device.objects.filter(kind=Device.Kind.DEVICE).earliest("pk")
    for one in (gone, device):
        SessionEnding.objects.create(
            identifier=one.identifier,
            device=one,
            server=server,
            cause=Cause.DELETED,
            state=EndingState.GIVEN_UP,
            requested_at=now,
            due_at=now + timedelta(seconds=5),
        )
    gone.delete()


@pytest.fixture(scope="module")
def walks() -> dict[str, Walk]:
    return {}


@pytest.fixture
def walk_of(clients: dict[str, Client], walks: dict[str, Walk]) -> WalkOf:
    """Return what walks everywhere as somebody, once; as one of SINGLE, to pages of that model."""

    def walk(who: str) -> Walk:
        if who not in walks:
            found = Walk(clients[who])
            model = who.replace(".view", "") if who in SINGLE else ""
            every = admin_pages.addresses(every=True).items()
            found.go_everywhere(path for name, path in every if name.startswith(model))
            walks[who] = found
        return walks[who]

    return walk


@pytest.mark.parametrize("who", WHO)
def test_what_a_page_offers_is_answered(who: str, walk_of: WalkOf) -> None:
    walk = walk_of(who)
    failed = {one.asked: one for one in walk.answers if one.status >= 500}
    assert not failed, "\n".join(map(str, failed.values()))
    refused = {one.asked: one for one in walk.answers if one.found_on and one.status in REFUSALS}
    assert not refused, "\n".join(map(str, refused.values()))


def written(walk: Walk, deed: Deed, form: tuple[str, Any, str]) -> list[str]:
    """Send a form as somebody whose pages have none such; return what that wrote."""
    walk.deeds[deed] = form
    with CaptureQueriesContext(connection) as asked:
        walk.send(deed)
    statements = [one["sql"] for one in asked.captured_queries]
    return [one for one in statements if one.startswith(WRITES) and SESSIONS not in one]


@pytest.mark.parametrize("who", [one for one in WHO if one != SUPERUSER])
def test_what_no_page_offers_is_refused(who: str, walk_of: WalkOf) -> None:
    everything, own = walk_of(SUPERUSER).deeds, walk_of(who).deeds
    trial = Walk(walk_of(who).client)
    forms = sorted(everything.keys() - own.keys())
    if who in SINGLE:  # an auditor may see more: each of SINGLE sends a part, all send each once
        forms = forms[SINGLE.index(who) :: len(SINGLE)]
    found = {deed: wrote for deed in forms if (wrote := written(trial, deed, everything[deed]))}
    assert not found


def test_the_walk_reaches_every_page_and_every_form(walk_of: WalkOf) -> None:
    walk = walk_of(SUPERUSER)
    asked = {view_of(one.asked.partition(" ")[2]) for one in walk.answers}
    assert set(map(view_of, admin_pages.addresses().values())) <= asked
    assert len(walk.deeds) > 100
