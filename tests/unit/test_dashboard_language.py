"""Both languages of the dashboard are complete, and say the same."""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from dispatcher.core.addresses import AddressPolicy, check_url
from dispatcher.core.certificates import certificates_problems
from dispatcher.core.delivery import State, Trigger
from dispatcher.core.filter_form import filter_problems
from dispatcher.core.outcome import ErrorClass
from dispatcher.core.webhook import events_problems, headers_problems, network_problems, secret_problems
from dispatcher.dashboard import manners, words
from dispatcher.dashboard.language import Speech, chosen
from dispatcher.dashboard.sentences import translated
from dispatcher.store.schema import schema_text

DASHBOARD = Path(__file__).parents[2] / "dispatcher" / "dashboard"
FRENCH = read_po(io.BytesIO((DASHBOARD / "locale" / "fr.po").read_bytes()), locale="fr")
FR = Speech("fr")
RINGS: list[Any] = [
    [],
    [[[0, 0]]],
    [[["a", 0]] * 4],
    [[[0, 99], [1, 1], [2, 0], [0, 99]]],
    [[[0, 0], [1, 1], [2, 0], [3, 3]]],
    [[[0, 0], [1, 1], [2, 2], [0, 0]]],
    [[[0, 0]] * 3000],
]


def marked() -> dict[str, tuple[str, ...]]:
    """Give every text that is marked for translation, with its plural where it has one."""
    found = extract_from_dir(
        str(DASHBOARD),
        method_map=[("**.py", "python"), ("**/templates/**.html", "jinja2")],
        keywords={"_": None, "gettext": None, "ngettext": (1, 2)},
    )
    doctor = extract_from_dir(
        str(DASHBOARD.parent / "diagnosis"), method_map=[("**.py", "python")], keywords={"words": None}
    )
    own = {"installation.py", "machine.py", "progress.py", "secrecy.py", "trial.py"}  # of the command alone
    messages = [one[2] for one in found] + [one[2] for one in doctor if one[0] not in own]
    forms = [(one,) if isinstance(one, str) else one for one in messages if one]
    return {one[0]: one for one in forms}


def places(text: str) -> set[str]:
    """Give what is filled in."""
    return set(re.findall(r"%\(\w+\)s|\{\w+\}", text))


def test_every_text_is_translated_and_no_translation_is_left_over() -> None:
    """Whatever is marked in the code and the templates stands in fr.po, and nothing else does."""
    texts = marked()
    assert len(texts) > 300
    translations = {
        (one.id if isinstance(one.id, str) else one.id[0]): one for one in FRENCH if one.id and not one.fuzzy
    }
    assert set(texts) == set(translations)
    for text, forms in texts.items():
        strings = translations[text].string
        french = (strings,) if isinstance(strings, str) else tuple(strings or ())
        assert len(forms) == len(french), text
        assert all(french), text
        for form, other in zip(forms, french, strict=True):
            assert places(form) - {"%(num)s"} <= places(other) | places(text), text
            assert places(other) <= places(form) | {"%(num)s"}, text


def test_no_text_of_a_template_is_left_unmarked() -> None:
    """What stands between tags is a name, a number or a call of the translator."""
    allowed = {"Grillo", "URL", "p95", "dispatcher key create", "TLS", "p99", "GeoJSON"}
    for template in sorted((DASHBOARD / "templates").glob("*.html")):
        text = re.sub(r" data-(?:live|replace)=.*", "\n", template.read_text("utf-8"))
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "\n", text, flags=re.DOTALL)
        text = re.sub(r"<[^>]*>", "\n", text)
        left = {part.strip() for part in text.split("\n")} - {""} - allowed
        assert set() == {part for part in left if re.search(r"^[A-Z][a-z]|^\w+ \w+$", part)}, template.name


def test_every_word_of_the_history_has_its_own() -> None:
    """States, triggers and error classes; the built-in event types as the schema describes them."""
    assert set(State) <= set(words.STATES)
    assert set(Trigger) == set(words.TRIGGERS)
    for error in ErrorClass:
        for status in (None, 400, 401, 403, 404, 405, 410, 413, 418, 429, 500, 502, 503, 504):
            english = words.failure(Speech("en"), status, error)
            french = words.failure(FR, status, error)
            assert english is not None
            assert french is not None
            assert english.what != french.what
            assert english.todo != french.todo
    assert [] == [text for text in words.EVENT_TYPES if f"'{text}'" not in schema_text()]
    assert len(words.EVENT_TYPES) == len(re.findall(r"^\('[a-z.]+', '", schema_text(), re.MULTILINE))


def complaints() -> Iterator[str]:
    """Give what the rules say of all kinds of bad values."""
    policy = AddressPolicy()
    urls = [
        *(
            "ftp://x",
            "https://10.0.0.1",
            "https://127.0.0.1",
            "https://localhost/",
            "https://a b",
            "https://x/#y",
        ),
        *(
            "https://u:p@x.example/",
            "https://x:0/",
            "https:///",
            "https://1.2.3.4.5/",
            "http://x.example/",
            "x" * 3000,
        ),
        *(
            "https://169.254.1.1/",
            "https://[fc00::1]/",
            "https://100.64.0.1/",
            "https://0.0.0.0/",
            "https://[::1]:x/",
        ),
        *("https://192.0.2.1/", "https://224.0.0.1/", "https://240.0.0.1/"),
    ]
    for url in urls:
        problem = check_url(url, require_https=True, policy=policy)
        assert problem is not None, url
        yield problem
    known = ["event.detected", "webhook.failing"]
    for events in ([], ["event.detekted"], ["zzz"], ["webhook.*"], ["event.detected"] * 2, ["x"] * 101):
        yield from events_problems(events, known)
    for networks in ([], ["*"], ["x" * 200], ["other"], ["net"] * 2, ["n"] * 101):
        yield from network_problems(networks, {"net"})
    for headers in (
        {str(number): "" for number in range(21)},
        {"a": "x" * 5000},
        {"a b": ""},
        {"Host": "x"},
        {"Authorization": "(hidden)"},
        {"A": "é"},
        {"A": "1", "a": "2"},
    ):
        yield from headers_problems(headers)
    conditions: list[dict[str, Any]] = [
        {"min_magnitude": 99, "max_magnitude": 99},
        {"min_magnitude": 2, "max_magnitude": 1},
        {"lat": 91, "radius": 0},
        {"bbox": [1, 2, None, 4], "station_codes": []},
        {"bbox": [-190, 2, 3, 4], "station_codes": [""]},
        {"bbox": [1, 5, 3, 4], "station_codes": ["A", "A"]},
        *({"polygon": {"type": "Polygon", "coordinates": rings}} for rings in RINGS),
        {"polygon": {"type": "Point"}},
        {"polygon": {"type": "Polygon", "coordinates": [[]], "crs": 1}},
    ]
    for condition in conditions:
        for _, problem in filter_problems(condition):
            yield problem
    texts = {**manners.BLANK, "payload": "all", "max_age_s": "0", "settle_s": "1.5", "rate_limit_per_s": "x"}
    for problems in manners.read(texts)[1].values():
        yield from problems
    for secret in ("short", "with\ncontrol", " spaces ", "whsec_!!!!!"):
        yield from secret_problems(secret)
    for text in (
        "x",
        "x" * 40_000,
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----",
    ):
        yield from certificates_problems(text)


def test_the_rules_complain_in_french_too() -> None:
    """Every kind of sentence that the core says about a field; values stay as they are."""
    said = list(complaints())
    assert len(said) > 35
    assert [] == [sentence for sentence in said if translated(FR, sentence) == sentence]
    assert said == [translated(Speech("en"), sentence) for sentence in said]
    assert "mène à 10.0.0.1, une adresse privée, ce qui n\u2019est pas permis" == translated(
        FR, "leads to 10.0.0.1, a private address, which is not allowed"
    )


@pytest.mark.parametrize(
    ("cookie", "accept", "expected"),
    [
        (None, None, "en"),
        (None, "fr-CA,fr;q=0.9,en;q=0.8", "fr"),
        (None, "de, en;q=0.5, fr;q=0.7", "fr"),
        (None, "en-US,en;q=0.9,fr;q=0.1", "en"),
        (None, "fr;q=nonsense,*", "en"),
        ("fr", "en", "fr"),
        ("xx", "fr", "fr"),
    ],
)
def test_the_browsers_language_is_taken_unless_one_was_chosen(
    cookie: str | None, accept: str | None, expected: str
) -> None:
    """RFC 9110, 12.5.4; what is unknown or nonsense is passed over."""
    assert expected == chosen(cookie, accept)


def test_numbers_and_times_are_those_of_the_language() -> None:
    """A share that is not quite all never reads as all of it."""
    english = Speech("en")
    assert ("1,234.5", "1\u202f234,5") == (english.number(1234.5), FR.number(1234.5))
    assert ("99.9%", "99,9\u00a0%") == (english.percent(0.99999), FR.percent(0.99999))
    assert ("100%", "0%", "0.1%") == (english.percent(1.0), english.percent(0.0), english.percent(0.00001))
    assert ("12 ms", "1.5 s") == tuple(english.duration(ms).replace("\u00a0", " ") for ms in (12.3, 1500))
    at = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert '<time datetime="2026-01-02T03:04:05.000Z">2 janv. 2026, 03:04:05 UTC</time>' == FR.time(at)
