"""Builds the Debian package, without the network: what is installed in this environment, less the tools.

How this works: `make setup` has installed requirements.lock, each file checked by its hash. The packages that
the dispatcher needs to run, found by their metadata, are copied from there into a virtual environment under
/opt, with the wheel of this checkout; then units, configuration and documentation; and `dpkg-deb` packs it.
Every file has the time of the commit (`SOURCE_DATE_EPOCH`), so the same commit in the same environment gives
the same bytes.
"""

from __future__ import annotations

import compileall
import gzip
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).resolve().parents[1]
DEB: Final = ROOT / "packages" / "deb"
NAME: Final = "grillo-dispatcher"
HOME: Final = Path("opt") / NAME
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_OF_ONE_INSTALLATION: Final = {"direct_url.json", "INSTALLER", "REQUESTED", "RECORD"}
_SCRIPTS: Final = ("postinst", "prerm", "postrm")
_LAUNCHER: Final = f"""#!/{HOME}/bin/python3 -I
import sys

from dispatcher.cli import main

sys.exit(main())
"""


def needed() -> dict[str, Distribution]:
    """Give the project's dependencies, and theirs, that apply here; without any extras."""
    found: dict[str, Distribution] = {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    while waiting:
        wanted = waiting.pop()
        key = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if key in found or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[key] = distribution(wanted.name)
        for text in found[key].requires or ():
            further = Requirement(text)
            extras = {"", *wanted.extras}
            if further.marker is None or any(further.marker.evaluate({"extra": one}) for one in extras):
                waiting.append(Requirement(f"{further.name}[{','.join(further.extras)}]"))
    return dict(sorted(found.items()))


def copy_distribution(source: Distribution, site: Path) -> None:
    """Copy an installed package, but not what belongs to that installation: scripts, caches, records."""
    for file in source.files or ():
        if ".." in file.parts or "__pycache__" in file.parts or file.name in _OF_ONE_INSTALLATION:
            continue
        target = site / str(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), target)


def build_wheel(folder: Path) -> Path:
    """Build this checkout's wheel, offline."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *offline, "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def lay_out(tree: Path, wheel: Path) -> None:
    """Write everything that the package installs."""
    home = tree / HOME
    site = home / "lib" / f"python{PYTHON}" / "site-packages"
    site.mkdir(parents=True)
    for source in needed().values():
        copy_distribution(source, site)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    compileall.compile_dir(
        site,
        quiet=1,
        stripdir=str(tree),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    (home / "bin").mkdir()
    (home / "bin" / "dispatcher").write_text(_LAUNCHER, "utf-8")
    (home / "bin" / "python3").symlink_to(f"/usr/bin/python{PYTHON}")
    (home / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n", "utf-8"
    )
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / "dispatcher").symlink_to(f"/{HOME}/bin/dispatcher")
    units = tree / "lib" / "systemd" / "system"
    units.mkdir(parents=True)
    for unit in sorted((ROOT / "systemd").glob("*.s*")):
        shutil.copyfile(unit, units / unit.name)
    etc = tree / "etc" / NAME
    etc.mkdir(parents=True)
    shutil.copyfile(ROOT / "config.example.toml", etc / "config.toml")
    complete = tree / "usr" / "share" / "bash-completion" / "completions"
    complete.mkdir(parents=True)
    script = [sys.executable, "-m", "dispatcher", "completion", "bash"]
    printed = subprocess.run(script, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    (complete / "dispatcher").write_bytes(printed)
    document(tree)


def document(tree: Path) -> None:
    """Add the documentation, where its links between pages hold, and what Debian wants."""
    doc = tree / HOME / "share" / "doc"
    doc.mkdir(parents=True)
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "config.example.toml"):
        shutil.copyfile(ROOT / name, doc / name)
    for name in ("docs", "systemd"):
        shutil.copytree(ROOT / name, doc / name, copy_function=shutil.copyfile)
    debian = tree / "usr" / "share" / "doc" / NAME
    debian.mkdir(parents=True)
    shutil.copyfile(ROOT / "LICENSE", debian / "copyright")
    changelog = (ROOT / "CHANGELOG.md").read_bytes()
    (debian / "changelog.gz").write_bytes(gzip.compress(changelog, mtime=0))


def control(tree: Path, version: str) -> None:
    """Write what dpkg reads: the description, the configuration files, the maintainer's scripts."""
    size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    folder = tree / "DEBIAN"
    folder.mkdir()
    text = (DEB / "control").read_text("utf-8")
    (folder / "control").write_text(
        text.format(version=version, architecture=architecture, python=PYTHON, size_kib=size // 1024), "utf-8"
    )
    (folder / "conffiles").write_text(f"/etc/{NAME}/config.toml\n", "utf-8")
    for name in _SCRIPTS:
        shutil.copyfile(DEB / name, folder / name)


def settle(tree: Path, epoch: int) -> None:
    """Give every file the same rights and time, whoever builds, and wherever."""
    programs = {tree / "DEBIAN" / name for name in _SCRIPTS} | {tree / HOME / "bin" / "dispatcher"}
    for path in sorted(tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path in programs else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    tree.chmod(0o755)
    os.utime(tree, (epoch, epoch))


def commit_time() -> int:
    """Give `SOURCE_DATE_EPOCH` or, without it, the time of the commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        git = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
        given = subprocess.run(git, capture_output=True, text=True, check=True).stdout
    return int(given)


def build(out: Path) -> Path:
    """Build the package into a folder, and give its path."""
    epoch = commit_time()
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder, tree = Path(scratch) / "wheel", Path(scratch) / "tree"
        wheel = build_wheel(folder)
        version = wheel.name.split("-")[1]
        lay_out(tree, wheel)
        control(tree, version)
        settle(tree, epoch)
        packed = out / f"{NAME}_{version}.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", tree, packed],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return packed


if __name__ == "__main__":
    sys.stdout.write(f"{build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / 'dist')}\n")
