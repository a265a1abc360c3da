"""The few lines that the documentation gives to check a signature do it, in the languages that are here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from dispatcher.core.signature import Signer

PAGE: Final = Path(__file__).parents[2] / "docs" / "subscribers" / "verify-signatures.md"
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY: Final = '{"type":"event.detected","data":{"place":"Oaxaca, México"}}'
SIGNATURE: Final = dict(Signer(SECRET).sign("dlv_1", 1, BODY.encode()))["X-Grillo-Signature"]
CASES: Final = [
    (BODY, SIGNATURE, SECRET, True),
    (BODY + " ", SIGNATURE, SECRET, False),
    (BODY, SIGNATURE, SECRET + "x", False),
    (BODY, SIGNATURE[:-1], SECRET, False),
    (BODY, "é" * 71, SECRET, False),
    (BODY, None, SECRET, False),  # the header is missing
]


def code(language: str) -> str:
    """Give the page's block in a language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(block)


def test_in_python() -> None:
    """It accepts what was signed with the secret, and nothing else."""
    names: dict[str, Any] = {}
    exec(code("python"), names)
    assert [case[3] for case in CASES] == [
        names["genuine"](body.encode(), signature, secret) for body, signature, secret, _ in CASES
    ]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_in_node(tmp_path: Path) -> None:
    """The same; a signature of another length is refused, not thrown at."""
    program = tmp_path / "check.mjs"
    calls = f"console.log(JSON.stringify({json.dumps(CASES)}.map(one => genuine(one[0], one[1], one[2]))));"
    program.write_text(code("javascript") + calls, "utf-8")
    ended = subprocess.run(["node", program], capture_output=True, text=True, check=True)
    assert [case[3] for case in CASES] == json.loads(ended.stdout)
