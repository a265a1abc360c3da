"""systemd's protocols, with real sockets; and the unit, judged by systemd's own tools."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from dispatcher.config import Config
from dispatcher.daemon.systemd import Service, listen_fds, notify, watchdog_interval_s

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
UNIT = UNITS / "grillo-dispatcher.service"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
SOCKETS = sorted(path.name for path in UNITS.glob("*.socket"))


def needs(program: str) -> pytest.MarkDecorator:
    """Skip, and say so, where a program is missing."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """Listen as the manager does; yields its socket, and the name that a service is told."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@dispatcher-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(5)
        receiver.bind(name.replace("@", "\0") if name.startswith("@") else name)
        yield receiver, name


def test_states_arrive_as_datagrams(manager: tuple[socket.socket, str]) -> None:
    """Both kinds of socket names are in use: paths on hosts, abstract ones in containers."""
    receiver, name = manager
    assert notify("READY=1\nSTATUS=Übersicht", {"NOTIFY_SOCKET": name})
    assert "READY=1\nSTATUS=Übersicht" == receiver.recv(4096).decode()


def test_who_ends_is_ready_no_more(
    manager: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was still starting, or misses PostgreSQL, once it was told to end: no start has succeeded."""
    receiver, name = manager
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    service = Service("it")
    service.stopping()
    service.ready()
    service.database_is("no answer")
    service.reload(lambda: None)
    told = ["STOPPING=1", "STATUS=it", "STATUS=it, waiting for PostgreSQL: no answer"]
    assert told == [receiver.recv(4096).decode() for _ in told]
    receiver.setblocking(False)
    with pytest.raises(BlockingIOError):
        receiver.recv(4096)


@pytest.mark.parametrize("name", ["", "/nowhere/notify", "@dispatcher-nobody-listens"])
def test_without_a_manager_nothing_happens(name: str) -> None:
    """A service that is started by hand goes on."""
    assert not notify("READY=1", {"NOTIFY_SOCKET": name})


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(
    environ: dict[str, str], interval_s: float | None
) -> None:
    """sd_watchdog_enabled(3): half the limit, and only for the process that is meant."""
    assert interval_s == watchdog_interval_s(environ)


def test_no_sockets_are_taken_that_were_meant_for_another_process() -> None:
    """The variables are inherited by children, the sockets are not theirs."""
    assert {} == listen_fds({})
    assert {} == listen_fds({"LISTEN_FDS": "1", "LISTEN_PID": "1"})


def test_two_sockets_of_one_name_are_refused() -> None:
    """One of them would stay unserved, in silence."""
    environ = {"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "api:api"}
    with pytest.raises(ValueError, match="FileDescriptorName= of its own, got api:api"):
        listen_fds(environ)


SERVED_ONCE = """
from dispatcher.daemon.systemd import listen_fds
import os
sockets = listen_fds()
assert not any(os.get_inheritable(s.fileno()) for s in sockets.values())
sockets["api"].setblocking(True)
peer, _ = sockets["api"].accept()
peer.sendall(",".join(f"{name}={s.getsockname()}" for name, s in sorted(sockets.items())).encode())
"""


@needs("systemd-socket-activate")
def test_sockets_of_a_socket_unit_are_served(tmp_path: Path) -> None:
    """Connections that came before the process did are accepted by it."""
    api, ops = str(tmp_path / "api"), str(tmp_path / "ops")
    command = [
        "systemd-socket-activate",
        "-l",
        api,
        "-l",
        ops,
        "--fdname=api:ops",
        sys.executable,
        "-c",
        SERVED_ONCE,
    ]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as activated:
        assert activated.stderr is not None
        for line in activated.stderr:  # it names each socket that listens, then waits for a connection
            if f"Listening on {ops}" in line:
                break
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(api)
            answer = client.recv(4096).decode()
        assert 0 == activated.wait(20)
    assert f"api={api},ops={ops}" == answer


@pytest.fixture
def startable_units(tmp_path: Path) -> Path:
    """Copy the units, with a program that exists on this machine."""
    for name in (*SERVICES, *SOCKETS):
        text = (UNITS / name).read_text("utf-8")
        program = "ExecStart=/opt/grillo-dispatcher/bin/dispatcher"
        assert (name in SERVICES) == text.count(f"\n{program} ")
        (tmp_path / name).write_text(text.replace(program, "ExecStart=/bin/true"), "utf-8")
    return tmp_path


@needs("systemd-analyze")
@pytest.mark.parametrize("name", [*SERVICES, *SOCKETS])
def test_systemd_finds_nothing_wrong_with_the_units(startable_units: Path, name: str) -> None:
    """An unknown key is only a line on standard error, so that must stay empty."""
    verified = subprocess.run(
        ["systemd-analyze", "verify", startable_units / name],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{startable_units}:"},
    )
    assert ("", 0) == (verified.stderr, verified.returncode)


@needs("systemd-analyze")
@pytest.mark.parametrize("name", SERVICES)
def test_the_units_exposure_is_at_most_1_5(startable_units: Path, name: str) -> None:
    """The product's promise, in the tenths that --threshold counts."""
    judged = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager"),
            startable_units / name,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == judged.returncode, judged.stdout[-200:] + judged.stderr


def read_unit(name: str) -> ConfigParser:
    """Read a unit as systemd does, as far as that matters here."""
    unit = ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # keys keep their case, as documented
    unit.read(UNITS / name, "utf-8")
    return unit


def test_the_sockets_are_where_the_daemon_would_listen() -> None:
    """By name and by address, so that enabling them changes nothing for clients."""
    sockets = [read_unit(name)["Socket"] for name in SOCKETS]
    listening = {one["FileDescriptorName"]: one["ListenStream"] for one in sockets}
    assert {"api": Config().api.listen, "ops": Config().ops.listen} == listening
    assert {"grillo-dispatcher.service"} == {one["Service"] for one in sockets}


def test_both_services_are_shut_in_alike() -> None:
    """What the daemon may not do, a migration need not either; but each has its own login."""
    daemon, migrate = (
        read_unit(name)["Service"] for name in (UNIT.name, "grillo-dispatcher-migrate.service")
    )
    sandbox = [key for key in daemon if key.startswith(("Protect", "Private", "Restrict", "System", "Capab"))]
    assert len(sandbox) > 15
    assert [] == [key for key in sandbox if daemon[key] != migrate.get(key)]
    assert migrate["LoadCredential"] == "database_url:/etc/grillo-dispatcher/owner_database_url"


def test_the_unit_fits_the_defaults() -> None:
    """The manager must not kill what the dispatcher still drains, and must leave it enough files."""
    unit = read_unit(UNIT.name)
    service, delivery = unit["Service"], Config().delivery
    assert float(service["TimeoutStopSec"]) > delivery.drain_s >= delivery.timeout_s
    assert int(service["LimitNOFILE"]) > delivery.max_in_flight
    assert "2" == service["RestartPreventExitStatus"]
