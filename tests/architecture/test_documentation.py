"""What the documentation says and what the code does are the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

from dispatcher import __version__
from dispatcher.config import Config, load
from dispatcher.core.outcome import ErrorClass
from dispatcher.telemetry.metrics import LANES, WAKEUP_SOURCES, Metrics

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
EXAMPLE = ROOT / "config.example.toml"
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "node_modules", ".git", "var", "build", "dist"} & set(path.relative_to(ROOT).parts)
    and not path.relative_to(ROOT).parts[0].startswith(".venv-")
)


def defaults() -> dict[str, Any]:
    """Give every setting, `section.key`, with its default."""
    tables: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(Config()))
    settings: dict[str, Any] = {}
    for name, value in tables.items():
        settings |= (
            {f"{name}.{key}": inner for key, inner in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
    return settings


def test_the_example_holds_every_setting_with_its_default() -> None:
    """Compared with their types: 60 is not 60.0, and an operator copies what is written."""
    example = tomllib.loads(EXAMPLE.read_text("utf-8"))
    assert msgspec.json.encode(Config(), order="sorted") == msgspec.json.encode(example, order="sorted")
    assert Config() == load(EXAMPLE, {})


def test_every_setting_in_the_example_is_explained() -> None:
    """A comment above the key, or above the one before it where they belong together."""
    blocks = re.split(r"\n(?=\n|#)", EXAMPLE.read_text("utf-8"))
    unexplained = [
        line
        for block in blocks
        for line in block.splitlines()
        if re.match(r"\w+ = ", line) and "#" not in block and not re.search(r"_timeout_s = ", line)
    ]
    assert [] == unexplained


def test_every_setting_is_documented_with_its_default() -> None:
    """In docs/reference/configuration.md, and nothing that does not exist."""
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| `([^|]*)` \|", (REFERENCE / "configuration.md").read_text("utf-8"), re.MULTILINE
    )
    documented = {key: tomllib.loads(f"value = {default}")["value"] for key, default in rows}
    assert defaults() == documented


def metric_rows() -> dict[str, tuple[str, set[str]]]:
    """Read type and labels of each documented metric."""
    text = (REFERENCE / "metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `(dispatcher_\w+)` \| (\w+) \|([^|]*)\|", text, re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    """In docs/reference/metrics.md, and nothing that does not exist."""
    metrics = Metrics()
    for lane in metrics.lanes.values():
        lane.attempted("retry", ErrorClass.TIMEOUT, 1.0)
    exposed = {}
    for family in metrics.registry.collect():
        if family.name.startswith("dispatcher_"):
            name = family.name + "_total" if family.type == "counter" else family.name
            exposed[name] = (
                family.type,
                {label for sample in family.samples for label in sample.labels} - {"le"},
            )
    assert exposed == metric_rows()


def test_every_label_value_is_documented() -> None:
    """Error classes, lanes and what wakes the tail: dashboards are built from these words."""
    text = (REFERENCE / "metrics.md").read_text("utf-8")
    classes = re.findall(
        r"^\| `(\w+)` \|", text.partition("### Error classes")[2].partition("\n## ")[0], re.MULTILINE
    )
    assert {"none", *ErrorClass} == set(classes) - {"error"}
    assert [] == [word for word in (*LANES, *WAKEUP_SOURCES) if f"`{word}`" not in text]


def test_subscribers_find_every_error_class() -> None:
    """In the page on troubleshooting, with what to do."""
    text = (ROOT / "docs" / "subscribers" / "troubleshooting.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert set(ErrorClass) == set(re.findall(r"`(\w+)`", "".join(rows)))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_wrong_with_the_metrics() -> None:
    """Names, units, help texts and suffixes follow Prometheus' conventions."""
    metrics = Metrics()
    metrics.lanes["alert"].attempted("failed", ErrorClass.DNS, 0.1)
    page, _ = metrics.render()
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (0, "") == (checked.returncode, (checked.stdout + checked.stderr).decode())


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """Files and headings are renamed; links to them are then mended."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", prose):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and linked.suffix == ".md" and anchor not in anchors(linked)):
            broken.append(target)
    assert [] == broken


def test_the_changelog_speaks_of_this_version() -> None:
    """Under its number or, before the release, as Unreleased."""
    headings = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert {"Unreleased", __version__} & set(headings), f"found {headings}"


def test_decisions_have_their_form() -> None:
    """Numbered without holes; status, context, decision, consequences."""
    notes = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [f"{number:04}" for number in range(1, len(notes) + 1)] == [note.name[:4] for note in notes]
    for note in notes:
        text = note.read_text("utf-8")
        missing = [
            part for part in ("Status:", "## Context", "## Decision", "## Consequences") if part not in text
        ]
        assert [] == missing, note.name


def test_the_index_leads_to_every_page() -> None:
    """docs/README.md: a page that is not listed is not found. Decisions are listed by their folder."""
    docs = ROOT / "docs"
    index = (docs / "README.md").read_text("utf-8")
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.md")} - {"README.md"}
    assert [] == sorted(
        page for page in pages if f"]({page})" not in index and not page.startswith("decisions/")
    )
