"""The numbers of documents that users meet, as the code has them."""

import pytest
from django.conf import settings

from acl.analysis import assertions
from authsite.accounts import second_factor
from authsite.accounts.sign_on import calls
from authsite.accounts.tokens import authentication as tokens
from authsite.admin import home, search
from authsite.management.commands import migrate, serve
from authsite.operations import asgi
from devices import trying
from devices.admin import group as group_page
from devices.admin.base import changelist, history as history_page
from devices.admin.credentials import expiry
from devices.api import bulk
from devices.api.base import parsing
from devices.credentials import crl, hashing, throttle, x509
from devices.database import deadlines, in_loop, names
from devices.database.postgresql import base
from devices.events import api as events_api, delivering, models as events, outgoing, stream
from devices.history import context, timeline, undoing
from devices.management import base as management
from devices.models.credentials import pre_shared_key
from devices.transfer import formats, group_rows, importing, workbooks
from devices.values.text import MAX_TEXT_LENGTH
from rpc import journal, views, wsgi
from rpc.commands import execution, frames
from rpc.rtio import session_ending
from rpc.rtio.models import route

pytestmark = pytest.mark.once(on="sqlite")

KIB = 1024
MIB = 1024 * KIB
LONGEST = events_api.MAX_WAIT
SCRIPT = (settings.BASE_DIR / "authsite" / "static" / "authsite" / "admin.js").read_text()
SENT_FOR = int(SCRIPT.partition("const SENT_FOR = ")[2].partition(";")[0]) / 1000  # seconds
WORDS = {4: "four", 5: "five", 8: "eight", 10: "ten"}

BOUNDS = [  # a page, and what it says, with what is so
    ("accounts", f"**{WORDS[second_factor.RECOVERY_CODES].title()} recovery codes**"),
    ("admin", f"refused for a wrong secret {home.GUESSES} times or more"),
    ("admin", f"lists that lapse within {home.LAPSING.days} days"),
    ("admin", f"{expiry.MAX_LOOKED_AT:,} that end first"),
    ("admin", f"{group_page.MAX_DRAWN} groups are drawn"),
    ("admin", f"At most {WORDS[search.MAX_HITS]} hits of a kind"),
    ("admin", f"in a registry of more than {changelist.MAX_LISTED:,} devices"),
    ("admin", f"finds more than {changelist.MAX_UNASKED}, *Show counts*"),
    ("admin", f"{WORDS[trying.MAX_FAILURES]} of your own tries may fail"),
    ("api", f"up to {bulk.MAX_ROWS:,} devices"),
    ("api", f"at most {parsing.MAX_BYTES // MIB} MiB unless"),
    (
        "certificates",
        f"up to {WORDS[x509.MAX_ISSUERS]} of them and {x509.MAX_TEXT_LENGTH // KIB} KiB in all",
    ),
    ("certificates", f"more than {crl.MAX_LIST_BYTES // MIB} MiB"),
    ("credentials", f"have {hashing.GENERATED_BYTES * 8} random bits"),
    ("credentials", f"{hashing.MIN_LENGTH} to {hashing.MAX_LENGTH} characters, as RTIO"),
    ("credentials", f"up to {WORDS[pre_shared_key.MAX_LIVE_CHOSEN]} chosen ones"),
    ("credentials", f"At most {WORDS[throttle.FAILURES]} wrong guesses"),
    ("credentials", f"hashed within any {throttle.WINDOW // 60} minutes"),
    ("credentials", f"Up to {throttle.MAX_WAITING} may wait in a process"),
    ("credentials", f"waits for {throttle.WAIT[0]} to {throttle.WAIT[1]} s"),
    ("credentials", f"goes {WORDS[throttle.PENALTY]} places back"),
    ("events", f"up to {LONGEST}; 0 unless"),
    ("events", f"the {stream.READ * stream.MAX_READS:,} events that are looked at"),
    ("events", f"within {outgoing.TOTAL_SECONDS:.0f} seconds"),
    ("events", f"at last every {WORDS[int(delivering.MAX_PAUSE) // 3600]} hours"),
    ("events", f"At most {WORDS[delivering.MAX_PER_WEBHOOK]} messages"),
    ("events", f"ends it within {delivering.STOPPING:.0f} seconds"),
    ("history", f"at most {context.MAX_REASON_LENGTH} characters"),
    ("history", f"more than {undoing.MAX_UNDONE:,} changes"),
    ("history", f"up to {timeline.MAX_COUNTED:,} of a kind"),
    ("history", f"on its own page up to {history_page.MAX_COUNTED:,}"),
    ("history", f"up to {timeline.PER_PAGE} entries"),
    ("history", f"too, up to {history_page.MAX_EXPORTED:,} changes"),
    ("journal", f"{journal.Journal.capacity:,} rows wait to be written"),
    ("journal", f"{journal.MAX_OF_STRANGERS:,} new rows an hour about callers"),
    ("journal", f"{journal.MAX_OF_SUBJECT:,} new rows an hour about the commands"),
    ("journal", f"{journal.MAX_ROWS:,} new rows an hour but for"),
    ("permissions", f"at the first {assertions.MAX_MOMENTS} moments"),
    ("permissions", f"at the next {assertions.MAX_MOMENTS} moments"),
    ("protocols", f"Up to {frames.MAX_COMMANDS:,} commands fit in a frame"),
    ("protocols", f"{execution.GUESSING_SECONDS:.0f} seconds on those at most"),
    ("rtio", f"into the {route.MAX_CONFIG_LENGTH:,} characters"),
    ("rtio", f"have {route.MIN_URI_LENGTH} to {route.MAX_URI_LENGTH} characters"),
    ("rtio", f"takes its part over within {session_ending.LEASE.seconds} s"),
    ("sign-on", f"A call ends after {calls.WHOLE_SECONDS:.0f} s or {calls.MAX_BYTES // KIB} KB"),
    ("tokens", f"After {tokens.GUESSES} wrong tokens from one address"),
    ("tokens", f"within {tokens.WINDOW // 60} minutes"),
    (
        "transfer",
        f"{formats.MAX_BYTES // MIB} MiB; a workbook unpacked {workbooks.MAX_UNPACKED // MIB} MiB",
    ),
    ("transfer", f"| {formats.MAX_ROWS:,} |"),
    ("transfer", f"| {formats.MAX_COLUMNS}, up to `BL`"),
    ("transfer", f"| {MAX_TEXT_LENGTH:,} characters"),
    ("transfer", f"| {workbooks.MAX_CELL_UNITS:,} characters"),
    ("transfer", f"| {group_rows.MAX_GROUPS:,} |"),
    ("transfer", f"| {importing.MAX_HASHES:,} |"),
    ("transfer", f"| {workbooks.MAX_WRITTEN_ROWS:,}; writing one"),
    ("waiting", f"| `--backlog`, {serve.BACKLOG:,} |"),
    ("waiting", f"| {serve.CONNECTIONS:,} |"),
    ("waiting", f"| `THREADS` + {asgi.MAX_WAITING} |"),
    ("waiting", f"up to {asgi.MAX_READ_AHEAD // KIB} KiB, then a thread; {asgi.MAX_LONG_BODIES}"),
    ("waiting", f" of these at once, {asgi.MAX_OF_SENDER} from one address"),
    ("waiting", f"{asgi.MAX_OF_UNKNOWN} from where it is not certain"),
    ("waiting", f"{names.MAX_UNFINISHED} of a name, begun {names.SHARED_FOR:g} s apart"),
    (
        "waiting",
        f"in a thread {asgi.BODY_PAUSE:g} s in all, and 1 s more for each {asgi.BODY_RATE:,}",
    ),
    ("waiting", f"all that gathered, {in_loop.MAX_QUESTIONS} at most"),
    ("waiting", f"{deadlines.SECONDS} s in all; {base.LOOKUP_SECONDS:.0f} s for the address"),
    ("waiting", "host, 2 s to connect"),
    ("waiting", f"| half of `THREADS`, {settings.THREADS // 2} | {wsgi.STAFF_WAIT:.0f} s |"),
    ("waiting", f"| `THREADS`, {settings.THREADS} | {wsgi.MACHINE_WAIT:.0f} s |"),
    ("waiting", f"| {wsgi.STAFF_DEADLINE / 60:.0f} minutes | a page with HTTP 503"),
    ("waiting", f"a command for {management.LOCK_WAIT} s at least"),
    ("waiting", f"again until it is answered, or for {SENT_FOR:g} s"),
    ("waiting", f"| journal | {journal.Journal.capacity:,} rows |"),
    (
        "waiting",
        f"`EVENT_WAITERS`, {settings.EVENT_WAITERS} | as long as they ask for, {LONGEST} s",
    ),
    (
        "waiting",
        f"| {events.MAX_WEBHOOKS} webhooks | {outgoing.TOTAL_SECONDS:.0f} s for an attempt",
    ),
    (
        "waiting",
        f"{migrate.LOCK_SECONDS:.0f} s, {migrate.ATTEMPTS} times with pauses",
    ),
]


@pytest.mark.parametrize(("page", "said"), BOUNDS, ids=lambda value: str(value)[:40])
def test_a_page_has_the_bound_of_the_code(page: str, said: str) -> None:
    text = (settings.BASE_DIR / "docs" / f"{page}.md").read_text()
    assert said.casefold() in " ".join(text.split()).casefold()


def test_a_form_cannot_be_sent_twice_while_a_statement_of_the_first_may_wait() -> None:
    """It could after 30 s, while a statement that waited for a lock was saved later."""
    assert SENT_FOR > wsgi.STAFF_WAIT + wsgi.STAFF_DEADLINE


def test_bodies_are_as_long_as_the_page_of_protocols_says() -> None:
    text = " ".join((settings.BASE_DIR / "docs" / "protocols.md").read_text().split())
    assert f"larger than {views.DeviceVerifier.body_limit // KIB} KiB" in text
    assert f"413 above {views.CommandEndpoint.body_limit // KIB} KiB" in text
