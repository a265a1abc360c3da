"""Completion in zsh and fish, by the shells themselves, where they are here."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final

import pytest

from dispatcher.cli import main
from dispatcher.tools.completion import SHELLS

if TYPE_CHECKING:
    from pathlib import Path

WITHIN_S: Final = 60.0


@pytest.fixture
def script(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Write the script for a shell into a file."""
    shell: str = request.param
    assert 0 == main(["completion", shell])
    path = tmp_path / f"dispatcher.{shell}"
    path.write_text(capsys.readouterr().out, "utf-8")
    return path


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_offers_what_fits(script: Path, tmp_path: Path) -> None:
    """After a command its own words, after an option its choices; `--config` may stand anywhere."""
    expected = {
        "dispatcher ve": {"verify"},
        "dispatcher --config x.toml or": {"org"},
        "dispatcher org ": {"create", "list"},
        "dispatcher org create --n": {"--network"},
        "dispatcher key create --sc": {"--scope"},
        "dispatcher key create --scope w": {"write:webhooks"},
        "dispatcher key create --name x --scope ad": {"admin"},
        "dispatcher completion ": set(SHELLS),
        "dispatcher history --fo": {"--follow"},
        "dispatcher emit --format ": {"rows", "geojson", "quakeml"},
    }
    asked = "\n".join(f"complete -C '{line}'; echo ---" for line in expected)
    ran = subprocess.run(
        ["fish", "--no-config", "-c", f"source {script}\n{asked}"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )
    assert (0, "") == (ran.returncode, ran.stderr)
    offered = [
        {line.partition("\t")[0] for line in part.splitlines() if line}
        for part in ran.stdout.split("---\n")[:-1]
    ]
    assert expected == dict(zip(expected, offered, strict=True))


class _Terminal:
    """A zsh at a terminal, where a key completes; elsewhere it does not."""

    def __init__(self, home: Path) -> None:
        self._seen = ""
        self._descriptor, theirs = pty.openpty()
        self._shell = subprocess.Popen(
            ["zsh", "-f", "-i", "+m"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=home,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        os.close(theirs)

    def run(self, keys: str, until: str) -> str:
        """Type keys and give what is shown until a pattern is."""
        os.write(self._descriptor, keys.encode())
        deadline = time.monotonic() + WITHIN_S
        while (found := re.search(until, self._seen)) is None:
            left_s = deadline - time.monotonic()
            ready, _, _ = select.select([self._descriptor], [], [], max(0, left_s))
            assert ready, f"waited for {until!r}: {self._seen!r}"
            self._seen += os.read(self._descriptor, 4096).decode(errors="replace")
        self._seen = self._seen[found.end() :]
        return found[1] if found.groups() else found[0]

    def close(self) -> None:
        """End the shell."""
        self._shell.kill()
        self._shell.wait()
        os.close(self._descriptor)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_completes_at_the_tab_key(script: Path, tmp_path: Path) -> None:
    """A word that fits alone is completed, commands, options and choices with a colon in them."""
    expected = {
        "dispatcher ve\t": "verify",
        "dispatcher --config x.toml or\t": "--config x.toml org",
        "dispatcher org li\t": "org list",
        "dispatcher key create --sc\t": "key create --scope",
        "dispatcher key create --scope w\t": "key create --scope write:webhooks",
        "dispatcher key create --name x --scope ad\t": "key create --name x --scope admin",
        "dispatcher completion z\t": "completion zsh",
        "dispatcher history --fo\t": "history --follow",
    }
    terminal = _Terminal(tmp_path)
    try:
        # What is typed is shown too: only what is run says "started" or "ran" without the quotes.
        prepare = f"PS1=; autoload -Uz compinit; compinit -u -D; source {script}"
        terminal.run(f'{prepare}; dispatcher() {{ echo "r"an: $@; }}; echo "st"arted\n', "started")
        ran = {line: terminal.run(f"{line}\n", r"ran: ([^\r\n]*)").strip() for line in expected}
    finally:
        terminal.close()
    assert expected == ran
