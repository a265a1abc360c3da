"""`make setup`, as on a machine that sees the project for the first time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".venv*", ".git", "var", "node_modules", ".*_cache", ".hypothesis", "__pycache__"
)


def make(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one of the Makefile's commands in a copy of the project."""
    given = [f"{name}={value}" for name, value in variables.items()]
    environ = {
        name: value for name, value in os.environ.items() if name not in {"VENV", "PYTHON", "MAKEFLAGS"}
    }
    return subprocess.run(
        ["make", "--no-print-directory", command, *given],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy the project, as a clone would."""
    return Path(shutil.copytree(ROOT, tmp_path / "clone with space", ignore=LEFT_OUT))


@pytest.mark.slow
def test_setup_makes_the_command_once(checkout: Path) -> None:
    """The second time nothing is left to do; a changed lock makes it work again."""
    first = make("setup", checkout, PYTHON=sys.executable)
    assert 0 == first.returncode, first.stdout + first.stderr
    command = checkout / ".venv" / "bin" / "dispatcher"
    shown = subprocess.run([command, "--help"], cwd=checkout, capture_output=True, text=True, check=False)
    assert (0, True) == (shown.returncode, "serve" in shown.stdout), shown.stderr

    again = make("setup", checkout)
    assert (0, "", "") == (again.returncode, again.stdout, again.stderr)
    (checkout / "requirements.lock").touch()
    assert "Installing requirements.lock into .venv" in make("setup", checkout).stdout


def test_setup_refuses_an_interpreter_that_cannot_make_environments(checkout: Path) -> None:
    """Debian's python3 comes without venv, and the message names the package to install."""
    crippled = checkout / "python"
    crippled.write_text(
        f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec "{sys.executable}" "$@"\n', "utf-8"
    )
    crippled.chmod(0o755)
    refused = make("setup", checkout, PYTHON="./python")
    assert 0 != refused.returncode
    assert "apt install python3-venv" in refused.stderr
    assert not (checkout / ".venv").exists()


def test_setup_refuses_an_interpreter_that_is_too_old(checkout: Path) -> None:
    """Anything that is not Python 3.11 or newer, with the name that was given."""
    refused = make("setup", checkout, PYTHON="/bin/false")
    assert 0 != refused.returncode
    assert "PYTHON=/bin/false is no Python 3.11 or newer." in refused.stderr
