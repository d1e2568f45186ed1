"""Whether a secret is one of a device's keys."""

import hmac
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

from django.utils import timezone

from devices.credentials import hashing, throttle
from devices.credentials.hashing import Scheme
from devices.database import last_used
from devices.database.coalescing import Coalescer
from devices.database.statements import MustWait, Query, Statement, Steps, answered
from devices.models.credentials.pre_shared_key import MAX_LIVE_CHOSEN
from devices.values import addresses
from devices.verdicts import Outcome, Verdict, outcome_at


class StoredKey(NamedTuple):
    """One row of the hot path's statement: a device beside one of its keys, or beside none."""

    identifier: str
    device: int
    kind: str
    enabled: bool
    key: int | None
    scheme: str
    digest: str
    pepper: str
    not_before: datetime | None
    not_after: datetime | None
    revoked_at: datetime | None
    used_lately: bool | None  # both rows tell of a use within the last minute

    def outcome_at(self, now: datetime) -> Outcome:
        """Return VERIFIED where a secret that matches this key admits its device, else why not."""
        if not self.enabled:
            return Outcome.DISABLED
        return outcome_at(self, now)

    def verdict(self, outcome: Outcome) -> Verdict:
        return Verdict(
            outcome,
            device=self.device,
            kind=self.kind,
            key=self.key,
            used_lately=bool(self.used_lately),
        )


KEYS_OF_DEVICES = Statement(
    """
    SELECT d.identifier, d.id, d.kind, d.enabled, k.id, k.scheme, k.digest, k.pepper,
           k.not_before, k.not_after, k.revoked_at,
           d.last_seen > %s AND k.last_used > %s
      FROM devices_device d LEFT JOIN devices_presharedkey k ON k.device_id = d.id
     WHERE d.identifier {among}
    """
)


StoredKeys = Mapping[str, Sequence[StoredKey]]  # by the identifier of a device, if it is registered


def find_keys(identifiers: Sequence[str]) -> Steps[StoredKeys]:
    """Return what is on record of each identifier that is registered, in one statement.

    They are such as a database can hold.
    """
    found: dict[str, list[StoredKey]] = {}
    lately = timezone.now() - last_used.EVERY
    for row in map(StoredKey._make, (yield Query(KEYS_OF_DEVICES, (lately, lately, identifiers)))):
        found.setdefault(row.identifier, []).append(row)
    return found


def stored_keys(identifiers: Iterable[str]) -> StoredKeys:
    """Ask what is on record of each identifier that is registered."""
    listed = list(filter(addresses.is_storable, set(identifiers)))
    return answered(find_keys(listed)) if listed else {}


KEYS = Coalescer(stored_keys)


def verify_secret(
    identifier: str,
    secret: str,
    *,
    now: datetime,
    as_caller: bool = False,
    stored: Sequence[StoredKey] | None = None,
) -> Verdict:
    """Return whether the secret is a usable key of the device.

    One statement, shared with the threads that ask at the same moment; none where `stored` is what
    is on record. Then nothing waits: MustWait is raised where a guess would.
    """
    if stored is not None:
        return _verdict_at_once(stored, secret, now)
    began = time.monotonic()
    stored = KEYS.ask(identifier)
    return _verdict(identifier, secret, stored or (), now, as_caller, began)


def verify_secrets(
    presented: Sequence[tuple[str, str]],
    *,
    now: datetime,
    as_caller: bool = False,
    stored: StoredKeys | None = None,
) -> list[Verdict]:
    """Verify pairs of identifier and secret in their order, all with one statement.

    None where `stored` is what is on record, as for `verify_secret`.
    """
    if stored is not None:
        return [
            _verdict_at_once(stored.get(identifier, ()), secret, now)
            for identifier, secret in presented
        ]
    began = time.monotonic()
    stored = stored_keys((identifier for identifier, _secret in presented))
    return [
        _verdict(identifier, secret, stored.get(identifier, ()), now, as_caller, began)
        for identifier, secret in presented
    ]


def _verdict_at_once(stored: Sequence[StoredKey], secret: str, now: datetime) -> Verdict:
    """Return the verdict on a secret that matches a key; raises MustWait where it is a guess."""
    match = _match_without_hash(stored, secret, now)
    if match is None:
        raise MustWait
    return match.row.verdict(match.outcome)


def _verdict(
    identifier: str,
    secret: str,
    stored: Sequence[StoredKey],
    now: datetime,
    as_caller: bool,
    began: float,
) -> Verdict:
    """Verify a secret by what is on record of its identifier, without a statement.

    Generated secrets are held against their digests first: a right one passes whatever was
    tried before. What is left is a guess, and a guess costs one memory-hard hash or, after a
    handful of failures, none: the same for a known device as for an unknown one.
    """
    match = _match_without_hash(stored, secret, now)
    if match is not None:
        return match.row.verdict(match.outcome)
    candidates = _candidates(stored, now)
    digests = [row.digest for row in candidates]
    guess = throttle.Guess(identifier, digests, as_caller=as_caller)
    verdict = _verify_guess(guess, stored, candidates, secret, now)
    if guess.refusal:
        throttle.hide_time(began)
    return verdict


class Match(NamedTuple):
    """A key that a secret is of, and what that is worth at the moment."""

    row: StoredKey
    outcome: Outcome


def _best(rows: Iterable[StoredKey], now: datetime) -> Match | None:
    """Return the row that verifies, else any: one secret may stand in several keys."""
    found = None
    for row in rows:
        match = Match(row, row.outcome_at(now))
        if match.outcome is Outcome.VERIFIED:
            return match
        found = found or match
    return found


def _match_without_hash(stored: Sequence[StoredKey], secret: str, now: datetime) -> Match | None:
    return _match_generated(stored, secret, now) or _best(_recalled(_chosen(stored), secret), now)


def _match_generated(stored: Sequence[StoredKey], secret: str, now: datetime) -> Match | None:
    made = hashing.hmac_digests(secret, {row.pepper for row in stored})
    match = _best(
        [
            row
            for row in stored
            if row.scheme == Scheme.HMAC_SHA256
            and row.pepper in made
            and hmac.compare_digest(made[row.pepper], row.digest)
        ],
        now,
    )
    if match is not None and match.row.pepper != next(iter(made)):
        _replace_outdated_digest(*match, secret)
    return match


def _chosen(stored: Sequence[StoredKey]) -> list[StoredKey]:
    peppers = hashing.peppers()
    return [row for row in stored if row.scheme == Scheme.ARGON2ID and row.pepper in peppers]


def _recalled(rows: Iterable[StoredKey], secret: str) -> Iterator[StoredKey]:
    """Yield the chosen keys that this process knows to be those of the secret."""
    return (row for row in rows if throttle.remembered.recalls(row.digest, secret))


def _verify_guess(
    guess: throttle.Guess,
    stored: Sequence[StoredKey],
    candidates: Sequence[StoredKey],
    secret: str,
    now: datetime,
) -> Verdict:
    """Verify a secret that matches no generated key, with bounded work."""
    row = guess.hashed(
        secret,
        partial(_matching_chosen, candidates, secret, now),
        lambda: next(_recalled(candidates, secret), None),
    )
    if row is not None:
        row = next(own for own in candidates if own.digest == row.digest)  # of an equal guess
        return row.verdict(row.outcome_at(now))
    if not stored:
        return Verdict(Outcome.UNKNOWN_DEVICE)
    return _refusal(stored, guess)


def _candidates(stored: Sequence[StoredKey], now: datetime) -> list[StoredKey]:
    """Return the chosen keys worth a hash: the usable ones, or else the newest."""
    chosen = _chosen(stored)
    usable = [row for row in chosen if row.outcome_at(now) is Outcome.VERIFIED]
    return (usable or sorted(chosen, key=lambda row: row.key or 0)[-1:])[:MAX_LIVE_CHOSEN]


def _matching_chosen(
    candidates: Sequence[StoredKey], secret: str, now: datetime
) -> StoredKey | None:
    """Return the key that the secret is of, if any; without keys the hash costs the same."""
    if not candidates:
        hashing.dummy_hash(secret)
    for row in candidates:
        if hashing.argon2_matches(secret, row.digest, hashing.peppers()[row.pepper]):
            throttle.remembered.note(row.digest, secret)
            _replace_outdated_digest(row, row.outcome_at(now), secret)
            return row
    return None


def _refusal(stored: Sequence[StoredKey], guess: throttle.Guess) -> Verdict:
    device = stored[0]
    refused = Verdict(Outcome.WRONG_SECRET, device=device.device, kind=device.kind)
    missing = sorted(
        {row.pepper for row in stored if row.key and row.pepper not in hashing.peppers()}
    )
    if not device.enabled:
        return refused._replace(outcome=Outcome.DISABLED)
    if device.key is None:
        return refused._replace(outcome=Outcome.NO_CREDENTIAL)
    if guess.refusal:
        return refused._replace(outcome=Outcome.THROTTLED, detail=guess.refusal)
    if missing:
        return refused._replace(outcome=Outcome.PEPPER_MISSING, detail=", ".join(missing))
    return refused


def _replace_outdated_digest(row: StoredKey, outcome: Outcome, secret: str) -> None:
    """Have a digest of an older pepper or cost replaced, behind the request."""
    newest = hashing.newest_pepper()
    if row.pepper == newest and hashing.is_current(row.digest, row.scheme):
        return
    if row.key is None or outcome is not Outcome.VERIFIED:
        return
    if not last_used.worker.awaits_new_digest(row.key):
        newest, digest = hashing.digest(secret, row.scheme)
        last_used.worker.replace_digest(row.key, old=row.digest, new=digest, pepper=newest)
