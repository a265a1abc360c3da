"""The comparison of what is locked with advisories, by invented ones in the OSV format."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
ADVISORIES: Final = ROOT / "tests" / "data" / "advisories"


def audited(folder: Path, lock: str, *arguments: str, advisories: Path = ADVISORIES) -> tuple[int, list[str]]:
    """Compare a lock with advisories; give the status and the lines, standard error's included."""
    (folder / "lock").write_text(lock, "utf-8")
    command: list[str | Path] = [
        sys.executable,
        ROOT / "packages" / "audit.py",
        advisories,
        "--lock",
        folder / "lock",
        *arguments,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, (ended.stdout + ended.stderr).splitlines()


def test_a_version_is_found_where_an_advisory_speaks_of_it(tmp_path: Path) -> None:
    """In a range or listed, under any spelling of the name; not one that is withdrawn or of elsewhere."""
    lock = {
        "some-package==1.1": None,
        "some-package==1.2": "some-package 1.2: TEST-2026-1",
        "some.package[extra]==1.9.9 ; python_version < '3.12' \\\n    --hash=sha256:0": (
            "some-package 1.9.9: TEST-2026-1"
        ),
        "Some_Package==1.10": None,
        "some-package==2.0": "some-package 2.0: TEST-2026-1",
        "some-package==2.1": None,
        "listed==1.0": "listed 1.0: TEST-2026-2",
        "listed==1.0.1": None,
        "last==3.4": "last 3.4: TEST-2026-3",
        "last==3.4.post1": None,
        "another==1.0": None,
    }
    status, (*findings, summary) = audited(tmp_path, "\n".join(lock))
    told = {f"{line.partition(',')[0]}: {''.join(re.findall(r'TEST-2026-[0-9]', line))}" for line in findings}
    assert (1, set(lock.values()) - {None}) == (status, told)
    assert "11 locked packages, 4 advisories, the newest of 2026-02-03T00:00:00Z: 5 findings" == summary


def test_a_finding_says_what_to_do(tmp_path: Path) -> None:
    """The package, whom it reaches, the advisory's names, the fix; what is accepted is left out."""
    lock = "some-package==1.5\nasyncpg==0.31\n"
    status, (finding, summary) = audited(tmp_path, lock)
    assert 1 == status
    assert finding == (
        "some-package 1.5, for development or an extra: TEST-2026-1 (CVE-0000-0001), fixed in 1.10, 2.1: "
        "Invented: a range that has a fix"
    )
    assert summary.startswith("2 locked packages")
    assert 0 == audited(tmp_path, lock, "--ignore", "CVE-0000-0001")[0]


def test_an_archive_is_read_too(tmp_path: Path) -> None:
    """As osv.dev exports it."""
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as into:
        for path in ADVISORIES.glob("*.json"):
            into.write(path, path.name)
    assert 1 == audited(tmp_path, "last==1\n", advisories=archive)[0]


def test_nothing_to_compare_with_is_no_success(tmp_path: Path) -> None:
    """An empty folder, a wrong one, one of another ecosystem: status 2."""
    other = tmp_path / "other"
    other.mkdir()
    assert 2 == audited(tmp_path, "last==1\n", advisories=other)[0]
    (other / "npm.json").write_bytes((ADVISORIES / "TEST-2026-5.json").read_bytes())
    assert 2 == audited(tmp_path, "last==1\n", advisories=other)[0]
    for text in ("{", "[]", '{"id": "x"}'):
        (other / "wrong.json").write_text(text)
        status, lines = audited(tmp_path, "last==1\n", advisories=other)
        assert (2, True) == (status, "wrong.json: expected" in lines[0])
