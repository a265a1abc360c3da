"""Completion: the script that is printed, run by bash itself."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from dispatcher.cli import main
from dispatcher.tools.arguments import parser
from dispatcher.tools.completion import SHELLS, describe


def printed(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Give the script for a shell."""
    assert 0 == main(["completion", shell])
    return capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("dispatcher ve", {"verify"}),
        ("dispatcher --config x.toml or", {"org"}),
        ("dispatcher org ", {"create", "list", "--config", "--help"}),
        ("dispatcher key create --sc", {"--scope"}),
        ("dispatcher key create --scope w", {"write:webhooks"}),
        ("dispatcher key create --name x --scope ad", {"admin"}),
        ("dispatcher completion ", {*SHELLS, "--config", "--help"}),
        ("dispatcher history --fo", {"--follow"}),
        ("dispatcher key create --name ", set[str]()),
    ],
)
def test_bash_offers_what_fits(line: str, offered: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    """After a command its own words, after an option its choices; `--config` may stand anywhere."""
    words = line.split(" ")
    array = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; _dispatcher"
    ask += "; printf '%s\\n' \"${COMPREPLY[@]-}\""
    ran = subprocess.run(
        ["bash", "-u", "-c", f"{printed('bash', capsys)}\n{ask}"], capture_output=True, text=True, check=False
    )
    assert (0, "") == (ran.returncode, ran.stderr)
    assert offered == set(ran.stdout.split())


def test_every_shell_knows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The parser is walked whole: groups, commands, options, choices."""
    commands = {one.path: one for one in describe(parser())}
    assert {"", "serve", "org create", "event-type add", "completion"} <= set(commands)
    assert "--priority" in {option.name for option in commands["event-type add"].options}
    for shell in SHELLS:
        script = printed(shell, capsys)
        for path, command in commands.items():
            assert path.split()[-1:] == [word for word in path.split()[-1:] if word in script]
            assert [] == [one.name for one in command.options if one.name.removeprefix("--") not in script]
