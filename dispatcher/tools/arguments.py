"""What the command line accepts: every command, its arguments, and the words of `--help`."""

from __future__ import annotations

import argparse
import datetime as dt
import math
from typing import TYPE_CHECKING, Any, Final

from dispatcher import __version__
from dispatcher.core.access import DEFAULT_ORGANIZATION, READ, SCOPES, WRITE
from dispatcher.core.sharing import MOST_SHARDS
from dispatcher.core.timestamps import parse_rfc3339
from dispatcher.tools.completion import SHELLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_SCOPES: Final = (READ, WRITE)
PRIORITIES: Final = {"alert": 0, "event": 1, "routine": 2}  # the lane that a type travels in
EXIT_STATUSES: Final = (
    "exit status: 0 done; 1 done, but something was refused or failed; 2 the arguments, the configuration or "
    "something else that you can change; 3 PostgreSQL is away; 130 interrupted"
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ends the process with status 2, and usage, for what does not fit."""
    parsed = parser().parse_args(arguments)
    if parsed.command == "doctor" and parsed.test and parsed.webhook is None:
        parser().error("doctor: --test needs a WEBHOOK")
    if parsed.command == "listen" and parsed.hang and parsed.status is not None:
        parser().error("listen: --hang gives no answer, so there is no --status to give")
    return parsed


class _Commands:
    """Adds commands that all take `--config`, before or after their own arguments."""

    def __init__(self, actions: Any, prefix: str = "") -> None:
        self._actions = actions
        self._prefix = prefix

    def add(self, name: str, words: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = self._actions.add_parser(
            name, help=words, description=f"{words[0].upper()}{words[1:]}.", epilog=EXIT_STATUSES
        )
        # SUPPRESS: the absence here must not overwrite what stood before the command.
        _add_config(parser, argparse.SUPPRESS)
        parser.set_defaults(command=f"{self._prefix}{name}")
        return parser

    def group(self, name: str, words: str) -> _Commands:
        parser = self.add(name, words)
        return _Commands(parser.add_subparsers(metavar="COMMAND", required=True), f"{name} ")


def _add_config(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument(
        "--config", metavar="FILE", default=default, help="the configuration (TOML); else $DISPATCHER_CONFIG"
    )


def parser() -> argparse.ArgumentParser:
    """Build the parser of every command."""
    root = argparse.ArgumentParser(
        prog="dispatcher",
        description="Webhook dispatcher for seismic networks: what is inserted into the outbox is delivered.",
        epilog=EXIT_STATUSES,
    )
    root.add_argument("--version", action="version", version=f"grillo-dispatcher {__version__}")
    _add_config(root, None)
    commands = _Commands(root.add_subparsers(metavar="COMMAND", required=True))
    commands.add("serve", "run the dispatcher: tail the outbox, deliver, serve the management API")
    _add_json(commands.add("migrate", "create or complete the database's schema; safe to run again"))
    _add_json(commands.add("check-config", "print the configuration as it will be used, and warn"))
    _add_administration(commands)
    _add_emit(commands.add("emit", "insert events into the outbox, as a producer would"))
    _add_listen(commands.add("listen", "receive webhooks on this machine, show them, check their signatures"))
    _add_history(commands.add("history", "show the newest deliveries"))
    _add_upkeep(commands)
    demo = commands.add("demo", "show everything at work, on real earthquakes, without any set-up")
    demo.add_argument(
        "--once", action="store_true", help="end after the replay: 0 if all arrived and verified"
    )
    completion = commands.add("completion", "print the script that lets a shell complete these commands")
    completion.add_argument("shell", choices=SHELLS, help="bash, zsh or fish")
    return root


def _add_administration(commands: _Commands) -> None:
    org = commands.group("org", "organizations: who owns webhooks and keys")
    create = org.add("create", "make an organization and print its id")
    create.add_argument("name", metavar="NAME")
    create.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="ID",
        help="a network it hears of; repeatable, * for all",
    )
    _add_json(create)
    _add_json(org.add("list", "print all organizations"))

    key = commands.group("key", "API keys")
    create = key.add("create", "make a key and print it, alone: it is shown this once")
    create.add_argument(
        "--org", default=DEFAULT_ORGANIZATION, metavar="ORG", help="name or id (default: default)"
    )
    create.add_argument(
        "--scope",
        action="append",
        choices=SCOPES,
        metavar="SCOPE",
        help=f"{', '.join(SCOPES)}; repeatable (default: {' and '.join(DEFAULT_SCOPES)})",
    )
    create.add_argument("--name", default="", help="to recognise it by")
    create.add_argument(
        "--expires-in", type=_days, metavar="DAYS", help="days until it ends (default: never)"
    )
    _add_json(create)
    listed = key.add("list", "print keys: never the key itself")
    listed.add_argument("--org", metavar="ORG", help="name or id (default: all)")
    _add_json(listed)
    revoke = key.add("revoke", "make a key worthless at once")
    revoke.add_argument("key_id", metavar="KEY_ID", help="key_…, as `dispatcher key list` shows it")
    _add_json(revoke)

    event_type = commands.group("event-type", "event types: what may be inserted")
    add = event_type.add("add", "register an event type")
    add.add_argument("name", metavar="NAME", help="lower-case words joined by points, such as station.moved")
    add.add_argument("--description", required=True, metavar="TEXT")
    add.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="NAME:KIND",
        help="a field that `data` must have; repeatable. Kinds: string, number, integer, boolean, object, "
        "array, timestamp, latitude, longitude; `|null` behind it: or null; `?`: or null or absent",
    )
    add.add_argument(
        "--sample", metavar="FILE|JSON", help="an example of `data` (default: one is made of the fields)"
    )
    add.add_argument(
        "--priority",
        choices=tuple(PRIORITIES),
        default="event",
        help="what overtakes what: alert, then event, then routine (default: %(default)s)",
    )
    _add_json(add)
    _add_json(event_type.add("list", "print all event types and the fields they need"))


def _add_emit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "event_type",
        metavar="TYPE",
        nargs="?",
        default="-",
        help="of bare data; - where each line has its own",
    )
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="- or nothing: standard input")
    parser.add_argument(
        "--format",
        choices=("rows", "geojson", "quakeml"),
        default="rows",
        help="rows: JSON as above (default); geojson, quakeml: earthquakes of a feed or a catalogue, then "
        "without TYPE",
    )
    parser.add_argument(
        "--known",
        metavar="STATE",
        help="with --format: a file that remembers what was told, so that a revision becomes event.updated",
    )
    parser.add_argument("--network-id", metavar="ID", help="the network of every row")
    parser.add_argument(
        "--occurred-at", type=_time, metavar="TIME", help="of rows without a timestamp (default: now)"
    )
    parser.add_argument(
        "--dedup-key-field", metavar="FIELD", help="the field of `data` whose value becomes the dedup_key"
    )
    parser.add_argument("--atomic", action="store_true", help="all rows or none; else each row for itself")
    _add_json(parser)


def _add_listen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    parser.add_argument("--port", type=_whole(0, 65535), default=0, help="0: any free one (default)")
    parser.add_argument(
        "--secret",
        action="append",
        default=[],
        metavar="S",
        help="check signatures; repeat it for several secrets",
    )
    parser.add_argument(
        "--fail",
        nargs="?",
        type=_whole(0, 1_000_000),
        const=math.inf,
        metavar="N",
        help="fail the first N attempts of each delivery; without N, all",
    )
    parser.add_argument(
        "--status",
        type=_whole(200, 599),
        metavar="CODE",
        help="what failing means (default: 500); alone: always",
    )
    parser.add_argument("--hang", action="store_true", help="failing means no answer at all; alone: always")
    parser.add_argument("--delay", type=_seconds, default=0.0, metavar="S", help="seconds before each answer")
    _add_json(parser)


def _add_history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("webhook", metavar="WEBHOOK", nargs="?", help="whk_…; all webhooks without it")
    parser.add_argument("--follow", action="store_true", help="then show attempts as they are recorded")
    parser.add_argument(
        "--limit", type=_whole(1, 10_000), default=20, metavar="N", help="(default: %(default)s)"
    )
    _add_json(parser)


def _add_upkeep(commands: _Commands) -> None:
    doctor = commands.add("doctor", "find out why a webhook, or the dispatcher itself, does not work")
    doctor.add_argument("webhook", metavar="WEBHOOK", nargs="?", help="whk_…; without it the installation")
    doctor.add_argument(
        "--test", action="store_true", help="also send the webhook a test, and wait for its answer"
    )
    _add_json(doctor)
    _add_json(commands.add("status", "show who leads, how far each lane is, and what is pending"))
    top = commands.add("top", "watch the lanes and the slowest webhooks, live")
    top.add_argument(
        "--every", type=_seconds, default=2.0, metavar="S", help="seconds (default: %(default)g)"
    )
    top.add_argument("--count", type=_whole(1, 1_000_000), metavar="N", help="how often (default: for ever)")
    top.add_argument(
        "--webhooks", type=_whole(1, 1000), default=15, metavar="N", help="how many (default: %(default)s)"
    )
    _add_json(top)
    verify = commands.add("verify", "rebuild every state from the recorded facts and compare")
    verify.add_argument(
        "--since", type=_date, metavar="DATE", help="only events recorded from this UTC day on (default: all)"
    )
    _add_json(verify)
    rekey = commands.add("rekey", "replace the key that the webhooks' secrets are encrypted with")
    rekey.add_argument(
        "--new-key-file",
        metavar="FILE",
        help="the new key, 32 bytes in base64 (default: secrets.encryption_key where the one before is set "
        "too; a random one where none is configured)",
    )
    _add_json(rekey)
    shards = commands.add("shards", "show into how many shards the webhooks are divided, or divide them anew")
    shards.add_argument(
        "count",
        nargs="?",
        type=_whole(1, MOST_SHARDS),
        metavar="N",
        help="divide them into so many; no dispatcher may run meanwhile",
    )
    _add_json(shards)
    rebase = commands.add("rebase", "take over a database that was restored from a backup, or moved")
    rebase.add_argument("--yes", action="store_true", help="do it; without this, only say what it would do")
    rebase.add_argument(
        "--same-xids",
        action="store_true",
        help="nothing was lost and transaction ids are the same, as after pg_upgrade",
    )
    _add_json(rebase)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: one JSON object a line")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text!r}")
        return int(text)

    return read


def _positive(text: str, most: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"expected {what} above 0, at most {most:g}, got {text!r}")
    return value


def _days(text: str) -> float:
    return _positive(text, 36_500, "a number of days")


def _seconds(text: str) -> float:
    return _positive(text, 86_400, "a number of seconds")


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a day such as 2026-11-21, got {text!r}") from None


def _time(text: str) -> dt.datetime:
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
