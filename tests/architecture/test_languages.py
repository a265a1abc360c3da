"""What subscribers read says the same in English and in French."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

DOCS: Final = Path(__file__).parents[2] / "docs"
FRENCH: Final = {
    "subscribers/create-a-webhook.md": "creer-un-webhook.md",
    "subscribers/receive-webhooks.md": "recevoir-des-webhooks.md",
    "subscribers/verify-signatures.md": "verifier-les-signatures.md",
    "subscribers/retries-and-recovery.md": "reessais-et-recuperation.md",
    "subscribers/revisions-and-order.md": "revisions-et-ordre.md",
    "subscribers/troubleshooting.md": "depannage.md",
    "reference/filters.md": "filtres.md",
    "reference/errors.md": "erreurs.md",
    "how-to/use-the-dashboard.md": "tableau-de-bord.md",
    "how-to/replay-for-a-newcomer.md": "evenements-passes.md",
    "receivers/README.md": "recepteurs.md",
}
# What is translated inside code: the placeholders of the public guide, and words between angle brackets.
_WORDS: Final = {
    "votre-serveur.com": "your-server.com",
    "votre-endpoint": "your-endpoint",
    "<26 caractères>": "<26 characters>",
    "<64 chiffres hexadécimaux>": "<64 hexadecimal digits>",
    "<le même identifiant de livraison>": "<the same delivery id>",
    "<secondes Unix de cette tentative>": "<Unix seconds of this attempt>",
    "identifiant.horodatage.corps": "id.timestamp.body",
}
_BLOCK: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"`[^`]+`")
_LINK: Final = re.compile(r"\]\(([^)#]*)(?:#[^)]*)?\)")

pairs = pytest.mark.parametrize(("english", "french"), FRENCH.items(), ids=FRENCH.values())


def both(english: str, french: str) -> tuple[str, str]:
    """Give both pages; the French one with the code's words in English."""
    text = (DOCS / "fr" / french).read_text("utf-8")
    for word, meant in _WORDS.items():
        text = text.replace(word, meant)
    return (DOCS / english).read_text("utf-8"), text


def prose(text: str) -> str:
    """Leave code and links' targets out."""
    return _LINK.sub("]", _SPAN.sub("", _BLOCK.sub("", text)))


def numbers(text: str, *, thousands: str, decimal: str) -> Counter[float]:
    """Give the numbers of a page's prose, however its language writes them."""
    plain = re.sub(rf"(?<=\d){thousands}(?=\d{{3}}\b)", "", prose(text))
    found = re.findall(r"(?<![\w.,])\d+(?:[.,]\d+)*", plain)
    return Counter(float(one.replace(decimal, ".")) for one in found if one.count(".") + one.count(",") < 2)


def test_every_page_for_subscribers_is_there_in_both_languages() -> None:
    """None is forgotten, on either side."""
    assert {f"subscribers/{page.name}" for page in (DOCS / "subscribers").glob("*.md")} <= FRENCH.keys()
    assert {page.name for page in (DOCS / "fr").glob("*.md")} == set(FRENCH.values())


@pairs
def test_the_pages_are_built_alike(english: str, french: str) -> None:
    """The same headings, tables, lists and pictures, in the same order."""

    def skeleton(text: str) -> list[str]:
        lines = _BLOCK.sub("```", text).splitlines()
        kinds = (re.match(r"#+ |\||- |\d+\. |!|```", line) for line in lines)
        return [kind[0] for kind in kinds if kind is not None]

    one, other = both(english, french)
    assert skeleton(one) == skeleton(other)


@pairs
def test_the_code_is_the_same(english: str, french: str) -> None:
    """Blocks in their order, and every name of a field, header or command in the text, as often."""
    one, other = both(english, french)
    assert _BLOCK.findall(one) == _BLOCK.findall(other)
    assert Counter(_SPAN.findall(_BLOCK.sub("", one))) == Counter(_SPAN.findall(_BLOCK.sub("", other)))


@pairs
def test_the_numbers_are_the_same(english: str, french: str) -> None:
    """Delays, limits, ranges: a number that changes changes twice."""
    one, other = both(english, french)
    assert numbers(one, thousands=",", decimal=".") == numbers(
        other, thousands="[ \u00a0\u202f]", decimal=","
    )


@pairs
def test_the_links_lead_to_the_same_in_the_readers_language(english: str, french: str) -> None:
    """To the French page where there is one."""

    def targets(page: Path, text: str) -> Counter[str]:
        found = _LINK.findall(_SPAN.sub("", _BLOCK.sub("", text)))
        relative = [(page.parent / link).resolve() for link in found if link and "://" not in link]
        return Counter(str(target.relative_to(DOCS)) for target in relative)

    one, other = both(english, french)
    expected = Counter[str]()
    for target, count in targets(DOCS / english, one).items():
        expected[f"fr/{FRENCH[target]}" if target in FRENCH else target] += count
    assert expected == targets(DOCS / "fr" / french, other)
