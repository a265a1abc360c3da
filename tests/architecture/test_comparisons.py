"""Whatever proves who somebody is is compared in constant time: `==` tells by its time how much was right."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE: Final = Path(__file__).parents[2] / "dispatcher"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))
# Words in the names of what is secret, or follows from a secret and is checked.
TELLING: Final = {
    *("signature", "signatures", "secret", "secrets", "token", "tokens", "csrf", "hash", "hmac", "mac"),
    *("digest", "check", "password", "credential", "credentials", "expected"),
}
# What bears such a name and proves nothing.
HARMLESS: Final = {
    "core/body.py: int(token) != float(token)": "a number in JSON",
    "store/rekey.py: present != vault.key_check": "both are the operator's, and nobody sends either",
    "tools/demo/tally.py: len(known) != self.expected": "numbers of events",
}
_WORDS: Final = re.compile(r"[a-z]+")


def names(node: ast.AST) -> set[str]:
    """Give the words of every name in an expression."""
    found = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
    found += [part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)]
    return {word for name in found for word in _WORDS.findall(name.lower())}


def telling(tree: ast.AST) -> Iterator[ast.Compare]:
    """Give each comparison that a measurement of time could read a secret from.

    One with a constant tells nothing that the source does not, nor one of a value with its own form.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            if not isinstance(operator, ast.Eq | ast.NotEq):
                continue
            if isinstance(left, ast.Constant) or isinstance(right, ast.Constant):
                continue
            if ast.unparse(right).startswith(f"{ast.unparse(left)}."):
                continue
            if TELLING & (names(left) | names(right)):
                yield node


class Careless(ast.NodeTransformer):
    """Writes one use of `compare_digest` as `==`."""

    def __init__(self, line: int) -> None:
        self._line = line

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Replace it where it stands on the line."""
        self.generic_visit(node)
        if node.lineno == self._line and "compare_digest" in ast.unparse(node.func):
            left, right = node.args
            return ast.copy_location(ast.Compare(left, [ast.Eq()], [right]), node)
        return node


def careful() -> list[tuple[Path, int]]:
    """Give where `compare_digest` is used."""
    return [
        (path, node.lineno)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and "compare_digest" in ast.unparse(node.func)
    ]


def test_nothing_secret_is_compared_carelessly() -> None:
    """Signatures, tokens and keys go through `hmac.compare_digest`."""
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}: {ast.unparse(one)}"
        for path in MODULES
        for one in telling(ast.parse(path.read_text("utf-8")))
    }
    assert set(HARMLESS) == found, "use hmac.compare_digest"


@pytest.mark.parametrize(("path", "line"), careful(), ids=lambda one: getattr(one, "name", None) or str(one))
def test_a_careless_one_is_found(path: Path, line: int) -> None:
    """Each `compare_digest` of today, written as `==`: so the test above can fail."""
    tree = ast.fix_missing_locations(Careless(line).visit(ast.parse(path.read_text("utf-8"))))
    assert line in [one.lineno for one in telling(tree)]


def test_signatures_sessions_and_keys_are_compared_carefully() -> None:
    """The guide's signature and Standard Webhooks', the CSRF token, the check of an encryption key."""
    used = sorted(path.relative_to(PACKAGE).as_posix() for path, _ in careful())
    assert ["core/signature.py", "core/signature.py", "dashboard/serving.py", "store/vault.py"] == used
