"""The command line: what is accepted, and what each end is called."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from dispatcher.cli import _end, main
from dispatcher.config import Config, Database, Delivery, Ops, Secrets, load, redacted
from dispatcher.core.errors import DatabaseUnavailable, OperatorError
from dispatcher.store.embedded import EmbeddedError
from dispatcher.tools.arguments import parse
from dispatcher.tools.commands import COMMANDS, WITHOUT_CONFIGURATION
from dispatcher.tools.configuration import toml_lines, warnings

EVERY_COMMAND = [
    ["serve"],
    ["migrate"],
    ["check-config"],
    ["org", "create", "acme"],
    ["org", "list"],
    ["key", "create"],
    ["key", "list"],
    ["key", "revoke", "key_1"],
    ["event-type", "add", "station.moved", "--description", "moved", "--sample", "{}"],
    ["event-type", "list"],
    ["emit"],
    ["listen"],
    ["history"],
    ["demo"],
    ["rekey"],
    ["doctor"],
    ["status"],
    ["top"],
    ["completion", "bash"],
    ["verify"],
    ["shards"],
    ["rebase"],
]


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_every_command_takes_the_configuration_before_or_after_its_arguments(command: list[str]) -> None:
    """`--config FILE` may stand on either side; without it there is none."""
    assert "x.toml" == parse(["--config", "x.toml", *command]).config
    assert "x.toml" == parse([*command, "--config", "x.toml"]).config
    assert "x.toml" == parse([command[0], "--config", "x.toml", *command[1:]]).config
    assert parse(command).config is None


def test_every_accepted_command_does_something() -> None:
    """What the parser accepts is either handled by itself or in the table of commands."""
    accepted = {parse(command).command for command in EVERY_COMMAND}
    assert accepted == {*COMMANDS, *WITHOUT_CONFIGURATION, "serve", "check-config", "completion"}


WITHOUT_A_RESULT = {
    "serve": "it runs until it is told to end; its log is JSON",
    "demo": "it is a show for people, and its status says whether all went well",
    "completion": "it prints a script, which a shell reads",
}


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_every_command_with_a_result_gives_it_to_programs(command: list[str]) -> None:
    """By `--json`; those without a result are named, with the reason."""
    if parse(command).command in WITHOUT_A_RESULT:
        with pytest.raises(SystemExit):
            parse([*command, "--json"])
    else:
        assert parse([*command, "--json"]).json


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_every_option_is_documented(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`docs/reference/cli.md` has a section on each command, with a word on each of its options."""
    name = parse(command).command
    text = (Path(__file__).parents[2] / "docs/reference/cli.md").read_text("utf-8")
    sections = {part.partition("`")[0]: part for part in text.split("\n## `dispatcher ")[1:]}
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help", "--config"}
    assert [] == [option for option in sorted(options) if f"`{option}" not in sections[name]]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["org"],
        ["key", "create", "--scope", "write"],
        ["doctor", "--test"],
        ["key", "create", "--expires-in", "0"],
        ["emit", "--occurred-at", "yesterday"],
        ["listen", "--port", "65536"],
        ["listen", "--status", "100"],
        ["listen", "--hang", "--status", "500"],
        ["history", "--limit", "0"],
        ["event-type", "add", "x.y", "--sample", "{}"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_end_with_usage_and_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What does not fit is told with the usage, on standard error."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert 2 == end.value.code
    assert "usage: dispatcher" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints name and version and ends with 0."""
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert 0 == end.value.code
    assert "grillo-dispatcher 0.1.0\n" == capsys.readouterr().out


def test_a_wrong_configuration_ends_with_2_and_every_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that is wrong is told at once, a line each, and nothing is printed on standard output."""
    file = tmp_path / "wrong.toml"
    file.write_text('datadir = "x"\n[delivery]\ntimeout_s = -1\n')
    assert 2 == main(["check-config", "--config", str(file)])
    out, err = capsys.readouterr()
    assert "" == out
    assert 2 == err.count("dispatcher: ")
    assert "datadir: unknown key" in err
    assert "delivery.timeout_s: expected" in err


def test_check_config_prints_what_can_be_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The effective configuration comes as TOML that means the same; secrets do not come."""
    file = tmp_path / "config.toml"
    file.write_text(
        '[database]\nurl = "postgresql://me:hunter2@db/x"\n'
        "[delivery]\nretry_delays_s = [1, 2.5]\nrequire_https = false\n"
        f'[secrets]\nencryption_key = "{"A" * 43}="\n'
    )
    assert 0 == main(["check-config", "--config", str(file)])
    out, err = capsys.readouterr()
    assert redacted(load(file, {})) == _normal(tomllib.loads(out))
    assert "hunter2" not in out + err
    assert "AAAA" not in out + err
    assert "warning: delivery.require_https is false" in err


def test_check_config_tells_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object with the configuration, secrets hidden, and the warnings; nothing beside it."""
    file = tmp_path / "config.toml"
    file.write_text('[database]\nurl = "postgresql://me:hunter2@db/x"\n[delivery]\nrequire_https = false\n')
    assert 0 == main(["check-config", "--json", "--config", str(file)])
    out, err = capsys.readouterr()
    shown = msgspec.json.decode(out)
    assert redacted(load(file, {})) == _normal(shown["config"])
    assert "delivery.require_https is false" in shown["warnings"][0]
    assert ("", False) == (err, "hunter2" in out)


def _normal(tables: dict[str, object]) -> dict[str, object]:
    return redacted(msgspec.convert(tables, Config))


def test_toml_escapes_text() -> None:
    """A value with quotes, backslashes and line ends survives."""
    wanted = {"data_dir": 'a "b" \\ \n ü', "tail": {"rows": 3, "on": True, "list": ["x", "y"], "ratio": 0.5}}
    assert wanted == tomllib.loads("\n".join(toml_lines(wanted)))


SAFE = Config(
    database=Database(url="postgresql://localhost/x"), secrets=Secrets(encryption_key="A" * 43 + "=")
)


@pytest.mark.parametrize(
    ("config", "open_files", "expected"),
    [
        (SAFE, 10_000, []),
        (SAFE, -1, []),  # no limit
        (SAFE, 1024, ["delivery.max_in_flight"]),
        (Config(), 10_000, ["database.url", "secrets.encryption_key"]),
        (
            msgspec.structs.replace(
                SAFE,
                ops=Ops(listen="0.0.0.0:9470"),
                delivery=Delivery(
                    require_https=False, allowed_networks=("10.0.0.0/8",), retry_delays_s=(1.0,)
                ),
            ),
            10_000,
            ["delivery.require_https", "delivery.allowed_networks", "delivery.retry_delays_s", "ops.listen"],
        ),
    ],
)
def test_what_is_allowed_but_perhaps_not_meant_is_told(
    config: Config, open_files: int, expected: list[str]
) -> None:
    """Each warning begins with the key that it is about."""
    assert expected == [warning.split()[0] for warning in warnings(config, open_files)]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OperatorError("do this"), 2),
        (EmbeddedError("install that"), 2),
        (DatabaseUnavailable("refused"), 3),
        (ExceptionGroup("tasks", [ExceptionGroup("inner", [DatabaseUnavailable("refused")])]), 3),
        (KeyboardInterrupt(), 130),
        (asyncio.CancelledError(), 143),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_end_has_its_end(error: BaseException, status: int) -> None:
    """Statuses tell scripts whose turn it is; an error in a task group is the error inside."""
    assert status == _end(error)


def test_a_bug_is_no_end() -> None:
    """What nobody foresaw keeps its traceback."""
    with pytest.raises(ZeroDivisionError):
        _end(ZeroDivisionError())
