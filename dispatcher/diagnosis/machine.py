"""What the machine grants: open files, disk, certificate authorities. Seen from the process that examines."""

from __future__ import annotations

import resource
import shutil
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher.config import FILES_BESIDE_REQUESTS
from dispatcher.diagnosis.finding import Finding, fail, ok, skipped, warn, words

if TYPE_CHECKING:
    from dispatcher.config import Config

_LITTLE: Final = 0.1  # of the disk
_TOO_LITTLE_BYTES: Final = 1 << 30
_GIB: Final = 1 << 30


def examine_files(config: Config) -> Finding:
    """Compare the limit of open files, which a daemon raises as far as it may, with what requests need."""
    needed = config.delivery.max_in_flight + FILES_BESIDE_REQUESTS
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    unlimited = hard == resource.RLIM_INFINITY
    found = words(
        "a process may open {limit} files here, and delivery.max_in_flight = {requests} needs {needed}",
        limit="any number of" if unlimited else hard,
        requests=config.delivery.max_in_flight,
        needed=needed,
    )
    if not unlimited and hard < needed:
        raise_it = words("Raise the limit (LimitNOFILE=, ulimit -n), or lower delivery.max_in_flight.")
        return fail("open_files", found, raise_it)
    return ok("open_files", found)


def examine_disk(config: Config) -> Finding:
    """Look at the room for the embedded PostgreSQL; another server's disk cannot be seen from here."""
    if config.database.url:
        return skipped("disk", words("PostgreSQL has a server of its own: watch its disk there"))
    place = Path(config.data_dir)
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    found = words(
        "{free} GiB of {all} GiB are free in {place}",
        free=f"{usage.free / _GIB:.1f}",
        all=f"{usage.total / _GIB:.1f}",
        place=config.data_dir,
    )
    room = words("Make room, or keep less (retention.days): a full disk stops producers and deliveries.")
    if usage.free < _TOO_LITTLE_BYTES:
        return fail("disk", found, room)
    return warn("disk", found, room) if usage.free < usage.total * _LITTLE else ok("disk", found)


def examine_authorities() -> Finding:
    """Say whether the system's certificate authorities are installed: without them every https fails."""
    paths = ssl.get_default_verify_paths()
    for place in (paths.cafile, paths.capath):
        if place and Path(place).exists() and (Path(place).is_file() or any(Path(place).iterdir())):
            return ok("authorities", words("certificate authorities are in {place}", place=place))
    return fail(
        "authorities",
        words("there are no certificate authorities on this machine, so no https server can be verified"),
        words("Install them: apt install ca-certificates"),
    )
