"""Routes of device services: what is refused when it is saved, and what RTIO is told."""

import itertools
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils.http import urlencode

from devices.admin.base.actions import set_digest
from devices.history import history_of
from rpc.rtio.models import DeviceServiceRoute
from rpc.rtio.models.route import MAX_CONFIG_LENGTH, REFUSING_URL

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

Make = Callable[..., DeviceServiceRoute]
URL = "http://localhost:17517/deviceservice"


@pytest.fixture
def make_route() -> Make:
    def make(uri: str = "/aa/bb", url: str = URL, **overrides: Any) -> DeviceServiceRoute:
        route = DeviceServiceRoute(uri=uri, url=url, **overrides)
        route.full_clean()
        route.save()
        return route

    return make


def test_documented_routes_have_the_documented_digest(make_route: Make) -> None:
    for name in ("dd", "bb", "cc"):
        make_route(f"/aa/{name}", f"{URL}/aa/{name}")
    text = DeviceServiceRoute.objects.all().config()
    assert text.startswith('{"deviceservicemap":{"/aa/bb":"http')
    assert zlib.crc32(text.encode()) == 785914363


def test_no_route_is_an_empty_map_and_disabled_ones_are_left_out(
    make_route: Make, django_assert_num_queries: Any
) -> None:
    make_route(enabled=False)
    with django_assert_num_queries(1):
        assert DeviceServiceRoute.objects.all().config() == '{"deviceservicemap":{}}'


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("aa/bb", URL),
        ("/a", URL),
        ("/" + "a" * 128, URL),
        ("/a b", URL),
        ("/a\u200b", URL),
        ("/aa", ""),
        ("/aa", "ftp://localhost/"),
        ("/aa", "http://"),
        ("/aa", "http://host:0/"),
        ("/aa", "http://host:99999/"),
        ("/aa", "http://ho st/"),
        ("/aa", "//host/"),
        ("/aa", "HTTP:/host"),
    ],
)
def test_what_rtio_cannot_use_is_refused(make_route: Make, uri: str, url: str) -> None:
    with pytest.raises(ValidationError):
        make_route(uri, url)


@pytest.mark.parametrize("uri", ["/aa", "/" + "a" * 127, "/ä/ö", "/a?b=c&d"])
def test_whatever_else_stands_as_it_is_typed(make_route: Make, uri: str) -> None:
    assert make_route(uri).uri == uri


def colliding() -> tuple[str, str]:
    """Return two URIs with the same CRC-32, found by the birthday of some hundred thousand."""
    seen: dict[int, str] = {}
    for number in itertools.count():
        uri = f"/{number * 7919 % 10_000_019}/{number}"
        digest = zlib.crc32(uri.encode())
        if digest in seen:
            return seen[digest], uri
        seen[digest] = uri
    raise AssertionError


@pytest.mark.once(on="postgres")
def test_uri_with_the_crc_of_another_is_refused_by_name(make_route: Make) -> None:
    first, second = colliding()
    make_route(first)
    with pytest.raises(ValidationError, match=f"cannot tell this URI from “{first}”"):
        make_route(second)
    with pytest.raises(IntegrityError), transaction.atomic():
        DeviceServiceRoute(uri=second, url=URL).save()


def test_map_that_no_longer_fits_is_refused_with_the_room_that_is_left(make_route: Make) -> None:
    for number in range(7):
        make_route(f"/long/{number}", "http://h/" + "x" * 250)
    left = DeviceServiceRoute.objects.all().room_left()
    assert left == MAX_CONFIG_LENGTH - len(DeviceServiceRoute.objects.all().config())
    with pytest.raises(ValidationError, match=f"{left} are left"):
        make_route("/last", "http://h/" + "x" * left)
    room = left - len(',"/last":"http://h/"')
    make_route("/last", "http://h/" + "x" * room)
    assert DeviceServiceRoute.objects.all().room_left() == 0
    make_route("/more", "http://h/", enabled=False)
    with pytest.raises(ValidationError):
        DeviceServiceRoute(uri="/other", url="http://h/").save()


def test_deleting_says_that_rtio_keeps_the_route_and_offers_to_refuse(
    admin_client: Client, make_route: Make
) -> None:
    route = make_route()
    page = admin_client.get(reverse("admin:rpc_deviceserviceroute_delete", args=[route.pk]))
    refuse = reverse("admin:rpc_deviceserviceroute_refuse", args=[route.pk])
    assert "until they restart" in page.content.decode()
    assert refuse in page.content.decode()
    assert REFUSING_URL in admin_client.get(refuse).content.decode()
    admin_client.post(refuse)
    route.refresh_from_db()
    assert (route.url, route.enabled) == (REFUSING_URL, True)
    done = admin_client.post(
        reverse("admin:rpc_deviceserviceroute_delete", args=[route.pk]),
        {"post": "yes"},
        follow=True,
    )
    assert "keep it until they restart" in done.content.decode()
    assert not DeviceServiceRoute.objects.exists()
    kinds = history_of(DeviceServiceRoute).objects.values_list("history_type", flat=True)
    assert sorted(kinds) == ["+", "-", "~"]


def test_disabling_says_that_rtio_keeps_the_route(admin_client: Client, make_route: Make) -> None:
    route = make_route()
    address = reverse("admin:rpc_deviceserviceroute_change", args=[route.pk])
    page = admin_client.get(address)
    assert f"{DeviceServiceRoute.objects.all().room_left()} of 2048" in page.content.decode()
    sent = {"uri": route.uri, "url": route.url, "note": "", "initial-enabled": "True"}
    sent |= {"initial-uri": route.uri, "initial-url": route.url, "initial-note": ""}
    done = admin_client.post(address, sent, follow=True)
    assert "keep it until they restart" in done.content.decode()
    assert not DeviceServiceRoute.objects.get().enabled


def test_many_routes_are_pointed_away_at_once(admin_client: Client, make_route: Make) -> None:
    make_route("/aa")
    make_route("/bb")
    keys = list(DeviceServiceRoute.objects.values_list("pk", flat=True))
    sent: dict[str, Any] = {"action": "refuse", "_selected_action": keys, "confirmed": "yes"}
    sent |= {"shown": set_digest(DeviceServiceRoute.objects.all()), "_change_reason": "moved"}
    form = "application/x-www-form-urlencoded"
    address = reverse("admin:rpc_deviceserviceroute_changelist")
    admin_client.post(address, urlencode(sent, doseq=True), content_type=form)
    kept = history_of(DeviceServiceRoute).objects.filter(history_change_reason="moved")
    assert kept.count() == 2
    assert set(DeviceServiceRoute.objects.values_list("url", flat=True)) == {REFUSING_URL}


@pytest.fixture
def take_all_room(make_route: Make) -> Callable[[str], None]:
    def take(uri: str) -> None:
        left = DeviceServiceRoute.objects.all().room_left()
        make_route(uri, "http://h/" + "x" * (left - len(f',"{uri}":"http://h/"')))

    return take


def test_a_route_for_which_there_is_no_room_is_not_pointed_away_and_it_is_said(
    admin_client: Client, make_route: Make, take_all_room: Callable[[str], None]
) -> None:
    for number in range(6):
        make_route(f"/long/{number}", "http://h/" + "x" * 250)
    off = make_route("/off", enabled=False)
    take_all_room("/rest")
    address = reverse("admin:rpc_deviceserviceroute_refuse", args=[off.pk])
    page = admin_client.post(address, follow=True)
    assert "All routes together have at most 2048 characters" in page.content.decode()
    assert not DeviceServiceRoute.objects.filter(url=REFUSING_URL).exists()


def test_routes_are_pointed_away_all_or_none(
    admin_client: Client, make_route: Make, take_all_room: Callable[[str], None]
) -> None:
    for number in range(6):
        make_route(f"/long/{number}", "http://h/" + "x" * 250)
    chosen = [make_route("/ok", REFUSING_URL + "x"), make_route("/off", enabled=False)]
    take_all_room("/rest")
    rows = DeviceServiceRoute.objects.filter(pk__in=[one.pk for one in chosen])
    sent = {"action": "refuse", "_selected_action": [one.pk for one in chosen]}
    sent |= {"confirmed": "yes", "shown": set_digest(rows)}
    address = reverse("admin:rpc_deviceserviceroute_changelist")
    page = admin_client.post(address, sent, follow=True)
    assert "All routes together have at most 2048 characters" in page.content.decode()
    assert not DeviceServiceRoute.objects.filter(url=REFUSING_URL).exists()


def test_who_saves_a_moment_after_the_last_room_was_taken_is_told(
    admin_client: Client, make_route: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        make_route(f"/long/{number}", "http://h/" + "x" * 250)
    monkeypatch.setattr(DeviceServiceRoute, "full_clean", lambda *_args, **_options: None)
    address = reverse("admin:rpc_deviceserviceroute_add")
    sent = {"uri": "/last", "url": "http://h/" + "x" * 900, "enabled": "on", "note": ""}
    page = admin_client.post(address, sent, follow=True)
    assert "All routes together have at most 2048 characters" in page.content.decode()
    assert not DeviceServiceRoute.objects.filter(uri="/last").exists()
