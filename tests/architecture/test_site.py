"""The documentation as a site: built without a warning, and complete without the network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_LOADED: Final = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"?(?:https?:)?//[^\">]*"
    r"|<link\b[^>]*\bhref=\"?(?:https?:)?//[^\">]*"
    r"|(?:@import\s*|url\()[\"']?(?:https?:)?//[^)\"']*"
)
_BUILD: Final = "import sys, pathlib; sys.path.insert(0, 'packages'); import build_docs; "


def built(target: Path, checkout: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Build the site of a checkout, as `make docs` does."""
    program = f"{_BUILD}build_docs.site_of(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))"
    command = [sys.executable, "-c", program, str(target), str(checkout)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_site_is_whole_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Every page is there; no page, style or font asks another server for anything."""
    ended = built(tmp_path)
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    pages = {path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")}
    expected = {
        page.with_name("index.html") if page.name == "README.md" else page.with_suffix(".html")
        for page in pages
    }
    assert set() == {page for page in expected if not (tmp_path / page).is_file()}
    for page in ("docs/index.html", "docs/fr/filtres.html"):  # read aloud in the language that it is in
        language = "fr" if "fr/" in page else "en"
        assert f'<html lang="{language}"' in (tmp_path / page).read_text("utf-8")
    loaded = {
        f"{path.relative_to(tmp_path)}: {found[0]}"
        for path in tmp_path.rglob("*")
        if path.suffix in {".html", ".css"}
        for found in _LOADED.finditer(path.read_text("utf-8"))
    }
    assert set() == loaded


def test_a_link_that_leads_nowhere_ends_the_build(tmp_path: Path) -> None:
    """A page or a heading that is not there; everything else may be as it likes."""
    checkout = tmp_path / "checkout"
    (checkout / "docs").mkdir(parents=True)
    (checkout / "docs" / "other.md").write_text("# Other\n\n## A heading\n", "utf-8")
    for text, status in (
        ("[good](docs/other.md#a-heading)", 0),
        ("[page](docs/another.md)", 1),
        ("[heading](docs/other.md#another-heading)", 1),
    ):
        (checkout / "README.md").write_text(f"# Start\n\n{text}\n", "utf-8")
        ended = built(tmp_path / "site", checkout)
        assert status == ended.returncode, text + ended.stdout + ended.stderr
