"""French and English: which one a visitor reads, and its words, numbers and times.

How this works: what stands in the code and the templates is English. `locale/fr.po` holds the French; it is
compiled in memory at start, so there is no build step and nothing that can be out of date.
"""

from __future__ import annotations

import datetime as dt
import gettext
import io
from importlib.resources import files
from typing import Final

from babel import Locale, dates, numbers
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from markupsafe import Markup

LANGUAGES: Final = {"en": "English", "fr": "Français"}  # each by its own name
_DEFAULT: Final = "en"
_NOTHING: Final = "\N{EN DASH}"


def mark(message: str) -> str:
    """Mark a text for translators, where it is translated later."""
    return message


class Speech:
    """One language."""

    def __init__(self, language: str) -> None:
        self.language: Final = language
        self._locale: Final = Locale.parse(language)
        self._words: Final = _catalogue(language)

    def gettext(self, message: str) -> str:
        """Translate a text; as it is where nobody translated it."""
        words: str = self._words.gettext(message)
        return words

    def ngettext(self, singular: str, plural: str, count: int) -> str:
        """Translate a text that depends on a number."""
        words: str = self._words.ngettext(singular, plural, count)
        return words

    def number(self, value: float) -> str:
        """Write a number as the language does."""
        text: str = numbers.format_decimal(value, locale=self._locale)
        return text

    def percent(self, share: float) -> str:
        """Write a share, 0 to 1; what is not quite all never reads as all of it."""
        cut = share if share in {0.0, 1.0} else min(max(share, 0.001), 0.999)
        pattern = "#,##0.#\u00a0%" if self.language == "fr" else "#,##0.#%"
        return numbers.format_percent(cut, format=pattern, locale=self._locale)

    def duration(self, ms: float | None) -> str:
        """Write a duration given in milliseconds."""
        if ms is None:
            return _NOTHING
        if ms < 1000:
            return f"{self.number(round(ms, 1 if ms < 10 else 0))}\u00a0ms"
        return f"{self.number(round(ms / 1000, 1))}\u00a0s"

    def time(self, at: dt.datetime | None) -> Markup:
        """Write a time: in UTC, which the page's script turns into the viewer's zone."""
        if at is None:
            return Markup(_NOTHING)  # noqa: S704 - our own text
        at = at.astimezone(dt.UTC)
        text = dates.format_datetime(at, "d MMM y, HH:mm:ss", tzinfo=dt.UTC, locale=self._locale)
        return Markup('<time datetime="{}">{} UTC</time>').format(iso(at), text)


def iso(at: dt.datetime) -> str:
    """Write a time for programs."""
    return at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def chosen(cookie: str | None, accept: str | None) -> str:
    """Give the language that a visitor chose, or the one that the browser likes best (RFC 9110, 12.5.4)."""
    if cookie in LANGUAGES:
        return cookie
    liked = []
    for place, part in enumerate((accept or "")[:1000].split(",")):
        name, _, quality = part.partition(";q=")
        language = name.strip().lower().partition("-")[0]
        if language in LANGUAGES:
            try:
                liked.append((-float(quality or 1), place, language))
            except ValueError:
                continue
    return min(liked)[2] if liked else _DEFAULT


def _catalogue(language: str) -> gettext.NullTranslations:
    source = files("dispatcher.dashboard") / "locale" / f"{language}.po"
    if not source.is_file():
        return gettext.NullTranslations()
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(source.read_bytes()), locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
