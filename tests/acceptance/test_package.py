"""What operators install: the wheel far from this checkout, and the Debian package on a bare tree."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from dispatcher import __version__
from tests.acceptance.daemon import REPOSITORY, Launch, daemons, settings_of
from tests.acceptance.subscriber import create_webhook
from tests.postgres import Database
from tests.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INTERPRETER: Final = Path(sys.executable).resolve()  # the one that virtual environments are made of
SITE: Final = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
HOME: Final = "opt/grillo-dispatcher"
ETC: Final = "etc/grillo-dispatcher"
SAMPLE: Final = '{"sensor_id":"s1","station_code":"GRIL01","last_seen":"2024-01-15T14:30:00Z"}'


def ran(command: Sequence[str | Path], environ: Mapping[str, str], cwd: Path, stdin: str = "") -> str:
    """Run a program to its good end, and give what it printed."""
    ended = subprocess.run(
        command, env=environ, cwd=cwd, input=stdin, capture_output=True, text=True, check=False
    )
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    return ended.stdout


def where_dependencies_are() -> str:
    """Give the folders of the installed packages, which do not lead to this checkout by themselves."""
    return os.pathsep.join({str(one.locate_file("")) for one in distributions() if one.name == "asyncpg"})


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Build the wheel and install it alone, as pip does; gives where."""
    pip = ["-m", "pip", "--disable-pip-version-check", "--quiet"]
    quiet = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    build: list[str | Path] = [
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        tmp_path,
        REPOSITORY,
    ]
    ran([sys.executable, *pip, *build], quiet, tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    prefix = tmp_path / "installed"
    ran([INTERPRETER, *pip, "install", "--no-deps", "--no-index", "--prefix", prefix, wheel], quiet, tmp_path)
    return prefix


@pytest.mark.slow
async def test_the_wheel_works_far_from_the_checkout(
    empty_database: Database, tmp_path: Path, installed: Path
) -> None:
    """Installed by pip: the command makes the schema, serves, and an event arrives."""
    program = str(installed / "bin" / "dispatcher")
    environ = settings_of(empty_database.url, tmp_path)
    environ["PYTHONPATH"] = f"{installed / SITE}{os.pathsep}{where_dependencies_are()}"

    def dispatcher(*arguments: str, stdin: str = "") -> str:
        return ran([program, *arguments], environ, tmp_path, stdin)

    where = ran([INTERPRETER, "-c", "import dispatcher; print(dispatcher.__file__)"], environ, tmp_path)
    assert where.startswith(str(installed))
    assert f"grillo-dispatcher {__version__}\n" == dispatcher("--version")
    assert "the schema was created\n" == dispatcher("migrate")
    launch = Launch((program, "serve"), tmp_path)
    async with Receiver() as receiver, daemons(empty_database.url, tmp_path, environ, launch) as house:
        await create_webhook(empty_database.url, receiver.url("/hook"), ["sensor.*"])
        daemon = await house.start()
        assert "1 inserted\n" == dispatcher("emit", "sensor.offline", stdin=SAMPLE)
        await receiver.wait_for(1)
        daemon.terminate()
        assert 0 == await daemon.ended(), daemon.last_words()
        assert [] == house.complaints()
    assert "sensor.offline" in dispatcher("history")


def built(out: Path) -> Path:
    """Build the Debian package."""
    script = REPOSITORY / "packages" / "build_deb.py"
    return Path(ran([Path(sys.executable), script, out], os.environ, REPOSITORY).strip())


class Tree:
    """A directory that dpkg takes for a machine without anything."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("info", "updates", "triggers"):
            (root / "var/lib/dpkg" / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()

    def dpkg(self, *arguments: str | Path) -> str:
        """Run dpkg on it; maintainers' scripts run with `DPKG_ROOT`, outside of a chroot."""
        forced = ["--force-script-chrootless", "--force-depends", "--force-not-root"]
        command: list[str | Path] = ["dpkg", f"--root={self.root}", "--log=/dev/null", *forced, *arguments]
        return ran(command, {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}, self.root)

    def files(self) -> set[str]:
        """Name all files, but dpkg's own."""
        return {
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if not path.is_dir() and "var/lib/dpkg" not in str(path)
        }


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="dpkg installs as root only")
def test_the_debian_package_comes_and_goes(tmp_path: Path) -> None:
    """The same bytes twice; on a bare tree it works and starts nothing; removed, it leaves the key."""
    package = built(tmp_path / "one")
    again = built(tmp_path / "two")
    assert hashlib.sha256(package.read_bytes()).digest() == hashlib.sha256(again.read_bytes()).digest()
    contents = ran(["dpkg-deb", "--contents", package], os.environ, tmp_path)
    assert set() == {line.split()[1] for line in contents.splitlines()} - {"root/root"}
    assert None is re.search(r"site-packages/(pytest|mypy|ruff|hypothesis)", contents)

    tree = Tree(tmp_path / "machine")
    said = tree.dpkg("--install", package)
    assert "Not started yet" in said
    present = tree.files()
    key = tree.root / ETC / "encryption_key"
    assert (0o600, 45) == (key.stat().st_mode & 0o777, key.stat().st_size)
    for unit in (
        "grillo-dispatcher.service",
        "grillo-dispatcher-migrate.service",
        "grillo-dispatcher.socket",
    ):
        assert f"lib/systemd/system/{unit}" in present
    assert [] == [name for name in present if ".wants/" in name]
    assert f"{HOME}/share/doc/README.md" in present
    assert "usr/share/bash-completion/completions/dispatcher" in present
    assert (REPOSITORY / "config.example.toml").read_bytes() == (tree.root / ETC / "config.toml").read_bytes()

    # Its own packages alone (-S): nothing of the environment that built it.
    environ = {"PATH": os.defpath, "PYTHONPATH": str(tree.root / HOME / SITE)}
    program: list[str | Path] = [INTERPRETER, "-S", "-m", "dispatcher"]
    assert f"grillo-dispatcher {__version__}\n" == ran([*program, "--version"], environ, tmp_path)
    checked = ran([*program, "check-config", "--config", tree.root / ETC / "config.toml"], environ, tmp_path)
    assert "[delivery]" in checked
    serving = "import dispatcher.app, dispatcher.cli; print(dispatcher.app.__file__)"
    assert ran([INTERPRETER, "-S", "-c", serving], environ, tmp_path).startswith(str(tree.root))

    old_key = key.read_bytes()
    (tree.root / ETC / "database_url").write_text("postgresql://x@y/z\n")
    assert f"Upgraded from {__version__}" in tree.dpkg("--install", package)
    assert old_key == key.read_bytes()
    tree.dpkg("--remove", "grillo-dispatcher")
    kept = {f"{ETC}/{name}" for name in ("config.toml", "encryption_key", "database_url")}
    assert kept == tree.files()
    assert "Kept /etc/grillo-dispatcher/encryption_key" in tree.dpkg("--purge", "grillo-dispatcher")
    assert {f"{ETC}/encryption_key"} == tree.files()


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_maintainers_scripts_start_nothing(script: str) -> None:
    """A shell accepts them; no word in them starts or restarts the service."""
    path = REPOSITORY / "packages" / "deb" / script
    assert "" == ran(["sh", "-n", path], os.environ, REPOSITORY)
    done = [line for line in path.read_text().splitlines() if not line.lstrip().startswith(("#", "echo"))]
    assert None is re.search(r"\b(enable|start|restart|try-restart|reload-or-restart)\b", "\n".join(done))
