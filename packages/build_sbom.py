"""Writes what is inside as CycloneDX 1.5, for scanners: every locked package, its version and its hashes.

What the dispatcher needs to run is `required`; what only develops it is `excluded`: operators do not get it.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from build_deb import NAME, ROOT, needed

_PACKAGE: Final = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?==(?P<version>[^\s;\\]+)(?P<rest>.*?)(?=^\S|\Z)",
    re.MULTILINE | re.DOTALL,
)


def describe(lock: str, version: str, required: set[str]) -> dict[str, Any]:
    """Give the document."""
    components = []
    for found in _PACKAGE.finditer(lock):
        name = re.sub(r"[-_.]+", "-", found["name"]).lower()
        hashes = sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", found["rest"]))
        components.append(
            {
                "type": "library",
                "bom-ref": f"{name}@{found['version']}",
                "name": name,
                "version": found["version"],
                "scope": "required" if name in required else "excluded",
                "purl": f"pkg:pypi/{name}@{found['version']}",
                # One for each file of the release: which one was taken depends on the machine.
                "hashes": [{"alg": "SHA-256", "content": one} for one in hashes],
            }
        )
    own = {"type": "application", "bom-ref": f"{NAME}@{version}", "name": NAME, "version": version}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**own, "licenses": [{"license": {"id": "Apache-2.0"}}]}},
        "components": components,
        "dependencies": [{"ref": own["bom-ref"], "dependsOn": [one["bom-ref"] for one in components]}],
    }


def main() -> None:
    """Write it to the file that is named, else to dist/sbom.json, and print where."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "sbom.json"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    document = describe((ROOT / "requirements.lock").read_text("utf-8"), version, set(needed()))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    sys.stdout.write(f"{target}\n")


if __name__ == "__main__":
    main()
