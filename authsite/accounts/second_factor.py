"""The second factor of staff: codes of an app (TOTP), passkeys, recovery codes.

TOTP codes and passkeys are django-otp's and django-otp-webauthn's. Recovery codes are kept by
django-otp's static device as keyed digests: they exist in clear only on the page that shows them.
"""

import hashlib
import hmac
import re
import secrets
from base64 import b32encode
from datetime import timedelta
from enum import StrEnum
from io import BytesIO
from typing import Any

import qrcode
import qrcode.image.svg
from django.conf import settings
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django_otp import verify_token
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_otp_webauthn.models import WebAuthnCredential

from authsite.accounts.events import record_about
from devices.events.kinds import Kind

FACTORS = (TOTPDevice, StaticDevice, WebAuthnCredential)
APP, PASSKEY = "app", "passkey"  # in events, beside "recovery codes" and "all"
BY_PROVIDER = "second_factor_by_provider"  # in a session: a provider of sign-on asked for it
ENROLLING = "enrolling_app"  # likewise: the app that is being set up in it
RECOVERY_CODES = 10
CODE_LENGTH = 10  # of 31 characters: 49 bits
CODE_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without look-alikes
DIGEST_LENGTH = 16  # the width of django-otp's column: 64 bits
MAX_DIGITS = 18  # of a number that a database has
TOTP_CODE = re.compile(r"\d{6}\Z", re.ASCII)


class Policy(StrEnum):
    """What STAFF_SECOND_FACTOR may say."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


def policy() -> Policy:
    return Policy(settings.STAFF_SECOND_FACTOR)


def is_on() -> bool:
    """Whether staff may have second factors."""
    return policy() is not Policy.OFF


def is_satisfied(request: HttpRequest) -> bool:
    """Whether the session may use the admin as far as the second factor goes.

    An account that has one gives it, whether it is required or not. It is looked up at each
    request: a session from before the enrolment is asked for it, too.
    """
    user: Any = request.user
    if not is_on() or is_given(request):
        return True
    if is_required(user):
        return False
    if not hasattr(user, "may_enrol"):  # a page asks more than once
        user.may_enrol = not _has_factor(user)
    return bool(user.may_enrol)


def is_given(request: HttpRequest) -> bool:
    """Whether the session has given one: to us, or to the provider that it signed on with."""
    user: Any = request.user
    return bool(user.is_verified() or request.session.get(BY_PROVIDER))


def is_required(user: User) -> bool:
    """Whether the account must have one; break-glass accounts must, since theirs is a password."""
    needed = policy() is Policy.REQUIRED or user.get_username() in settings.BREAK_GLASS_ACCOUNTS
    return needed and is_on()


def is_enrolled(user: User) -> bool:
    """Whether the account has a second factor to give."""
    return is_on() and _has_factor(user)


def _has_factor(user: User) -> bool:
    """Whether the account has confirmed one of the factors, in one statement."""
    first, *others = (
        model.objects.filter(user=user, confirmed=True).values("pk") for model in FACTORS
    )
    return bool(first.union(*others, all=True).exists())


# --- Codes ----------------------------------------------------------------------------------


def totp_device(user: User) -> TOTPDevice | None:
    """Return the account's app that makes codes."""
    return TOTPDevice.objects.devices_for_user(user, confirmed=True).first()


def begin_enrolment(user: User, session: SessionBase) -> TOTPDevice:
    """Return the app that is being enrolled in a session: one that no code has confirmed yet.

    What another session was shown is never confirmed here: somebody else may have seen it.
    """
    pending = TOTPDevice.objects.devices_for_user(user, confirmed=False)
    own = pending.filter(pk=session.get(ENROLLING)).first()
    if own is None:
        pending.delete()
        own = TOTPDevice.objects.create(user=user, name="app", confirmed=False)
        session[ENROLLING] = own.pk
    return own


def finish_enrolment(user: User, session: SessionBase, code: str) -> TOTPDevice | None:
    """Replace the account's app by the one that is being enrolled, if the code is its own."""
    pending = begin_enrolment(user, session)
    if not TOTP_CODE.match(code) or verify_token(user, pending.persistent_id, code) is None:
        return None
    with transaction.atomic():
        TOTPDevice.objects.devices_for_user(user, confirmed=True).delete()
        TOTPDevice.objects.filter(pk=pending.pk).update(confirmed=True)
        record_about(Kind.ACCOUNT_SECOND_FACTOR_ADDED, user, factor=APP)
    return TOTPDevice.objects.get(pk=pending.pk)


def qr_code(app: TOTPDevice) -> str:
    """Return the QR code for an app, as an SVG element."""
    out = BytesIO()
    qrcode.make(app.config_url, image_factory=qrcode.image.svg.SvgPathImage).save(out)
    return out.getvalue().decode().partition("?>")[2].strip()


def verify_code(user: User, code: str) -> TOTPDevice | StaticDevice | None:
    """Return the app or the set of recovery codes that a code is valid for, or None.

    A recovery code is used up. After each wrong code the next one must wait twice as long.
    """
    device, typed = _device_for(user, code)
    return None if device is None else verify_token(user, device.persistent_id, typed)


def _device_for(user: User, code: str) -> tuple[Any, str]:
    """Return the app, or the set of recovery codes, that a code is for, and what it is told."""
    typed = re.sub(r"[\s-]", "", code).lower()
    if TOTP_CODE.match(typed):
        return totp_device(user), typed
    return recovery_device(user), _digest(typed)


def wait_after(user: User, code: str) -> timedelta:
    """Return how long codes of this kind are refused, right or wrong, after wrong ones."""
    device, _typed = _device_for(user, code)
    return wait_of(device) if device is not None else timedelta()


def wait_of(device: Any) -> timedelta:
    """Return how long codes for an app, or recovery codes, are refused after wrong ones."""
    _allowed, why = device.verify_is_allowed()
    until = (why or {}).get("locked_until")
    return max(timedelta(), until - timezone.now()) if until else timedelta()


def end_waits(user: User) -> bool:
    """Let the account's next code be tried at once; return whether one had to wait."""
    ended = 0
    for model in (TOTPDevice, StaticDevice):
        waiting = model.objects.filter(user=user, throttling_failure_count__gt=0)
        ended += waiting.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    return ended > 0


class CodeBackend(BaseBackend):
    """Verify a code of the account that is signed in, by `django.contrib.auth.authenticate`.

    So wrong codes are counted together with wrong passwords, and lock the account out likewise.
    """

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        code: str | None = None,
        **_credentials: Any,
    ) -> Any:
        """Return the account, with the device in `otp_device`, if the code is valid."""
        user: Any = request.user if request else None
        if user is None or code is None or user.get_username() != username:
            return None
        device = verify_code(user, code)
        if device is None:
            return None
        user.otp_device = device
        return user


def recovery_device(user: User) -> StaticDevice | None:
    return StaticDevice.objects.devices_for_user(user, confirmed=True).first()


def issue_recovery_codes(user: User) -> list[str]:
    """Replace the recovery codes and return the new ones; they exist in clear nowhere else."""
    codes = [
        "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
        for _ in range(RECOVERY_CODES)
    ]
    with transaction.atomic():
        device = recovery_device(user) or StaticDevice.objects.create(
            user=user, name="recovery codes"
        )
        device.token_set.all().delete()
        for code in codes:
            device.token_set.create(token=_digest(code))
        record_about(Kind.ACCOUNT_SECOND_FACTOR_ADDED, user, factor="recovery codes")
    half = CODE_LENGTH // 2
    return [f"{code[:half]}-{code[half:]}" for code in codes]


def _digest(code: str) -> str:
    key = hashlib.sha256(b"authsite.recovery" + settings.SECRET_KEY.encode()).digest()
    return hmac.digest(key, code.encode(), "sha256").hex()[:DIGEST_LENGTH]


def typed_key(app: TOTPDevice) -> str:
    """Return the key of an app as people type it, in groups of four."""
    key = b32encode(app.bin_key).decode()
    return " ".join(key[start : start + 4] for start in range(0, len(key), 4))


def has_codes(user: User) -> bool:
    return totp_device(user) is not None or recovery_device(user) is not None


# --- All factors ----------------------------------------------------------------------------


def passkeys(user: User) -> Any:
    """Return the account's passkeys, the last used one first."""
    return WebAuthnCredential.objects.filter(user=user).order_by("-last_used_at", "-pk")


def remove(user: User, factor: str) -> bool:
    """Remove the account's app (`app`), or the passkey of that number; return whether it was there.

    Recovery codes are removed with the last of the others.
    """
    with transaction.atomic():
        gone: Any = passkeys(user).none()
        if factor == APP:
            gone = TOTPDevice.objects.filter(user=user)
        elif factor.isascii() and factor.isdigit() and len(factor) <= MAX_DIGITS:
            gone = passkeys(user).filter(pk=int(factor))
        was_there = bool(gone.delete()[0])
        if was_there:
            said = factor if factor == APP else PASSKEY
            record_about(Kind.ACCOUNT_SECOND_FACTOR_REMOVED, user, factor=said)
        if totp_device(user) is None and not passkeys(user).exists():
            StaticDevice.objects.filter(user=user).delete()
    return was_there


def remove_all(user: User) -> int:
    """Remove every second factor of an account; return how many there were."""
    gone = 0
    with transaction.atomic():
        for model in FACTORS:
            rows = model.objects.filter(user=user)
            gone += rows.count()
            rows.delete()
        if gone:
            record_about(Kind.ACCOUNT_SECOND_FACTOR_REMOVED, user, factor="all")
    return gone


def relying_party(request: HttpRequest) -> str:
    """Return the domain that passkeys belong to: the host of the request."""
    return request.get_host().partition(":")[0]
