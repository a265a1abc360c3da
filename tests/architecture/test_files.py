"""Sizes, names and places of files."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "dispatcher").rglob("*.py"))

MAX_LINES = 400
NAMELESS = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "base", "misc"}
TOP_LEVEL = {
    *(
        ".ci",
        ".gitignore",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "bench",
        "config.example.toml",
    ),
    *(
        "dispatcher",
        "docs",
        "packages",
        "pyproject.toml",
        "requirements.lock",
        "schema.sql",
        "systemd",
        "tests",
    ),
}


def relative(path: Path) -> str:
    """Name a file as people do."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_is_short_well_named_and_says_what_it_is_for(path: Path) -> None:
    """A file over 400 lines is split; one that could hold anything soon does."""
    text = path.read_text("utf-8")
    lines = text.count("\n")
    assert lines <= MAX_LINES, f"{lines} lines: split it by what it knows"
    assert path.stem not in NAMELESS, "name it after what is in it"
    assert path.parent.name not in NAMELESS, "name it after what is in it"
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, "a module says in a sentence what it is for"
    assert docstring.splitlines()[0].endswith((".", "`", "?")), (
        "the first line of the docstring is one whole sentence"
    )


def test_queries_are_split_like_modules() -> None:
    """SQL is code."""
    long = [
        relative(path)
        for path in (ROOT / "dispatcher").rglob("*.sql")
        if len(path.read_text().splitlines()) > MAX_LINES
    ]
    assert [] == long


def test_the_top_level_holds_what_it_should() -> None:
    """Newcomers read it first."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    present = {name.partition("/")[0] for name in listed.stdout.splitlines()}
    assert set() == present - TOP_LEVEL, "nothing else belongs at the top"
