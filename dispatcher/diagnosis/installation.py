"""Examines the installation itself: database, schema, rights, clocks, key, machine, progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dispatcher.core.errors import DatabaseUnavailable, OperatorError
from dispatcher.diagnosis.finding import Finding, fail, ok, short_time, skipped, warn, words
from dispatcher.diagnosis.machine import examine_authorities, examine_disk, examine_files
from dispatcher.diagnosis.progress import examine_history, examine_lag, examine_leader, examine_partitions
from dispatcher.diagnosis.secrecy import examine_key
from dispatcher.store.inspection import Clocks, Server, compare_clocks, inspect_server
from dispatcher.store.refusals import operator_mistakes
from dispatcher.store.schema import schema_problem
from dispatcher.store.status import read_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dispatcher.config import Config
    from dispatcher.store.connection import Database

_LEAST_SERVER: Final = 14
_CLOCKS_DIFFER_S: Final = 2.0
_CLOCKS_WRONG_S: Final = 60.0  # receivers refuse timestamps that are minutes off (Standard Webhooks)
_FAR_S: Final = 0.02  # a round trip; every alert takes several
_LITTLE_LOG_BYTES: Final = 512 * 1024**2
_CHECKS: Final = (
    *("database", "server", "write_ahead_log", "clock", "rights", "schema"),
    *("partitions", "encryption_key", "leader", "outbox", "history"),
)


async def examine_installation(database: Database, config: Config) -> list[Finding]:
    """Examine everything; a database that is away is a finding, too."""
    findings = await _of_the_database(database, config)
    return [*findings, examine_files(config), examine_disk(config), examine_authorities()]


async def _of_the_database(database: Database, config: Config) -> list[Finding]:
    done: list[Finding] = []
    try:
        with operator_mistakes():
            server = await inspect_server(database)
            clocks = await compare_clocks(database)
            done += [_reachable(clocks), _server(server), _log(server), _clock(clocks)]
            done.append(_rights(server, embedded=not config.database.url))
            if server.missing_rights:
                return [*done, *_skipped(_CHECKS[5:], "that needs more rights")]
            problem = await schema_problem(database) if server.has_schema else "there is none yet"
            if problem is not None:
                done.append(
                    fail("schema", words("{problem}", problem=problem), words("Run `dispatcher migrate`."))
                )
                return [*done, *_skipped(_CHECKS[6:], "the schema is not the one that this version needs")]
            done.append(ok("schema", words("it is the one that this version needs")))
            seen = await read_status(database.link("doctor"))
    except DatabaseUnavailable as error:
        trouble = fail(
            "database",
            words("PostgreSQL is away: {error}", error=error),
            words("Start it, or correct database.url."),
        )
        return [trouble, *_skipped(_CHECKS[1:], "the database is away")]
    except OperatorError as error:
        told = {finding.check for finding in done}
        left = [check for check in _CHECKS if check not in told]
        trouble = fail(left[0], words("{error}", error=error), words("Correct what the message names."))
        return [*done, trouble, *_skipped(left[1:], "an earlier check failed")]
    return [
        *done,
        examine_partitions(seen),
        examine_key(config, seen.key_check),
        examine_leader(seen),
        examine_lag(seen),
        examine_history(seen),
    ]


def _skipped(checks: Sequence[str], reason: str) -> list[Finding]:
    return [skipped(check, words("{reason}", reason=reason)) for check in checks]


def _reachable(clocks: Clocks) -> Finding:
    found = words("PostgreSQL answers in {time}", time=short_time(clocks.round_trip_s))
    if clocks.round_trip_s > _FAR_S:
        near = words("Run the dispatcher near its database: every alert takes several round trips.")
        return warn("database", found, near)
    return ok("database", found)


def _server(server: Server) -> Finding:
    found = words("it is PostgreSQL {version}, {role}", version=server.version, role=_role(server))
    if server.number < _LEAST_SERVER * 10_000:
        old = words("PostgreSQL {least} or newer is needed: upgrade the server.", least=_LEAST_SERVER)
        return fail("server", found, old)
    if server.standby:
        return fail("server", found, words("Point database.url at the primary: a standby takes no writes."))
    return ok("server", found)


def _role(server: Server) -> str:
    return "a standby that only reads" if server.standby else "a primary"


def _log(server: Server) -> Finding:
    size = server.log_kept_bytes >> 20
    kept = words("{size} MB of the write-ahead log are kept to be used again", size=size)
    if not server.flushes:
        return warn(
            "write_ahead_log",
            words("fsync is off: a machine that loses power may lose or destroy the database"),
            words("Set fsync = on in postgresql.conf."),
        )
    if server.log_zeroed and server.log_kept_bytes < _LITTLE_LOG_BYTES:
        more = words(
            "Set min_wal_size to 1GB or more: in a storm every COMMIT, an alert's too, else waits whenever"
            " PostgreSQL makes a new segment."
        )
        return warn("write_ahead_log", kept, more)
    return ok("write_ahead_log", kept)


def _rights(server: Server, *, embedded: bool) -> Finding:
    found = words("{login} may do what the daemon does", login=server.login)
    if server.missing_rights:
        return fail(
            "rights",
            words("{login} lacks: {rights}", login=server.login, rights=", ".join(server.missing_rights)),
            words("Grant it the role dispatcher_daemon, and run `dispatcher migrate` as the schema's owner."),
        )
    if server.missing_roles:
        return warn(
            "rights",
            words(
                "{login} may do what the daemon does, but there is no role {roles}",
                login=server.login,
                roles=", ".join(server.missing_roles),
            ),
            words("Create the roles, and run `dispatcher migrate` again, which makes the grants."),
        )
    if server.open_schema:
        return warn(
            "rights",
            words("everyone who logs in may create functions where the dispatcher's look for theirs"),
            words("As the schema's owner: revoke create on schema public from public"),
        )
    if server.superuser and not embedded:
        return warn(
            "rights",
            words("{login} is a superuser, who may do anything", login=server.login),
            words("Run the daemon with a login that was granted dispatcher_daemon and nothing else."),
        )
    return ok("rights", found)


def _clock(clocks: Clocks) -> Finding:
    off_s = max(0.0, abs(clocks.ahead_s) - clocks.uncertain_s)
    found = words("this machine's clock and the database's differ by {time}", time=short_time(off_s))
    right = words("Run a time service (chrony, systemd-timesyncd) on both: signatures carry the time.")
    if off_s > _CLOCKS_WRONG_S:
        return fail("clock", found, right)
    return warn("clock", found, right) if off_s > _CLOCKS_DIFFER_S else ok("clock", found)
