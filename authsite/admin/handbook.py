"""The handbook: the documents of docs/, read in the admin, each page with a way to its chapter."""

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _, gettext_lazy

from devices.admin.base.pages import site_page

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite
    from markdown_it.token import Token

FOLDER = Path(settings.BASE_DIR) / "docs"
PARTS = (
    (
        gettext_lazy("For staff"),
        (
            "admin",
            "credentials",
            "certificates",
            "permissions",
            "transfer",
            "history",
            "journal",
            "accounts",
            "tokens",
        ),
    ),
    (
        gettext_lazy("For whoever connects other systems"),
        ("callers", "protocols", "rtio", "events", "api", "commands", "sign-on"),
    ),
    (
        gettext_lazy("For whoever runs the registry"),
        ("operations", "scaling", "waiting", "performance", "threat-model", "decisions"),
    ),
)
CHAPTERS = {name for _title, names in PARTS for name in names}
# Where help on a page is, by how the name of its address ends, or else by how it begins; then the
# longest beginning counts.
HELP_ENDS = {
    "_history": "history#reading-it",
    "_restore": "history#undoing-and-restoring-one-row",
    "_undo": "history#undoing-and-restoring-one-row",
}
HELP = {
    "": "admin",
    "index": "admin#the-start-page",
    "search": "admin#searching",
    "changes": "history#reading-it",
    "batch": "history#what-was-changed-together",
    "acl_": "permissions",
    "acl_commandpermission_changelist": "admin#rules",
    "acl_commandpermission_add": "permissions#writing-a-rule",
    "acl_commandpermission_change": "permissions#writing-a-rule",
    "acl_commandpermission_explain": "permissions#why-was-this-denied",
    "acl_commandpermission_report": "permissions#before-you-save",
    "acl_commandset": "permissions#writing-a-rule",
    "acl_assertion": "permissions#before-you-save",
    "auth_": "accounts",
    "auth_group": "accounts#roles",
    "authsite_apitoken": "tokens",
    "authsite_serviceaccount": "tokens#service-accounts",
    "axes_": "accounts#locked-out",
    "devices_attributedefinition": "admin#attributes-with-a-type",
    "devices_certificate": "certificates",
    "devices_certificateauthority": "certificates#trust-anchors",
    "devices_certificateauthority_load_list": "certificates#revocation",
    "devices_delivery": "events#webhooks",
    "devices_device": "admin#devices",
    "devices_device_changelist": "admin#lists",
    "devices_device_export": "transfer",
    "devices_device_import": "transfer",
    "devices_device_issue_key": "admin#secrets",
    "devices_device_rotate_keys": "admin#secrets",
    "devices_device_try_credential": "admin#tests",
    "devices_devicegroup_tree": "admin#overviews",
    "devices_event": "events",
    "devices_presharedkey": "credentials#keys",
    "devices_webhook": "events#webhooks",
    "enrol_app": "accounts#the-second-factor",
    "expiry": "admin#overviews",
    "factors": "accounts#the-second-factor",
    "new_codes": "accounts#the-second-factor",
    "own_sessions": "accounts#logging-in",
    "password_change": "accounts#logging-in",
    "rpc_callrecord": "journal#looking-through-it",
    "rpc_deviceserviceroute": "rtio#routes-of-device-services",
    "rpc_rtioserver": "rtio",
    "rpc_sessionending": "rtio#ending-sessions",
}


# Around what programs write into a document: HTML is escaped, so readers would see them.
COMMENTS = re.compile(r"^<!--.*-->\n", re.MULTILINE)


class Chapter(NamedTuple):
    """A document as a page: its title, its sections (anchor and title), and its HTML."""

    title: str
    sections: Sequence[tuple[str, str]]
    html: SafeString


def help_url(request: HttpRequest) -> str:
    """Return where the handbook says what the page of a request is for."""
    match = request.resolver_match
    name = (match.url_name if match else None) or ""
    ends = (HELP_ENDS[one] for one in HELP_ENDS if name.endswith(one))
    wanted = next(ends, None) or HELP[max((one for one in HELP if name.startswith(one)), key=len)]
    chapter, _hash, section = wanted.partition("#")
    address = reverse("admin:help_chapter", args=[chapter])
    return f"{address}#{section}" if section else address


@cache
def chapter(name: str) -> Chapter | None:
    """Return a document; None where there is none, as where docs/ was not installed."""
    path = FOLDER / f"{name}.md"
    if name not in CHAPTERS or not path.is_file():
        return None
    from markdown_it import MarkdownIt  # for readers: commands start without it

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(COMMENTS.sub("", path.read_text("utf-8")))
    title, sections = name, []
    for opening, inline in pairwise(tokens):
        if inline.type == "inline":
            _rewrite_link(inline)
        if opening.type != "heading_open":
            continue
        text = _text_of(inline)
        opening.attrSet("id", anchor := slug(text))
        if opening.tag == "h1":
            title = text
        elif opening.tag == "h2":
            sections.append((anchor, text))
    shown = tokens[3:] if tokens and tokens[0].tag == "h1" else tokens  # the page has the title
    body = markdown.renderer.render(shown, markdown.options, {})
    # What is wider than the page is scrolled, by keys as well.
    body = body.replace("<pre>", '<pre tabindex="0">').replace("</table>", "</table></div>")
    body = body.replace("<table>", '<div class="scrolls" tabindex="0"><table>')
    # Written by this project, with all HTML in it escaped.
    return Chapter(title, sections, mark_safe(body))  # noqa: S308


def slug(heading: str) -> str:
    """Return the anchor of a heading, as sites that show repositories make it."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()))


def _text_of(inline: "Token") -> str:
    return "".join(one.content for one in inline.children or ())


def _rewrite_link(inline: "Token") -> None:
    """Make links to documents lead to their pages, and those to other files lead nowhere.

    A picture is said in words: the pages show what the admin serves and nothing else.
    """
    leads_nowhere = False
    for one in inline.children or ():
        if one.type == "image":
            one.type, one.tag, one.children = "text", "", None
        if one.type == "link_close":
            one.hidden, leads_nowhere = leads_nowhere, False
        target = str(one.attrGet("href") or "")
        if one.type != "link_open" or target.startswith(("#", "https://", "http://")):
            continue
        name, dot, section = target.partition(".md")
        if dot and name in CHAPTERS:
            one.attrSet("href", f"../{name}/{section}")
        else:
            one.hidden = leads_nowhere = True


def contents_view(site: "AdminSite", request: HttpRequest) -> HttpResponse:
    parts = [
        (title, [(name, found) for name in names if (found := chapter(name))])
        for title, names in PARTS
    ]
    return site_page(site, request, "admin/handbook/contents.html", title=_("Help"), parts=parts)


def chapter_view(site: "AdminSite", request: HttpRequest, name: str) -> HttpResponse:
    found = chapter(name)
    if found is None:
        raise Http404
    return site_page(site, request, "admin/handbook/chapter.html", title=found.title, chapter=found)
