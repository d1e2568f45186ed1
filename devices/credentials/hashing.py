"""How secrets become digests, and how a presented secret is held against one.

Two kinds (docs/credentials.md): *generated* secrets have at least 128 bits of entropy, and a keyed
hash is all they need (microseconds). *Chosen* or imported ones may be weak and get Argon2id, a
memory-hard hash with a bounded cost. Both are keyed with a pepper from the environment, so that a
stolen database alone verifies nothing and guesses nothing.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection, Mapping
from functools import cache

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from django.conf import settings
from django.contrib.auth.password_validation import (
    CommonPasswordValidator,
    NumericPasswordValidator,
)
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from devices.values.text import unstorable_in

GENERATED_BYTES = 24  # 192 bits; 32 characters, which RTIO's own limits of 24 to 64 bytes admit
MIN_LENGTH, MAX_LENGTH = 3, 128  # characters; the RTIO specification's `devicesecret`
RANDOM_SHORTEST, RANDOM_DISTINCT = 22, 8  # 128 bits in base64; repetition is no randomness
CHOSEN_ADVISABLE, CHOSEN_DISTINCT = 16, 6
HMAC_CONTEXT = b"authsite pre-shared key v1\x00"
CHECK_CONTEXT = b"authsite check of a pepper v1\x00"

# Argon2id, RFC 9106: one lane, so that a check holds one core; measured in docs/performance.md.
ARGON2_MEMORY_KIB = 32 * 1024
ARGON2_ITERATIONS = 2
ARGON2_LANES = 1
ARGON2_SALT_BYTES = 16
ARGON2_HASH_BYTES = 32
ARGON2_PREFIX = f"$argon2id$v=19$m={ARGON2_MEMORY_KIB},t={ARGON2_ITERATIONS},p={ARGON2_LANES}$"
# A salt of 16 bytes and a hash of 32, in base64 without padding: bits that are left over are 0.
ARGON2_PHC = re.compile(
    r"\$argon2id\$v=19\$m=([1-9]\d{0,6}),t=([1-9]\d?),p=([1-9])"
    r"\$[A-Za-z0-9+/]{21}[AQgw]\$[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]",
    re.ASCII,
)


class Scheme(models.TextChoices):
    """How a digest was made. The scheme tells the kind of secret, too."""

    HMAC_SHA256 = "hmac-sha256", _("generated (HMAC-SHA256)")
    ARGON2ID = "argon2id", _("chosen or imported (Argon2id)")


def generate() -> str:
    """Return a new random secret of 192 bits, 32 URL-safe characters long.

    None begins with a dash, which a command line takes for an option, a spreadsheet for a formula.
    """
    while (secret := secrets.token_urlsafe(GENERATED_BYTES)).startswith("-"):
        pass
    return secret


def encoded(secret: str) -> bytes:
    """Return the bytes that are compared: UTF-8, white space and all.

    A lone surrogate is no character; it passes through in a form that no stored secret can have.
    """
    return secret.encode("utf-8", "surrogatepass")


def peppers() -> Mapping[str, bytes]:
    """Return the configured peppers by id, newest first."""
    configured: Mapping[str, bytes] = settings.PEPPERS
    return configured


def newest_pepper() -> str:
    """Return the id of the pepper that new digests are made with."""
    return next(iter(peppers()))


def check_of(pepper: bytes) -> str:
    """Return 16 hexadecimal digits that tell one pepper from another and do not reveal it."""
    return hmac.digest(pepper, CHECK_CONTEXT, hashlib.sha256)[:8].hex()


def hmac_digest(secret: str, pepper: bytes) -> str:
    """Return the digest of a generated secret, in hexadecimal (64 characters)."""
    return hmac.digest(pepper, HMAC_CONTEXT + encoded(secret), hashlib.sha256).hex()


def hmac_digests(secret: str, wanted: Collection[str]) -> dict[str, str]:
    """Return a generated secret's digests by the ids of configured peppers, the newest one first.

    The newest one is always made: a secret of an unknown device costs what one of a known does.
    """
    configured = peppers()
    newest = next(iter(configured))
    made = {newest: hmac_digest(secret, configured[newest])}
    for name in wanted:
        if name != newest and name in configured:
            made[name] = hmac_digest(secret, configured[name])
    return made


def _argon2(salt: bytes, pepper: bytes) -> Argon2id:
    """Return the hash at today's cost."""
    return Argon2id(
        salt=salt,
        length=ARGON2_HASH_BYTES,
        iterations=ARGON2_ITERATIONS,
        lanes=ARGON2_LANES,
        memory_cost=ARGON2_MEMORY_KIB,
        secret=pepper,
    )


def argon2_digest(secret: str, pepper: bytes) -> str:
    """Return the digest of a chosen secret in PHC form, with today's cost and a new salt."""
    return _argon2(os.urandom(ARGON2_SALT_BYTES), pepper).derive_phc_encoded(encoded(secret))


def argon2_matches(secret: str, digest: str, pepper: bytes) -> bool:
    """Whether a secret is the one that a PHC digest was made of; as costly as making it."""
    try:
        Argon2id.verify_phc_encoded(encoded(secret), digest, secret=pepper)
    except InvalidKey:
        return False
    return True


def matches(secret: str, scheme: str, stored: str, pepper: bytes) -> bool:
    """Whether a secret is the one that a digest was made of by the scheme."""
    if scheme == Scheme.HMAC_SHA256:
        return hmac.compare_digest(hmac_digest(secret, pepper), stored)
    return argon2_matches(secret, stored, pepper)


def digest(secret: str, scheme: str) -> tuple[str, str]:
    """Return the id of the newest pepper, and the digest of a secret with it by the scheme."""
    pepper = newest_pepper()
    make = hmac_digest if scheme == Scheme.HMAC_SHA256 else argon2_digest
    return pepper, make(secret, peppers()[pepper])


def is_current(stored: str, scheme: str) -> bool:
    """Whether a digest was made at today's cost."""
    return scheme == Scheme.HMAC_SHA256 or stored.startswith(ARGON2_PREFIX)


def is_hashed(text: str) -> bool:
    """Whether a text claims to be a secret that was hashed already; `parse_hashed` reads it."""
    return text.startswith(("$argon2", *(f"{scheme}$" for scheme in Scheme)))


def parse_hashed(text: str) -> tuple[Scheme, str, str]:
    """Return scheme, pepper id and digest of a secret that was hashed already.

    `hmac-sha256$PEPPER$DIGEST` in hexadecimal, or `argon2id$PEPPER$v=19$m=…,t=…,p=…$SALT$HASH`,
    the PHC form with the pepper's id in it. Raises ValidationError where it is neither, where
    the pepper is not configured, and where a check would cost more than today's.
    """
    scheme, _dollar, rest = text.partition("$")
    pepper, _dollar, stored = rest.partition("$")
    if scheme == Scheme.HMAC_SHA256:
        known = re.fullmatch(r"[0-9a-f]{64}", stored) is not None
    else:
        stored = f"${Scheme.ARGON2ID}${stored}"
        known = scheme == Scheme.ARGON2ID and _is_affordable(stored)
    if not known:
        raise ValidationError(
            _(
                "This is no hashed secret: write hmac-sha256$PEPPER$ and 64 hexadecimal digits in "
                "lower case, or argon2id$PEPPER$v=19$m=…,t=…,p=…$SALT$HASH at today's cost or less."
            ),
            code="hashed",
        )
    if pepper not in peppers():
        raise ValidationError(
            _("The secret was hashed with the pepper “%(pepper)s”, which is not configured here."),
            code="pepper",
            params={"pepper": pepper[:32]},
        )
    return Scheme(scheme), pepper, stored


def _is_affordable(phc: str) -> bool:
    match = ARGON2_PHC.fullmatch(phc)
    if match is None:
        return False
    memory, iterations, lanes = (int(number) for number in match.groups())
    return (
        8 * lanes <= memory <= ARGON2_MEMORY_KIB
        and 1 <= iterations <= ARGON2_ITERATIONS
        and lanes == ARGON2_LANES
    )


def dummy_hash(secret: str) -> None:
    """Hash a secret in vain: an unknown device must not be answered faster than a known one."""
    _argon2(bytes(ARGON2_SALT_BYTES), peppers()[newest_pepper()]).derive(encoded(secret))


def check_usable(secret: str, *, random: bool = False) -> None:
    """Raise ValidationError where no device could ever present the secret, or it is none.

    The limits are the RTIO specification's, 3 to 128 characters; `random` secrets, which are
    stored like generated ones, must be long enough to hold 128 bits.
    """
    if not MIN_LENGTH <= len(secret) <= MAX_LENGTH:
        raise ValidationError(
            _("A secret has %(shortest)d to %(longest)d characters.")
            % {"shortest": MIN_LENGTH, "longest": MAX_LENGTH},
            code="length",
        )
    if unstorable_in(secret) is not None:
        raise ValidationError(_("A secret is made of ordinary characters."), code="characters")
    if is_hashed(secret):
        raise ValidationError(
            _("This secret was hashed already: only a file, or devices/bulk-create, brings it in."),
            code="hashed",
        )
    if random and (len(secret) < RANDOM_SHORTEST or len(set(secret)) < RANDOM_DISTINCT):
        raise ValidationError(
            _("This is not long or varied enough to be 128 random bits; register it as chosen."),
            code="not-random",
        )


_common_passwords = cache(CommonPasswordValidator)


def weakness(secret: str, *, identifier: str = "") -> str:
    """Return what makes a chosen secret easy to guess, in words; "" where nothing does."""
    if len(secret) < CHOSEN_ADVISABLE:
        return str(
            _("It is shorter than %(advisable)d characters; a generated secret is safer.")
            % {"advisable": CHOSEN_ADVISABLE}
        )
    if identifier and (secret in identifier or identifier in secret):
        return str(_("It repeats the identifier, which is no secret."))
    try:
        _common_passwords().validate(secret)
        NumericPasswordValidator().validate(secret)
    except ValidationError:
        return str(_("It is among the first that are guessed; a generated secret is safer."))
    if len(set(secret)) < CHOSEN_DISTINCT:
        return str(_("It repeats the same few characters; a generated secret is safer."))
    return ""
