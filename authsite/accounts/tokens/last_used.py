"""Record when tokens were used and from where, and their digests with a newer pepper.

Written behind the request, by one thread of each process, and at most once a minute for a token
that is used from one address.
"""

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


class TokenUseWorker(WriteBehindWorker[int, Use]):
    """Collects uses of tokens from request threads and writes them every few seconds."""

    name = "token-uses"

    def record(self, token: ApiToken, text: str, moment: datetime, address: str | None) -> None:
        """Record that a token was verified, unless its row says as much already."""
        digest, newest = None, hashing.newest_pepper()
        if token.pepper != newest:
            digest = (token.digest, digest_of(text, newest), newest)
        is_fresh = token.last_used is not None and moment - token.last_used < EVERY
        if is_fresh and token.last_used_from == address and digest is None:
            return
        with self._lock:
            self._collected[token.pk] = Use(moment, address, digest)
        self._start()

    def write(self, batch: list[tuple[int, Use]]) -> None:
        with without_waiting():
            for pk, use in sorted(batch):
                row = ApiToken.objects.filter(pk=pk)
                row.filter(Q(last_used=None) | Q(last_used__lt=use.moment)).update(
                    last_used=use.moment, last_used_from=use.address
                )
                if use.digest is not None:
                    former, digest, pepper = use.digest
                    row.filter(digest=former).update(digest=digest, pepper=pepper)


worker = TokenUseWorker()
