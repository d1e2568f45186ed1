"""Sessions of staff in the database, under a hash of their keys."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.contrib.auth import SESSION_KEY as USER_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends import db
from django.contrib.sessions.base_session import AbstractBaseSession
from django.contrib.sessions.models import Session
from django.utils import timezone

KEY_LENGTH = 40  # of Django's column; 160 bits in hexadecimal


def stored_key(session_key: str | None) -> str:
    """Return what a session is stored under; a key has 165 bits, so that a plain hash will do."""
    return hashlib.sha256((session_key or "").encode()).hexdigest()[:KEY_LENGTH]


def forget(now: datetime) -> int:
    """Delete the sessions that have expired; return how many."""
    deleted: int = Session.objects.filter(expire_date__lt=now).delete()[0]
    return deleted


def sessions_of(users: Iterable[User]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each session of accounts: what it is stored under, and what it holds.

    It reads all sessions, which are those of staff.
    """
    owners, read = {str(user.pk) for user in users}, SessionStore().decode
    current = Session.objects.filter(expire_date__gt=timezone.now())
    for key, text in current.values_list("pk", "session_data").iterator():
        if (held := read(text)).get(USER_KEY) in owners:
            yield key, held


def end_sessions(users: Iterable[User], *, keep: str | None = None, only: str | None = None) -> int:
    """Delete the sessions of accounts, but the one of the key `keep`; return how many.

    `only` is what one of them is stored under: then no other ends.
    """
    own = stored_key(keep)
    ended = [key for key, _held in sessions_of(users) if key != own and only in (None, key)]
    deleted: int = Session.objects.filter(pk__in=ended).delete()[0]
    return deleted


class SessionStore(db.SessionStore):
    """Store sessions so that nobody who reads the table holds a usable cookie."""

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        session = super().create_model_instance(data)
        session.session_key = stored_key(session.session_key)
        return session

    def load(self) -> dict[str, Any]:
        """Return the session's data, or nothing where it has none or has expired."""
        session = self.model.objects.filter(
            session_key=stored_key(self.session_key), expire_date__gt=timezone.now()
        ).first()
        if session is None:
            # Undocumented, and what Django's own stores do: a key that was sent is never adopted.
            self._session_key = None
            return {}
        data: dict[str, Any] = self.decode(session.session_data)
        return data

    def exists(self, session_key: str) -> bool:
        return super().exists(stored_key(session_key))

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key:
            super().delete(stored_key(key))
