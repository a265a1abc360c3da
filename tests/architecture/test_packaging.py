"""What is installed: versions, the lock, the wheel's contents, the commands of the Makefile."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from dispatcher import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCK = (ROOT / "requirements.lock").read_text("utf-8")


def test_the_version_stands_in_two_places_and_is_one() -> None:
    """Receivers see it in `User-Agent`, package managers in the metadata."""
    assert PROJECT["project"]["version"] == __version__


def test_the_lock_names_no_index_and_has_a_hash_for_each_package() -> None:
    """Where packages come from is each installation's own affair."""
    assert [] == [
        line for line in LOCK.splitlines() if re.search(r"://|--(extra-)?index|--find-links|--trusted", line)
    ]
    packages = re.findall(r"^[a-zA-Z0-9._-]+(?:\[[^]]*\])?==.*?(?=^\S|\Z)", LOCK, re.MULTILINE | re.DOTALL)
    assert len(packages) > 20
    assert [] == [package.splitlines()[0] for package in packages if "--hash=sha256:" not in package]


def test_everything_that_is_asked_for_is_locked() -> None:
    """A dependency that was added without renewing the lock would be missing on a fresh machine."""
    project = PROJECT["project"]
    wanted = [
        *project["dependencies"],
        *(name for names in project["optional-dependencies"].values() for name in names),
        *PROJECT["dependency-groups"]["dev"],
        *PROJECT["build-system"]["requires"],
    ]
    names = {re.split(r"[<>=!~\[; ]", requirement)[0].lower() for requirement in wanted}
    locked = {name.lower() for name in re.findall(r"^([a-zA-Z0-9._-]+)(?:\[[^]]*\])?==", LOCK, re.MULTILINE)}
    assert set() == names - locked, "run: make lock"


def test_npm_locks_name_no_index() -> None:
    """The same for the guide's own Node receiver."""
    for lock in ROOT.rglob("package-lock.json"):
        if "node_modules" in lock.relative_to(ROOT).parts:
            continue
        packages = json.loads(lock.read_text("utf-8")).get("packages", {})
        assert [] == [name for name, package in packages.items() if "resolved" in package], str(
            lock.relative_to(ROOT)
        )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, offline."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*command, "--disable-pip-version-check", "-w", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    assert built.name.startswith(f"grillo_dispatcher-{__version__}-py3")
    return built


@pytest.fixture(scope="session")
def wheel_names(wheel: Path) -> set[str]:
    """List what is in the wheel."""
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_whatever_the_package_needs(wheel_names: set[str]) -> None:
    """Queries, pages and the marker of types are read at run time, far from this checkout."""
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "dispatcher").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted = package | {
        "dispatcher/store/schema.sql",
        "dispatcher/config.example.toml",
        "dispatcher/py.typed",
    }
    assert set() == wanted - wheel_names


def test_the_wheel_holds_nothing_else(wheel_names: set[str]) -> None:
    """Neither tests nor anybody's data."""
    assert set() == {name.partition("/")[0] for name in wheel_names} - {
        "dispatcher",
        f"grillo_dispatcher-{__version__}.dist-info",
    }


def test_an_installed_dispatcher_finds_its_schema(wheel: Path, tmp_path: Path) -> None:
    """Far from any checkout; the same text, byte for byte."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = "import sys; from dispatcher.store.schema import schema_text; sys.stdout.write(schema_text())"
    ran = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert (ROOT / "schema.sql").read_bytes() == ran.stdout


def test_the_bill_of_materials_holds_what_is_locked(tmp_path: Path) -> None:
    """Each package with its hashes; what operators run is told from what only developers do."""
    script = ROOT / "packages" / "build_sbom.py"
    subprocess.run([sys.executable, script, tmp_path / "sbom.json"], check=True, capture_output=True)
    document = json.loads((tmp_path / "sbom.json").read_text("utf-8"))
    parts = {one["name"]: one for one in document["components"]}
    locked = set(re.findall(r"^([a-zA-Z0-9._-]+)(?:\[[^]]*\])?==", LOCK, re.MULTILINE))
    assert {name.lower().replace("_", "-").replace(".", "-") for name in locked} == set(parts)
    assert [] == [name for name, one in parts.items() if not one["hashes"]]
    assert ("required", "required") == (parts["asyncpg"]["scope"], parts["cffi"]["scope"])
    assert ("excluded", "excluded") == (parts["pytest"]["scope"], parts["mypy"]["scope"])
    assert ("CycloneDX", "1.5") == (document["bomFormat"], document["specVersion"])
    assert __version__ == document["metadata"]["component"]["version"]


def test_make_help_lists_every_command() -> None:
    """Each from its own comment."""
    commands = re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert commands == re.findall(r"^  make (\S+) +\S", shown, re.MULTILINE)
