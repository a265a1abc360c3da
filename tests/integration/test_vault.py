"""Secrets at rest: sealed, bound to their webhook, useless without the key."""

from __future__ import annotations

import base64
import re
import threading
from pathlib import Path

import pytest

from dispatcher.config import Config, Secrets
from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.errors import OperatorError
from dispatcher.store.connection import Database as Store
from dispatcher.store.installation import Installation
from dispatcher.store.vault import KEY_BYTES, Vault, configured_vault, decode_key
from tests.postgres import Database

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw — é🌋"
MINE, THEIRS = Vault(bytes(KEY_BYTES)), Vault(b"\x01" * KEY_BYTES)


def test_secret_comes_back() -> None:
    """What was sealed for a webhook is opened for it, and looks different each time."""
    sealed = [MINE.seal(SECRET, "whk_1") for _ in range(2)]
    assert [SECRET, SECRET] == [MINE.open(one, "whk_1") for one in sealed]
    assert sealed[0] != sealed[1]
    assert not any(SECRET.encode()[:8] in one for one in sealed)


def test_sealed_secret_is_bound() -> None:
    """Under another key, for another webhook, cut or changed by one bit it does not open."""
    sealed = MINE.seal(SECRET, "whk_1")
    for vault, text, webhook in [
        (THEIRS, sealed, "whk_1"),
        (MINE, sealed, "whk_2"),
        (MINE, sealed[:-1], "whk_1"),
        (MINE, sealed[:-1] + bytes([sealed[-1] ^ 1]), "whk_1"),
        (MINE, b"\x02" + sealed[1:], "whk_1"),
        (MINE, b"", "whk_1"),
    ]:
        with pytest.raises(OperatorError, match=webhook):
            vault.open(text, webhook)


def test_headers_are_sealed_apart() -> None:
    """A webhook's headers are not taken for its secret, nor its secret for headers."""
    headers = {"Authorization": "Bearer é", "X-A": ""}
    sealed = MINE.seal_headers(headers, "whk_1")
    assert sealed is not None
    assert headers == MINE.open_headers(sealed, "whk_1")
    assert (None, {}) == (MINE.seal_headers({}, "whk_1"), MINE.open_headers(None, "whk_1"))
    with pytest.raises(OperatorError):
        MINE.open(sealed, "whk_1")
    with pytest.raises(OperatorError):
        MINE.open_headers(MINE.seal(SECRET, "whk_1"), "whk_1")


def test_a_vault_does_not_show_its_key() -> None:
    """Neither by its name in a traceback nor by the check that the database keeps."""
    vault = Vault(b"k" * KEY_BYTES)
    assert "kkk" not in repr(vault)
    assert b"k" * KEY_BYTES not in vault.key_check
    assert (32, False) == (len(vault.key_check), vault.key_check == MINE.key_check)


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(bytes(31)).decode(), "!" * 44, "é" * 44])
def test_configured_key_has_its_form(text: str) -> None:
    """32 bytes in base64, or the operator hears how to make one."""
    with pytest.raises(OperatorError, match=re.escape("openssl rand -base64 32")):
        decode_key(text)


def test_key_is_made_once(tmp_path: Path) -> None:
    """Without a configured key: readable by its owner alone, the same from then on."""
    data_dir = tmp_path / "var"
    config = Config(data_dir=str(data_dir))
    sealed = configured_vault(config).seal(SECRET, "whk_1")
    path = data_dir / "encryption.key"
    assert (0o600, 0o700) == (path.stat().st_mode & 0o777, data_dir.stat().st_mode & 0o777)
    assert SECRET == configured_vault(config).open(sealed, "whk_1")
    configured = Config(data_dir="elsewhere", secrets=Secrets(encryption_key=path.read_text("ascii")))
    assert SECRET == configured_vault(configured).open(sealed, "whk_1")
    assert [path] == list(data_dir.iterdir())


def test_a_place_that_cannot_hold_the_key_is_the_operators(tmp_path: Path) -> None:
    """A `data_dir` that is a file, or lies in one, is named with what can be done about it."""
    file = tmp_path / "file"
    file.touch()
    for data_dir in (file, file / "var"):
        with pytest.raises(OperatorError, match=rf"^data_dir: .* in {data_dir}: .*secrets\.encryption_key$"):
            configured_vault(Config(data_dir=str(data_dir)))


def test_key_is_made_by_one_of_several(tmp_path: Path) -> None:
    """Whoever comes at the same time gets the same key."""
    checks: list[bytes] = []
    start = threading.Barrier(8)

    def come() -> None:
        start.wait()
        checks.append(configured_vault(Config(data_dir=str(tmp_path / "var"))).key_check)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (8, 1) == (len(checks), len(set(checks)))


async def test_database_remembers_its_key(database: Database) -> None:
    """The first key is adopted; another one is refused before it seals anything."""
    store = Store(database.url, DatabaseConfig())
    try:
        first = await Installation.load(store, MINE)
        assert first == await Installation.load(store, MINE)
        assert 16 == len(first.id_key)
        with pytest.raises(OperatorError, match=r"secrets\.encryption_key is not the key"):
            await Installation.load(store, THEIRS)
    finally:
        await store.close()
