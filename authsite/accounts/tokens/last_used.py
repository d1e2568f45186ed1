"""Record when tokens were used and from where, and their digests with a newer pepper.

Written behind the request, by one thread of each process, and at most once a minute for a token
that is used from one address.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Q

from authsite.accounts.tokens.models import ApiToken, digest_of
from devices.credentials import hashing
from devices.database.confirmation import without_waiting
from devices.database.write_behind import WriteBehindWorker

EVERY = timedelta(minutes=1)


class Use(NamedTuple):
    """A use of a token, and what takes the place of a digest with an older pepper."""

    moment: datetime
    address: str | None
    digest: tuple[str, str, str] | None = None  # the former digest, the new one, its pepper


class TokenUseWorker(WriteBehindWorker[dict[int, Use]]):
    """Collects uses of tokens from request threads and writes them every few seconds."""

    name = "token-uses"

    def __init__(self) -> None:
        super().__init__()
        self._uses: dict[int, Use] = {}

    def record(self, token: ApiToken, text: str, moment: datetime, address: str | None) -> None:
        """Record that a token was verified, unless its row says as much already."""
        digest, newest = None, hashing.newest_pepper()
        if token.pepper != newest:
            digest = (token.digest, digest_of(text, newest), newest)
        is_fresh = token.last_used is not None and moment - token.last_used < EVERY
        if is_fresh and token.last_used_from == address and digest is None:
            return
        with self._lock:
            self._uses[token.pk] = Use(moment, address, digest)
        self._start()

    def waiting(self) -> int:
        return len(self._uses)

    def drain(self) -> list[dict[int, Use]]:
        """Return what was collected, in one batch: tokens are few."""
        with self._lock:
            uses, self._uses = self._uses, {}
        return [uses] if uses else []

    def requeue(self, batches: Iterable[dict[int, Use]]) -> None:
        with self._lock:
            for batch in batches:
                self._uses = batch | self._uses

    def write(self, batch: dict[int, Use]) -> None:
        """Write the uses, in one short transaction."""
        with without_waiting():
            for pk, use in sorted(batch.items()):
                row = ApiToken.objects.filter(pk=pk)
                row.filter(Q(last_used=None) | Q(last_used__lt=use.moment)).update(
                    last_used=use.moment, last_used_from=use.address
                )
                if use.digest is not None:
                    former, digest, pepper = use.digest
                    row.filter(digest=former).update(digest=digest, pepper=pepper)


worker = TokenUseWorker()
