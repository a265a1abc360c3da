"""What the demo shows on the terminal."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dispatcher.tools.demo.story import RETRY_DELAYS_S
from dispatcher.tools.receipt import Check
from dispatcher.tools.terminal import Paint, duration, moment, say
from dispatcher.tools.words import describe

if TYPE_CHECKING:
    from dispatcher.tools.demo.daemon import Daemon
    from dispatcher.tools.demo.story import Scene, Subscriber
    from dispatcher.tools.demo.tally import Arrival, Tally
    from dispatcher.tools.receipt import Receipt
    from dispatcher.tools.receiver import Reply


class Screen:
    """Prints the demo, line by line."""

    def __init__(self) -> None:
        self._paint = Paint(sys.stdout)
        self._places: dict[str, str] = {}  # event id → where it is, for the revisions

    def step(self, text: str) -> None:
        """Say what is being done."""
        say(f"{self._paint('·', 'cyan')} {text}")

    def webhook(self, subscriber: Subscriber, webhook: str) -> None:
        """Tell of a registered webhook."""
        note = "; answers 500 to its first request" if subscriber.fails_once else ""
        self.step(f"{webhook}  {subscriber.name:<8} hears {', '.join(subscriber.events)}{note}")

    def delays(self) -> None:
        """Say that the demo does not wait as long as the guide says."""
        shown = ", ".join(f"{delay_s:g}" for delay_s in RETRY_DELAYS_S)
        self.step(f"retries come after {shown} s here; the guide's, the default, are 1, 5 and 30 minutes")

    def scene(self, scene: Scene, total: int) -> None:
        """Show an event."""
        paint, event = self._paint, scene.event
        number = paint(f"{scene.number:>3}/{total}", "dim")
        words = describe(event.type, scene.data)
        event_id = scene.data.get("event_id", "")
        if place := scene.data.get("location_description"):
            self._places[event_id] = place
        elif event_id in self._places:
            words = words.replace(event_id, f"revised, {self._places[event_id]}", 1)
        say(
            "",
            f"{number}  {paint(words, 'bold')}",
            paint(f"        {event.type}, published {moment(event.occurred_at)}", "dim"),
        )

    def arrival(self, arrival: Arrival, *, late: bool) -> None:
        """Show a request; `late` when another event was shown since."""
        paint, receipt = self._paint, arrival.receipt
        fine = arrival.status is not None and arrival.status // 100 == 2
        parts = [
            f"{arrival.subscriber.name:<8}",
            f"attempt {receipt.attempt}",
            self._signatures(receipt),
            f"{duration(arrival.latency_s):>8}",
            paint(str(arrival.status), "green") if fine else paint(f"{arrival.status}, on purpose", "yellow"),
        ]
        if late or receipt.attempt > 1:
            parts.append(paint(f"(event {arrival.scene.number}, {receipt.delivery_id})", "dim"))
        say(f"      {paint('→', 'green' if fine else 'yellow')} {'  '.join(parts)}")

    def _signatures(self, receipt: Receipt) -> str:
        checks = (receipt.grillo, receipt.standard)
        if all(check is Check.VALID for check in checks):
            return self._paint("✓ both signatures", "green")
        return self._paint(f"✗ signatures {checks[0]}, {checks[1]}", "red")

    def stranger(self, receipt: Receipt, reply: Reply) -> None:
        """Show a request that the story did not announce: somebody plays."""
        envelope, age_s = receipt.envelope() or {}, receipt.age_s()
        say(
            "",
            f"        {self._paint(describe(receipt.event, envelope.get('data')) or receipt.event, 'bold')}",
            f"      {self._paint('→', 'cyan')} {receipt.path[1:]:<8}  attempt {receipt.attempt}  "
            f"{self._signatures(receipt)}  {reply.status}"
            + ("" if age_s is None else f"  {duration(age_s)} after its timestamp"),
        )

    def summary(self, tally: Tally, problems: list[str]) -> None:
        """Sum up, with everything that is missing or wrong."""
        paint = self._paint
        again = tally.retried
        say(
            "",
            f"{tally.events} events, {tally.expected} deliveries expected: {tally.accepted} arrived, "
            f"{tally.verified} verified by both signatures",
        )
        if again:
            say(f"{len(again)} refused on purpose, and retried with the same delivery id and the same bytes")
        if latencies_s := tally.latencies_s():
            middle, last = latencies_s[len(latencies_s) // 2], latencies_s[-1]
            say(f"from COMMIT to arrival: median {duration(middle)}, slowest {duration(last)}")
        for problem in problems:
            say(paint(f"✗ {problem}", "red"))
        if not problems:
            say(paint("✓ the database's history says the same: every one delivered", "green"))

    def invitation(self, daemon: Daemon, key: str) -> None:
        """Tell how to play on."""
        config = ["--config", str(daemon.config_path)]
        program = str(Path(sys.argv[0]))
        sensor = '{"sensor_id":"sen_mine","station_code":"MINE","last_seen":"2024-01-15T14:30:00Z"}'
        insert = (
            "INSERT INTO outbox (type, data) VALUES ('event.detected', json_build_object("
            "'event_id', 'evt_mine', 'origin_time', now(), 'latitude', 37.77, 'longitude', -122.42, "
            "'magnitude', 4.2))"
        )
        say(
            "",
            self._paint("It keeps running. From another terminal:", "bold"),
            f'  {daemon.psql_line()} -c "{insert}"',
            f"  echo {shlex.quote(sensor)} | {shlex.join([program, 'emit', 'sensor.offline', *config])}",
            f"  {shlex.join([program, 'history', '--follow', *config])}",
            f"  curl -H 'Authorization: Bearer {key}' {daemon.api_url}/v1/webhooks",
            self._paint("In a browser, the dashboard:", "bold"),
            f"  {daemon.api_url}/ and log in with {key}",
            "Ctrl-C ends everything and removes its files.",
        )
