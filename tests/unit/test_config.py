"""The configuration: what is read, from where, in which order, and how mistakes are told."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest

from dispatcher.config import (
    Config,
    ConfigError,
    Database,
    Secrets,
    listen_address,
    load,
    redacted,
    without_password,
)

KEY = base64.b64encode(bytes(range(32))).decode()


def problems(text: str, tmp_path: Path, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    """Load a file that must be refused, and give what was said about it."""
    file = tmp_path / "config.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as refusal:
        load(file, environ or {})
    return tuple(problem.replace(f" ({file})", "") for problem in refusal.value.problems)


def test_without_any_source_the_defaults_hold() -> None:
    """No file is looked for that nobody named."""
    assert Config() == load(None, {})


def test_later_sources_win(tmp_path: Path) -> None:
    """File, then environment, then credential."""
    file = tmp_path / "config.toml"
    file.write_text(
        '[database]\nurl = "postgresql://file/a"\nport = 1\n[delivery]\ntimeout_s = 11\nmax_in_flight = 7\n',
        "utf-8",
    )
    (tmp_path / "database_url").write_text("postgresql://credential/a\n", "utf-8")
    environ = {
        "DISPATCHER_DATABASE__URL": "postgresql://environment/a",
        "DISPATCHER_DELIVERY__TIMEOUT_S": "12",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }
    config = load(file, environ)
    assert ("postgresql://credential/a", 1) == (config.database.url, config.database.port)
    assert (12.0, 7) == (config.delivery.timeout_s, config.delivery.max_in_flight)


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    """`$DISPATCHER_CONFIG` stands in for --config, which wins over it."""
    named, given = tmp_path / "named.toml", tmp_path / "given.toml"
    named.write_text('data_dir = "named"', "utf-8")
    given.write_text('data_dir = "given"', "utf-8")
    environ = {"DISPATCHER_CONFIG": str(named)}
    assert "named" == load(None, environ).data_dir
    assert "given" == load(given, environ).data_dir


@pytest.mark.parametrize("text", ["[60, 2.5]", "60, 2.5", "60,2.5,"])
def test_lists_in_the_environment_are_json_or_have_commas(text: str) -> None:
    """Both forms are common in unit files and containers."""
    assert (60.0, 2.5) == load(None, {"DISPATCHER_DELIVERY__RETRY_DELAYS_S": text}).delivery.retry_delays_s


def test_an_empty_list_means_no_retries() -> None:
    """The operator may want exactly one attempt."""
    assert () == load(None, {"DISPATCHER_DELIVERY__RETRY_DELAYS_S": ""}).delivery.retry_delays_s


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("0", False)])
def test_booleans_in_the_environment(text: str, value: bool) -> None:  # noqa: FBT001 - the value under test
    """The usual spellings are understood."""
    assert value == load(None, {"DISPATCHER_DELIVERY__REQUIRE_HTTPS": text}).delivery.require_https


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[delivery]\ntimeout_s = -5",
            "delivery.timeout_s: expected a number of seconds above 0 (at most 30 days), got -5",
        ),
        (
            "[delivery]\ntimeout_s = nan",
            "delivery.timeout_s: expected a number of seconds above 0 (at most 30 days), got nan",
        ),
        (
            "[delivery]\ntimeout_s = inf",
            "delivery.timeout_s: expected a number of seconds above 0 (at most 30 days), got inf",
        ),
        (
            '[delivery]\ntimeout_s = "5"',
            "delivery.timeout_s: expected a number of seconds above 0 (at most 30 days), got '5'",
        ),
        (
            "[delivery]\nmax_in_flight = 0",
            "delivery.max_in_flight: expected a whole number from 1 to 10000000, got 0",
        ),
        (
            "[delivery]\nmax_in_flight = 2.5",
            "delivery.max_in_flight: expected a whole number from 1 to 10000000, got 2.5",
        ),
        ('[delivery]\nrequire_https = "no"', "delivery.require_https: expected true or false, got 'no'"),
        (
            "[retention]\ndays = 40000",
            "retention.days: expected a whole number of days from 1 to 36500, got 40000",
        ),
        (
            "[api]\nmax_body_bytes = 9999999999999",
            "api.max_body_bytes: expected a whole number of bytes from 1 to 1099511627776, got 9999999999999",
        ),
        ("[retention]\ndays = 0", "retention.days: expected a whole number of days from 1 to 36500, got 0"),
        (
            "[database]\nport = 65536",
            "database.port: expected a port from 0 (any free one) to 65535, got 65536",
        ),
        (
            '[log]\nlevel = "loud"',
            "log.level: expected one of 'debug', 'info', 'warning', 'error', got 'loud'",
        ),
        ("data_dir = 5", "data_dir: expected text, got 5"),
        (
            'data_dir = "a\\u0000b"',
            "data_dir: expected a directory, such as var or /var/lib/grillo-dispatcher, got 'a\\x00b'",
        ),
        ("delivery = 5", "delivery: expected a table, written [delivery], got 5"),
        (
            "[delivery]\nallowed_networks = ['10.0.0.1/8']",
            "delivery.allowed_networks: '10.0.0.1/8' names a host inside its network; write 10.0.0.0/8",
        ),
        (
            "[delivery]\nallowed_networks = ['10.0.0.0/33']",
            "delivery.allowed_networks: '10.0.0.0/33' is no network in CIDR notation, such as 10.20.0.0/16",
        ),
        (
            "[delivery]\nconnect_timeout_s = 31",
            (
                "delivery.connect_timeout_s: expected at most delivery.timeout_s (30),"
                " which covers the connect too, got 31"
            ),
        ),
        (
            "[api]\nlisten = '127.0.0.1:9470'",
            "ops.listen: expected another address than api.listen, got 127.0.0.1:9470 for both",
        ),
        (
            "[database]\nurl = 'mysql://a:hush@b/c'",
            (
                "database.url: expected postgresql://user:password@host:port/name,"
                " or nothing for the embedded server, got 'mysql://a:***@b/c'"
            ),
        ),
        (
            "[secrets]\nencryption_key = 'aHVzaA=='",
            "secrets.encryption_key: expected 32 bytes in base64; make one with: openssl rand -base64 32",
        ),
        ("[secrets]\nencryption_key = 5", "secrets.encryption_key: expected text, got something else"),
        ("[delivery]\ntime_out_s = 5", "delivery.time_out_s: unknown key; did you mean delivery.timeout_s?"),
        ("timeout_s = 5", "timeout_s: unknown key; did you mean delivery.timeout_s?"),
        ("[plumbing]\nvalve = 5", "plumbing.valve: unknown key; remove it"),
        ("[plumbing]", "plumbing: unknown key; remove it"),
    ],
)
def test_a_mistake_names_its_key_and_what_to_do(text: str, problem: str, tmp_path: Path) -> None:
    """One mistake, one sentence; secrets are never repeated."""
    assert (problem,) == problems(text, tmp_path)


@pytest.mark.parametrize("delays", ["[0]", "[60, -1]", "[" + "60," * 21 + "]", '["soon"]', "60"])
def test_impossible_retry_delays(delays: str, tmp_path: Path) -> None:
    """Up to twenty delays, each above zero."""
    (problem,) = problems(f"[delivery]\nretry_delays_s = {delays}", tmp_path)
    assert problem.startswith(
        "delivery.retry_delays_s: expected a list of at most 20 delays in seconds above 0"
    )


def test_twenty_retries_are_possible() -> None:
    """The limit itself is allowed."""
    assert 20 == len(load(None, {"DISPATCHER_DELIVERY__RETRY_DELAYS_S": "1," * 20}).delivery.retry_delays_s)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """An operator should not have to start the daemon once for each mistake."""
    text = "wrong = 1\n[delivery]\ntimeout_s = -1\nmax_in_flight = 0\n[ops]\nlisten = 'nowhere'\n"
    told = problems(
        text, tmp_path, {"DISPATCHER_LOG__LEVL": "info", "DISPATCHER_API__RATE_LIMIT_PER_MINUTE": "x"}
    )
    assert {
        "wrong",
        "DISPATCHER_LOG__LEVL",
        "delivery.timeout_s",
        "delivery.max_in_flight",
        "ops.listen",
        "api.rate_limit_per_minute",
    } == {problem.partition(":")[0] for problem in told}


def test_an_unknown_variable_is_an_error() -> None:
    """A misspelt variable must not be ignored in silence."""
    with pytest.raises(ConfigError) as refusal:
        load(None, {"DISPATCHER_DELIVERY_TIMEOUT_S": "5"})
    expected = "unknown variable; did you mean DISPATCHER_DELIVERY__TIMEOUT_S? (environment)"
    assert f"DISPATCHER_DELIVERY_TIMEOUT_S: {expected}" == str(refusal.value)


def test_a_problem_says_where_the_value_came_from() -> None:
    """The same key may be set in three places."""
    with pytest.raises(ConfigError, match=r"got '-1' \(DISPATCHER_DELIVERY__TIMEOUT_S\)"):
        load(None, {"DISPATCHER_DELIVERY__TIMEOUT_S": "-1"})


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A path that was given must exist."""
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read: No such file or directory"):
        load(tmp_path / "absent.toml", {})


def test_a_file_that_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    """The parser's own position is passed on."""
    (problem,) = problems("data_dir =\n", tmp_path)
    assert problem.startswith(f"{tmp_path / 'config.toml'}: is not TOML: ")
    assert "line 1" in problem


def test_credentials_are_trimmed_and_checked(tmp_path: Path) -> None:
    """`openssl rand -base64 32 > file` leaves a line end behind."""
    (tmp_path / "encryption_key").write_text(KEY + "\n", "utf-8")
    assert KEY == load(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).secrets.encryption_key
    (tmp_path / "encryption_key").write_text("hush", "utf-8")
    with pytest.raises(
        ConfigError, match=r"^secrets\.encryption_key: expected 32 bytes .*\(credential encryption_key\)$"
    ):
        load(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_previous_key_stands_beside_a_present_one(tmp_path: Path) -> None:
    """While the key changes there are two; the one before alone is a mistake."""
    (tmp_path / "previous_encryption_key").write_text(KEY + "\n", "utf-8")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"expected secrets\.encryption_key beside it"):
        load(None, environ)
    (tmp_path / "encryption_key").write_text(KEY + "\n", "utf-8")
    assert KEY == load(None, environ).secrets.previous_encryption_key


@pytest.mark.parametrize(
    "url", ["", "http://proxy:3128", "http://user:p%40ss@10.0.0.1:8080/", "http://[fd00::1]:3128"]
)
def test_proxy_urls(url: str) -> None:
    """An http proxy with its port, perhaps with a user; by a credential too."""
    assert url == load(None, {"DISPATCHER_DELIVERY__PROXY_URL": url}).delivery.proxy_url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "proxy:3128",
            "https://u:hunter2@proxy:3128",
            "socks5://u:hunter2@proxy:1080",
            "http://u:hunter2@proxy",
        ),
        *("http://u:hunter2@:3128", "http://u:hunter2@proxy:99999", "http://u:hunter2@proxy:3128/path"),
        *(
            "http://u:hunter2@proxy:3128?x",
            "http://u:hunter2@proxy:0",
            "http://u:hun/ter2@proxy:1",
            "u:hunter2@p:1",
        ),
        *("http://u:hunter2@pr oxy:1", "http://u:hunter2@proxy:1\r\nX: y"),
    ],
)
def test_what_is_no_proxy_url(url: str) -> None:
    """The error names the key and what was expected, and hides the password however it is written."""
    with pytest.raises(ConfigError, match=r"^delivery\.proxy_url: expected http://host:port") as raised:
        load(None, {"DISPATCHER_DELIVERY__PROXY_URL": url})
    assert "ter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:8080", ("::1", 8080)),
        ("[::ffff:127.0.0.1]:1", ("::ffff:127.0.0.1", 1)),
        ("localhost:0", ("localhost", 0)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_listen_addresses(text: str, address: tuple[str, int]) -> None:
    """Host and port, IPv6 in brackets."""
    host, port = listen_address(text)
    assert address[1] == port
    assert address[0].replace("127.0.0.1", "7f00:1") == host.replace("127.0.0.1", "7f00:1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":8080",
        "::1:8080",
        "[::1]",
        "[zz]:1",
        "host:",
        "host:65536",
        "host:-1",
        "1.2.3:80",
        "a b:1",
        "h:\u0661",
    ],
)
def test_what_is_no_listen_address(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="expected"):
        listen_address(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hush@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u:hu@sh@h/d", "postgresql://u:***@h/d"),
        ("postgresql:///d?host=/run&password=hush&x=1", "postgresql:///d?host=/run&password=***&x=1"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("", ""),
    ],
)
def test_passwords_in_database_urls_are_hidden(url: str, shown: str) -> None:
    """Wherever libpq would read one."""
    assert shown == without_password(url)


def test_neither_repr_nor_redaction_shows_a_secret() -> None:
    """A configuration may end up in a log, a traceback or a bug report."""
    config = Config(database=Database(url="postgresql://u:hush@h/d"), secrets=Secrets(encryption_key=KEY))
    for text in (repr(config), str(config), f"{config.database!r}", str(redacted(config))):
        assert "hush" not in text
        assert KEY not in text
    assert "***" == redacted(config)["secrets"]["encryption_key"]
    assert Config().delivery.timeout_s == redacted(config)["delivery"]["timeout_s"]


def test_the_configuration_cannot_change() -> None:
    """It is read once and shared by everyone."""
    with pytest.raises(AttributeError):
        setattr(Config(), "data_dir", "elsewhere")  # noqa: B010 - mypy refuses the plain assignment, as it should
    assert Config.__struct_config__.frozen
    assert all(
        field.type.__struct_config__.frozen
        for field in msgspec.structs.fields(Config)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
    )
