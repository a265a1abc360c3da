"""What SeisComP, Earthworm, USGS, EMSC and QuakeML catalogues write becomes rows of the outbox."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.commands import run
from tests.postgres import Database

ROOT: Final = Path(__file__).parents[2]
FEEDS: Final = ROOT / "tests" / "data" / "feeds"
HUALIEN: Final = {
    "event_id": "evt_us1000chhc",
    "origin_time": "2018-02-06T15:50:43.470Z",
    "latitude": 24.1741,
    "longitude": 121.6576,
    "depth_km": 17,
    "magnitude": 6.4,
    "magnitude_type": "mww",
    "location_description": "18km NNE of Hualian, Taiwan",
}


async def rows(database: Database) -> list[tuple[str, dict[str, Any], str, str | None]]:
    """Give the outbox: type, data, dedup_key, network."""
    connection = await database.connect()
    try:
        found = await connection.fetch(
            "select type, data::text as data, dedup_key, network_id from outbox order by id"
        )
    finally:
        await connection.close()
    return [(row["type"], json.loads(row["data"]), row["dedup_key"], row["network_id"]) for row in found]


async def test_usgs_feed(database: Database) -> None:
    """Each earthquake once, also one without a magnitude; one that was deleted is named."""
    arguments = ["emit", "--format", "geojson", "--network-id", "net_usgs", str(FEEDS / "usgs.geojson")]
    ended = await run(*arguments, url=database.url)
    assert (1, "2 inserted, 1 refused\n") == (ended.status, ended.out)
    assert ended.err.endswith("usgs.geojson, event 3: the event was deleted at its source\n")
    first, second = await rows(database)
    assert ("event.detected", HUALIEN, "evt_us1000chhc", "net_usgs") == first
    assert (None, None, -0.5) == tuple(
        second[1][name] for name in ("magnitude", "magnitude_type", "depth_km")
    )
    again = await run(*arguments, "--json", url=database.url)
    assert {"inserted": 0, "already_there": 2, "refused": 1} == json.loads(again.out)


async def test_emsc_feed_and_its_revisions(database: Database, tmp_path: Path) -> None:
    """With `--known` a later version is an `event.updated` of what changed; the same version is nothing."""
    arguments = ["emit", "--format", "geojson", "--known", str(tmp_path / "emsc.state")]
    feed, message = FEEDS / "emsc.json", FEEDS / "emsc_message.json"
    said = [
        (await run(*arguments, str(file), url=database.url)).out for file in (feed, feed, message, message)
    ]
    assert ["1 inserted\n", "0 inserted\n", "1 inserted\n", "0 inserted\n"] == said
    (kind, data, key, _), (after_kind, after, after_key, _) = await rows(database)
    assert ("event.detected", "evt_20260511_0000271", 3.4, 2.7, "md", "NORTHERN CALIFORNIA") == (
        kind,
        key,
        *(data[name] for name in ("depth_km", "magnitude", "magnitude_type", "location_description")),
    )
    changes = {"depth_km": {"old": 3.4, "new": 5}, "magnitude": {"old": 2.7, "new": 2.9}}
    assert ("event.updated", {"event_id": key, "changes": changes}) == (after_kind, after)
    assert after_key.startswith(key)


async def test_a_look_that_was_broken_off_is_repeated(database: Database, tmp_path: Path) -> None:
    """What the database refused is not remembered as told, and what it took is not inserted twice."""
    state, feed = tmp_path / "state", tmp_path / "feed.json"
    document = json.loads((FEEDS / "emsc.json").read_text())
    strange = {**document["features"][0], "id": "strange"}
    strange["geometry"] = {"type": "Point", "coordinates": [1, 91, 0]}
    arguments = ["emit", "--format", "geojson", "--known", str(state), str(feed)]
    feed.write_text(json.dumps({**document, "features": [*document["features"], strange]}))
    ended = await run(*arguments, url=database.url)
    assert (1, "1 inserted, 1 refused\n", False) == (ended.status, ended.out, state.exists())
    feed.write_text(json.dumps(document))
    assert "0 inserted, 1 already there\n" == (await run(*arguments, url=database.url)).out
    assert state.exists()


@pytest.mark.parametrize(
    ("name", "expected", "complaint"),
    [
        (
            "usgs_quakeml.xml",
            {
                "event_id": "evt_us1000778i",
                "origin_time": "2016-11-13T11:02:56.340Z",
                "latitude": -42.7373,
                "longitude": 173.054,
                "depth_km": 15.11,
                "magnitude": 7.8,
                "magnitude_type": "mww",
                "location_description": "53km NNE of Amberley, New Zealand",
            },
            "event 2: the event's type is 'not existing'",
        ),
        (
            "seiscomp_quakeml.xml",
            {
                "event_id": "evt_gfz2018cpez",
                "origin_time": "2018-02-06T15:50:42.934512Z",
                "latitude": 24.13,
                "longitude": 121.67,
                "depth_km": 10,
                "magnitude": 6.213442,
                "magnitude_type": "M",
                "location_description": "Taiwan Region",
            },
            "",
        ),
    ],
)
async def test_quakeml(database: Database, name: str, expected: dict[str, Any], complaint: str) -> None:
    """The preferred origin and magnitude, from a file or from standard input."""
    document = (FEEDS / name).read_text()
    ended = await run("emit", "--format", "quakeml", url=database.url, stdin=document)
    assert (1 if complaint else 0) == ended.status, ended.err
    assert complaint in ended.err
    assert [("event.detected", expected, expected["event_id"], None)] == await rows(database)


@pytest.mark.parametrize(
    ("arguments", "document", "words"),
    [
        (["--format", "quakeml"], "", "is empty: the source had nothing to tell, or could not be asked"),
        (["--format", "geojson"], "\n", "is empty: the source had nothing to tell, or could not be asked"),
        (["--format", "quakeml"], "<html/>", "expected QuakeML, got <html>"),
        (["--format", "quakeml"], "<quakeml>", "expected QuakeML: "),
        (["--format", "quakeml"], '<!DOCTYPE a [<!ENTITY b "c">]><quakeml/>', "no document type definition"),
        (["--format", "geojson"], "[]", "expected a GeoJSON Feature or FeatureCollection"),
        (["--format", "geojson"], "{", "expected GeoJSON"),
        (
            ["--format", "geojson", "event.detected", "feed.json"],
            "{}",
            "needs neither TYPE nor --dedup-key-field",
        ),
        (["--known", "state"], "{}", "--known: needs --format"),
    ],
)
async def test_other_documents_are_refused(
    database: Database, arguments: list[str], document: str, words: str
) -> None:
    """With what was expected, and nothing is inserted."""
    ended = await run("emit", *arguments, url=database.url, stdin=document)
    assert ended.status == 2
    assert words in ended.err
    assert [] == await rows(database)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": None, "properties": {"time": 0}}, "id: expected the event's id"),
        ({"properties": {"time": "yesterday"}}, "properties.time: expected a time"),
        ({"properties": {"time": 1e300}}, "properties.time: expected milliseconds since 1970"),
        ({"properties": {"time": 0, "mag": "big"}}, "properties.mag: expected a number"),
        ({"geometry": {"coordinates": [None, 1, 2]}}, "longitude: expected a number"),
        ({"geometry": None}, "expected a feature with a point and properties"),
    ],
)
async def test_features_that_are_none(database: Database, changes: dict[str, Any], problem: str) -> None:
    """Each is named with the field; they hold nothing else back."""
    good = json.loads((FEEDS / "usgs.geojson").read_text())["features"][0]
    feature = {**good, **changes}
    if "properties" in changes:
        feature["properties"] = {**good["properties"], **changes["properties"]}
    document = json.dumps({"type": "FeatureCollection", "features": [feature, good]})
    ended = await run("emit", "--format", "geojson", url=database.url, stdin=document)
    assert (1, "1 inserted, 1 refused\n") == (ended.status, ended.out)
    assert f"standard input, event 1: {problem}" in ended.err


async def test_earthworm_script_of_the_documentation(database: Database) -> None:
    """The script reads a hypoinverse summary line, and its output is a detection."""
    page = (ROOT / "docs" / "how-to" / "feed-earthworm.md").read_text()
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    line = "2018020615504347" + "24 1045" + "121E3946" + " 1700"
    line = f"{line.ljust(136)}  40194455W640".ljust(164)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", found[1]), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(f"{line}\n$\n".encode())
    ended = await run(
        "emit", "event.detected", "--dedup-key-field", "event_id", url=database.url, stdin=out.decode()
    )
    assert (0, "1 inserted\n") == (ended.status, ended.out), ended.err
    expected = {
        "event_id": "evt_ew40194455",
        "origin_time": "2018-02-06T15:50:43.47Z",
        "latitude": 24.17417,
        "longitude": 121.65767,
        "depth_km": 17,
        "magnitude": 6.4,
        "magnitude_type": "Mw",
    }
    assert [("event.detected", expected, "evt_ew40194455", None)] == await rows(database)


def test_the_documentation_knows_its_commands() -> None:
    """Every `dispatcher emit` of the feeds' pages is one that the command line takes."""
    pages = sorted((ROOT / "docs" / "how-to").glob("feed-*.md"))
    assert ["earthworm", "quakeml", "seiscomp", "usgs-emsc"] == [page.stem[5:] for page in pages]
    for page in pages:
        assert re.search(r"dispatcher emit (--format (geojson|quakeml)|event\.detected)", page.read_text()), (
            page
        )
