"""The second factor of staff: codes of an app, passkeys, recovery codes; whether it is satisfied.

TOTP codes and passkeys are django-otp's and django-otp-webauthn's. Recovery codes are kept by
django-otp's static device as keyed digests: they exist in clear only on the page that shows them.
"""

import re
import secrets
from base64 import b32encode
from enum import StrEnum
from io import BytesIO
from typing import Any

import qrcode
import qrcode.image.svg
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from django_otp import user_has_device, verify_token
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_otp_webauthn.models import WebAuthnCredential

NOT_ENROLLED = "second_factor_not_enrolled"  # in a session: the account had none at its login
RECOVERY_CODES = 10
CODE_LENGTH = 10  # of 31 characters: 49 bits
CODE_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # none that is taken for another
DIGEST_LENGTH = 16  # the width of django-otp's column: 64 bits
TOTP_CODE = re.compile(r"\d{6}\Z", re.ASCII)


class Demand(StrEnum):
    """What STAFF_SECOND_FACTOR says."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


def demand() -> Demand:
    """Return what is demanded of staff."""
    return Demand(settings.STAFF_SECOND_FACTOR)


def is_satisfied(request: HttpRequest) -> bool:
    """Whether the session may use the admin as far as the second factor goes.

    Who has one gives it, whether it is required or not. Without one, the answer is looked up
    once in a session.
    """
    user: Any = request.user
    if demand() is Demand.OFF or user.is_verified():
        return True
    if demand() is Demand.REQUIRED:
        return False
    if NOT_ENROLLED not in request.session:
        if user_has_device(user):
            return False
        request.session[NOT_ENROLLED] = True
    return True


def must_be_given(user: User) -> bool:
    """Whether the account has a second factor to give."""
    return demand() is not Demand.OFF and user_has_device(user)


# --- Codes ----------------------------------------------------------------------------------


def app_of(user: User) -> TOTPDevice | None:
    """Return the account's app that makes codes."""
    return TOTPDevice.objects.devices_for_user(user, confirmed=True).first()


def begin_enrolment(user: User) -> TOTPDevice:
    """Return the account's app that is being enrolled: one that no code has confirmed yet."""
    pending = TOTPDevice.objects.devices_for_user(user, confirmed=False).first()
    return pending or TOTPDevice.objects.create(user=user, name="app", confirmed=False)


def finish_enrolment(user: User, code: str) -> TOTPDevice | None:
    """Put the app that is being enrolled in place of the one before, if the code is its own."""
    pending = begin_enrolment(user)
    if not TOTP_CODE.match(code) or verify_token(user, pending.persistent_id, code) is None:
        return None
    with transaction.atomic():
        TOTPDevice.objects.devices_for_user(user, confirmed=True).delete()
        TOTPDevice.objects.filter(pk=pending.pk).update(confirmed=True)
    return TOTPDevice.objects.get(pk=pending.pk)


def drawing_of(app: TOTPDevice) -> str:
    """Return the QR code that an app reads, as an SVG element."""
    out = BytesIO()
    qrcode.make(app.config_url, image_factory=qrcode.image.svg.SvgPathImage).save(out)
    return out.getvalue().decode().partition("?>")[2].strip()


def accept(user: User, code: str) -> TOTPDevice | StaticDevice | None:
    """Return what accepts a code: the app, or the recovery codes, which lose it; else None.

    Wrong codes make the next ones wait, each twice as long as the one before.
    """
    typed = re.sub(r"[\s-]", "", code).lower()
    device: Any = app_of(user)
    if not TOTP_CODE.match(typed):
        device, typed = recovery_of(user), _digest(typed)
    return None if device is None else verify_token(user, device.persistent_id, typed)


def recovery_of(user: User) -> StaticDevice | None:
    """Return what holds the account's recovery codes."""
    return StaticDevice.objects.devices_for_user(user, confirmed=True).first()


def issue_recovery_codes(user: User) -> list[str]:
    """Return new recovery codes in place of the old ones; they exist in clear nowhere else."""
    codes = [
        "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
        for _ in range(RECOVERY_CODES)
    ]
    with transaction.atomic():
        device = recovery_of(user) or StaticDevice.objects.create(user=user, name="recovery codes")
        device.token_set.all().delete()
        for code in codes:
            device.token_set.create(token=_digest(code))
    half = CODE_LENGTH // 2
    return [f"{code[:half]}-{code[half:]}" for code in codes]


def _digest(code: str) -> str:
    return salted_hmac("authsite.recovery", code, algorithm="sha256").hexdigest()[:DIGEST_LENGTH]


def key_of(app: TOTPDevice) -> str:
    """Return the key of an app as people type it, in groups of four."""
    key = b32encode(app.bin_key).decode()
    return " ".join(key[start : start + 4] for start in range(0, len(key), 4))


def has_codes(user: User) -> bool:
    """Whether there is a code that the account could give."""
    return app_of(user) is not None or recovery_of(user) is not None


# --- All of it ------------------------------------------------------------------------------


def passkeys_of(user: User) -> Any:
    """Return the account's passkeys, those used last first."""
    return WebAuthnCredential.objects.filter(user=user).order_by("-last_used_at", "-pk")


def remove(user: User, factor: str) -> None:
    """Remove the account's app (`app`), or the passkey of that number.

    Recovery codes recover something: they go with the last of the others.
    """
    with transaction.atomic():
        if factor == "app":
            TOTPDevice.objects.filter(user=user).delete()
        elif factor.isascii() and factor.isdigit():
            passkeys_of(user).filter(pk=int(factor)).delete()
        if app_of(user) is None and not passkeys_of(user).exists():
            StaticDevice.objects.filter(user=user).delete()


def forget(user: User) -> int:
    """Take every second factor off an account; return how many there were."""
    gone = 0
    with transaction.atomic():
        for model in (TOTPDevice, StaticDevice, WebAuthnCredential):
            rows = model.objects.filter(user=user)
            gone += rows.count()
            rows.delete()
    return gone


def relying_party(request: HttpRequest) -> str:
    """Return the domain that passkeys are made for: the host that the browser asked."""
    return request.get_host().partition(":")[0]
