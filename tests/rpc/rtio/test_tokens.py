"""Keys for tokens, and tokens that RTIO takes."""

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.exceptions import ImproperlyConfigured

from authsite import readers
from authsite.env import Environment
from rpc.rtio import tokens
from tests.support.commands import answer, run
from tests.support.rtio_simulator import RtioError, check_token

pytestmark = pytest.mark.once(on="sqlite")

IDENTIFIER = "cfa09baa-4913-4ad7-a936-2e26f9671b05"


def made(*words: str) -> dict[str, Any]:
    return answer("make_jwt_key", *words)


@pytest.fixture
def pair(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    pair = made("--id", "2026a")
    monkeypatch.setenv("JWT_SIGNING_KEYS", pair["setting"])
    env = Environment(tmp_path / "no.env")
    settings.JWT_SIGNING_KEYS = env.read("JWT_SIGNING_KEYS", readers.signing_keys)
    return pair


def test_token_is_what_rtio_takes(pair: dict[str, Any]) -> None:
    token = tokens.issue(IDENTIFIER, 60, key="2026a")
    claims = check_token(token, pair["public"], IDENTIFIER)
    assert set(claims) == {"iss", "sub", "iat", "exp", "jti"}
    assert claims["iss"] == "rtio"
    assert claims["exp"] - claims["iat"] == 60
    with pytest.raises(RtioError, match="another device"):
        check_token(token, pair["public"], "other")
    with pytest.raises(RtioError, match="signature"):
        check_token(token, made()["public"], IDENTIFIER)


def test_token_lives_as_long_as_is_configured_at_most(pair: dict[str, Any], settings: Any) -> None:
    settings.JWT_MAX_SECONDS = 100
    token = tokens.issue(IDENTIFIER, tokens.MAX_SECONDS, key="2026a", now=time.time() - 150)
    with pytest.raises(RtioError, match="expired"):
        check_token(token, pair["public"], IDENTIFIER)


def test_token_costs_less_than_a_millisecond(pair: dict[str, Any]) -> None:
    tokens.issue(IDENTIFIER, 60, key="2026a")
    started = time.thread_time()
    for _ in range(200):
        tokens.issue(IDENTIFIER, 60, key="2026a")
    assert (time.thread_time() - started) / 200 < 0.001


@pytest.mark.parametrize(
    "text", ["x", "x:", "x:AAAA", "id with space:AAAA", "x:!!", "x:" + "A" * 64]
)
def test_setting_that_is_no_key_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    monkeypatch.setenv("X_KEYS", text)
    with pytest.raises(ImproperlyConfigured, match="make_jwt_key"):
        Environment(tmp_path / "no.env").read("X_KEYS", readers.signing_keys)


def test_setting_may_hold_two_keys_of_different_ids(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = made("--id", "b")["setting"], made("--id", "a")["setting"]
    monkeypatch.setenv("X_KEYS", f"{first},{second}")
    assert list(Environment(tmp_path / "no.env").read("X_KEYS", readers.signing_keys)) == ["b", "a"]
    monkeypatch.setenv("X_KEYS", f"{first},{first}")
    with pytest.raises(ImproperlyConfigured, match="twice"):
        Environment(tmp_path / "no.env").read("X_KEYS", readers.signing_keys)


@pytest.mark.parametrize(
    "key_id", ["a:b", "a,b", "", " a", "ä", "-a", "a" * 33, "a\n", "a", "1.2_3-"]
)
def test_id_of_a_key_is_one_that_the_setting_takes(
    key_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("X_KEYS", tokens.setting(key_id, Ed25519PrivateKey.generate()))
    env = Environment(tmp_path / "no.env")
    try:
        taken = list(env.read("X_KEYS", readers.signing_keys)) == [key_id]
    except ImproperlyConfigured:
        taken = False
    if taken:
        assert made(f"--id={key_id}")["id"] == key_id
    else:
        assert "no id" in run("make_jwt_key", f"--id={key_id}", code=1)[1]


def test_key_that_openssl_makes_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The line between BEGIN and END of its file is the setting."""
    line = tokens.setting("x", Ed25519PrivateKey.generate())
    assert line.startswith("x:MC4CAQAwBQYDK2VwBCIEI")
    assert "\n" not in line


def test_private_half_goes_to_a_new_file_and_is_not_printed(tmp_path: Path) -> None:
    path = tmp_path / "jwt.key"
    assert "setting" not in made("--private", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().count(":") == 1
    assert "cannot be written" in run("make_jwt_key", "--private", str(path), code=2)[1]


def test_public_halves_in_use_are_shown(pair: dict[str, Any], settings: Any) -> None:
    assert made("--show") == {"keys": {"2026a": pair["public"]}}
    settings.JWT_SIGNING_KEYS = {}
    assert "/jwtissuer is off" in run("make_jwt_key", "--show")[0]
