"""The side bar: the pages by subject, those of daily work first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

HISTORY = "history"
# A subject's lists, by their models; pages that are no list, with the permission that they need.
SUBJECTS: tuple[tuple[Any, tuple[Any, ...]], ...] = (
    (
        _("Devices"),
        (
            "devices.device",
            "devices.devicegroup",
            ("admin:devices_devicegroup_tree", _("Tree of groups"), "devices.view_devicegroup"),
            "devices.presharedkey",
            "devices.certificate",
            "devices.certificateauthority",
            ("admin:expiry", _("Expiry calendar"), "devices.view_presharedkey"),
        ),
    ),
    (_("Commands"), ("acl.commandpermission", "acl.commandset", "acl.assertion")),
    (
        _("Tests"),
        (
            (
                "admin:acl_commandpermission_explain",
                _("Who may command whom"),
                "acl.view_commandpermission",
            ),
            (
                "admin:devices_device_try_credential",
                _("Try a credential"),
                "devices.try_credential",
            ),
        ),
    ),
    (
        _("What happened"),
        ("rpc.callrecord", ("admin:changes", _("History"), HISTORY), "rpc.sessionending"),
    ),
    (
        _("Staff and programs"),
        (
            "auth.user",
            "auth.group",
            "authsite.apitoken",
            "authsite.serviceaccount",
            "axes.accessattempt",
            "axes.accesslog",
        ),
    ),
    (
        _("Set-up"),
        (
            "devices.attributedefinition",
            "rpc.rtioserver",
            "rpc.deviceserviceroute",
            "devices.webhook",
            "devices.delivery",
            "devices.event",
        ),
    ),
)


@dataclass(slots=True)
class Entry:
    """A page in the side bar."""

    name: str
    url: str
    add_url: str = ""
    current: str = ""  # what `aria-current` says


@dataclass(frozen=True, slots=True)
class Section:
    """The pages of one subject."""

    title: str
    entries: list[Entry]


def side_bar(request: HttpRequest, apps: list[Any], *, may_see_history: bool) -> list[Section]:
    """Return the pages that this user may see, with the one that is shown marked.

    `apps` is what the site offers, as Django's admin lists it; what no subject names comes last.
    """
    models = {
        f"{app['app_label']}.{model['object_name'].lower()}": Entry(
            model["name"], model["admin_url"], model["add_url"] or ""
        )
        for app in apps
        for model in app["models"]
        if model["admin_url"]
    }

    def entries(pages: tuple[Any, ...]) -> Iterator[Entry]:
        for page in pages:
            if isinstance(page, str):
                if page in models:
                    yield models.pop(page)
            elif may_see_history if page[2] == HISTORY else request.user.has_perm(page[2]):
                yield Entry(str(page[1]), reverse(page[0]))

    sections = [Section(str(title), [*entries(pages)]) for title, pages in SUBJECTS]
    sections = [
        one for one in [*sections, Section(str(_("More")), [*models.values()])] if one.entries
    ]
    _mark(request.path, [entry for section in sections for entry in section.entries])
    return sections


def _mark(path: str, entries: list[Entry]) -> None:
    """Mark the page that a path is of: that with the longest address that the path begins with."""
    around = [entry for entry in entries if path.startswith(entry.url)]
    if around:
        nearest = max(around, key=lambda entry: len(entry.url))
        nearest.current = "page" if nearest.url == path else "true"
