"""Who runs PostgreSQL: this process's own user or, since PostgreSQL refuses root, an ordinary one."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dispatcher.store.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path

STAND_INS: Final = ("postgres", "nobody")  # for root, the first that exists


@dataclass(frozen=True)
class Identity:
    """The user that PostgreSQL runs as; `switched` when it is not this process's own."""

    name: str
    uid: int
    gid: int
    switched: bool

    def own(self, path: Path) -> None:
        """Give `path` to this user."""
        if self.switched:
            os.chown(path, self.uid, self.gid)

    def can_enter(self, path: Path) -> bool:
        """Whether this user can execute, or enter, `path`; asked of the kernel, so ACLs count as well."""
        if not self.switched:
            return os.access(path, os.X_OK)
        answer = subprocess.run(  # noqa: S603, a path as argument, no shell
            ["/usr/bin/test", "-x", path],
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd="/",
            check=False,
        )
        return answer.returncode == 0


def server_identity(cluster: Path) -> Identity:
    """Choose the user; an existing `cluster` directory belongs to the one that made it."""
    owner = cluster.stat().st_uid if cluster.exists() else None
    if (uid := os.geteuid()) != 0:
        if owner not in {None, uid}:
            raise EmbeddedError(f"{cluster} belongs to {_name(owner)}: run as that user or as root")
        return Identity(_name(uid), uid, os.getegid(), switched=False)
    for name in (_name(owner),) if owner else STAND_INS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(name, user.pw_uid, user.pw_gid, switched=True)
    raise EmbeddedError(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as"
    )


def _name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:  # a container's numeric user
        return str(uid)
