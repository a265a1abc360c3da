"""What needs no world: words, advice, and what the machine grants."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from dispatcher.config import Config, Database, Delivery, Secrets
from dispatcher.core.outcome import ErrorClass
from dispatcher.diagnosis.advice import BY_CLASS, advice_for
from dispatcher.diagnosis.deliveries import judge_deliveries, judge_speed
from dispatcher.diagnosis.finding import any_failed, fail, ok, short_time, skipped, warn, words
from dispatcher.diagnosis.machine import examine_disk, examine_files
from dispatcher.diagnosis.secrecy import examine_key, key_state
from dispatcher.store.vault import Vault, open_vault

KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY="


def test_a_sentence_keeps_its_values_apart() -> None:
    """So that it can be translated; a brace in a value stays what it is."""
    sentence = words("{host} leads to {address}", host="{x}", address=1)
    assert ("{host} leads to {address}", "{x} leads to 1") == (sentence.template, str(sentence))


def test_only_a_failure_fails() -> None:
    """Warnings and checks that were skipped do not."""
    well = [ok("a", words("")), warn("b", words(""), words("")), skipped("c", words(""))]
    assert not any_failed(well)
    assert any_failed([*well, fail("d", words(""), words(""))])


@pytest.mark.parametrize("error", ErrorClass)
def test_every_error_class_has_advice(error: ErrorClass) -> None:
    """A new one is not forgotten."""
    assert str(BY_CLASS[error])
    assert BY_CLASS[error] == advice_for(error, None)


def test_some_statuses_say_more_than_their_class() -> None:
    """401 is nearly always the signature."""
    assert "secret" in str(advice_for("client_error", 401))
    assert BY_CLASS[ErrorClass.CLIENT_ERROR] == advice_for("client_error", 418)
    assert str(advice_for(None, None))


def test_nothing_is_judged_by_deliveries_that_are_not_there() -> None:
    """A new webhook is not ill."""
    assert ["skipped", "skipped"] == [judge_deliveries([]).verdict, judge_speed([]).verdict]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0004, "0.4 ms"), (0.25, "250 ms"), (6, "6000 ms"), (90, "90 s")]
)
def test_times_are_short(seconds: float, text: str) -> None:
    """For a line in a list."""
    assert text == short_time(seconds)


def test_the_file_limit_is_compared_with_what_requests_need() -> None:
    """The hard limit, which a daemon raises its own to."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert "ok" == examine_files(Config(delivery=Delivery(max_in_flight=16))).verdict
    if hard != resource.RLIM_INFINITY:
        assert "fail" == examine_files(Config(delivery=Delivery(max_in_flight=hard))).verdict


def test_the_disk_is_looked_at_where_the_embedded_server_will_be(tmp_path: Path) -> None:
    """Although the directory does not exist yet; another server's disk is not ours to see."""
    assert "GiB are free" in str(examine_disk(Config(data_dir=str(tmp_path / "not" / "yet"))).found)
    assert "skipped" == examine_disk(Config(database=Database(url="postgresql://x@y/z"))).verdict


def test_the_encryption_key(tmp_path: Path) -> None:
    """None is made by looking; another one is a failure; a file that others may read a warning."""
    config = Config(data_dir=str(tmp_path / "var"))
    assert ("none here", "skipped") == (key_state(config, b"x"), examine_key(config, b"x").verdict)
    assert not (tmp_path / "var").exists()
    mine = open_vault("", tmp_path / "var").key_check
    assert ("matches", "differs") == (key_state(config, mine), key_state(config, Vault(bytes(32)).key_check))
    assert "Keep a copy" in str(examine_key(config, mine).advice)
    (tmp_path / "var" / "encryption.key").chmod(0o644)
    assert "can be read by others" in str(examine_key(config, mine).found)
    configured = Config(secrets=Secrets(encryption_key=KEY))
    assert ("not used yet", "ok") == (key_state(configured, None), examine_key(configured, None).verdict)
    assert "fail" == examine_key(configured, mine).verdict
