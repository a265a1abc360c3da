"""Builds the documentation as a site that needs nothing from elsewhere, without the network.

How this works: the pages of this checkout, and every file that they link to, are laid out as they lie here,
so the links between them hold; MkDocs makes HTML of them and ends with an error where one does not. The order
of the sections is here; a section's pages come by name, and each is called what its heading says.
"""

from __future__ import annotations

import logging
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from mkdocs.commands.build import build
from mkdocs.config import load_config
from pymdownx.slugs import slugify

ROOT: Final = Path(__file__).resolve().parents[1]
START: Final = "README.md"
FRENCH: Final = "docs/fr"
DECISIONS: Final = "docs/decisions/index.md"  # made here
SECTIONS: Final = {
    "Documentation": "docs/*.md",
    "Learn": "docs/tutorial/*.md",
    "For subscribers": "docs/subscribers/*.md",
    "Pour les abonnés": "docs/fr/*.md",
    "Do": "docs/how-to/*.md",
    "Receivers": "docs/receivers/*.md",
    "Look up": "docs/reference/*.md",
    "Understand": "docs/explanation/*.md",
    "Decisions": "docs/decisions/*.md",
}
_LINK: Final = re.compile(r"(?<=\]\()(?P<open><?)(?P<target>[^)\s>#]+)(?=[^)]*\))")
_CODE: Final = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def site_of(target: Path, root: Path = ROOT) -> None:
    """Write the site of a checkout into a folder; raises where a page, a link or an anchor is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "pages"
        config: Any = load_config(
            str(ROOT / "packages" / "mkdocs.yml"),
            docs_dir=str(pages),
            site_dir=str(target),
            strict=True,
            nav=lay_out(pages, root),
        )
        # As GitHub makes anchors, and as the links here are written.
        config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
        build(config)
    for page in target.joinpath(FRENCH).glob("*.html"):  # the theme knows one language
        page.write_text(page.read_text("utf-8").replace('<html lang="en"', '<html lang="fr"', 1), "utf-8")


def lay_out(pages: Path, root: Path) -> list[Any]:
    """Copy the pages, and what they link to, into a folder; give the navigation."""
    sections = {title: sorted(root.glob(pattern)) for title, pattern in SECTIONS.items()}
    waiting = [root / START, *(page for section in sections.values() for page in section)]
    placed: dict[Path, None] = {}
    while waiting:
        page = waiting.pop(0)
        if page not in placed:
            placed[page] = None
            copy = pages / page.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if page.suffix == ".md":
                text = page.read_text("utf-8")
                copy.write_text(_LINK.sub(_to_index, text), "utf-8")
                waiting += linked(page, text, root)
            else:
                shutil.copyfile(page, copy)
    if sections["Decisions"]:
        index = "".join(f"- [{_title(page)}]({page.name})\n" for page in sections["Decisions"])
        (pages / DECISIONS).write_text(f"# Decisions\n\n{index}", "utf-8")
    listed = {page for section in sections.values() for page in section} | {root / START}
    others = [page for page in placed if page.suffix == ".md" and page not in listed]
    sections["Documentation"] += others
    nav: list[Any] = [{"Grillo dispatcher": START}]
    for title, section in sections.items():
        entries = [str(page.relative_to(root)) for page in section]
        if entries:
            nav.append({title: [DECISIONS, *entries] if title == "Decisions" else entries})
    return nav


def linked(page: Path, text: str, root: Path) -> list[Path]:
    """Give the files of this checkout that a page links to."""
    found = []
    for match in _LINK.finditer(_CODE.sub("", text)):
        target = (page.parent / unquote(match["target"])).resolve()
        if "://" not in match["target"] and target.is_file() and target.is_relative_to(root):
            found.append(target)
    return found


def _to_index(match: re.Match[str]) -> str:
    """Let a link to a folder lead to its index."""
    return (
        match[0] + "index.md" if match["target"].endswith("/") and "://" not in match["target"] else match[0]
    )


def _title(page: Path) -> str:
    return page.read_text("utf-8").partition("\n")[0].removeprefix("# ")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    site_of(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT / "site")
