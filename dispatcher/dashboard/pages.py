"""Turns templates into pages; everything that is filled in is escaped."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from dispatcher import __version__
from dispatcher.dashboard import charts, words
from dispatcher.dashboard.language import LANGUAGES, Speech
from dispatcher.dashboard.sentences import translated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispatcher.dashboard.assets import Assets


class Pages:
    """The templates, ready in each language."""

    def __init__(self, assets: Assets) -> None:
        self.speeches: Final = {language: Speech(language) for language in LANGUAGES}
        self._environments: Final = {
            language: _environment(speech, assets) for language, speech in self.speeches.items()
        }

    def render(self, speech: Speech, template: str, values: Mapping[str, Any]) -> str:
        """Give the text of a page."""
        return self._environments[speech.language].get_template(template).render(values)


def _receivers() -> dict[str, str]:
    """Give the code of a receiver in each language, as it stands in the files."""
    folder = files("dispatcher.dashboard") / "receivers"
    return {name: (folder / f"{name}.txt").read_text(encoding="utf-8") for name in ("node", "python")}


def _environment(speech: Speech, assets: Assets) -> Environment:
    environment = Environment(
        loader=PackageLoader("dispatcher.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,
    )
    # The extension adds these at run time.
    environment.install_gettext_callables(  # type: ignore[attr-defined]
        speech.gettext, speech.ngettext, newstyle=True
    )
    environment.globals.update(
        asset=assets.url,
        language=speech.language,
        version=__version__,
        time=speech.time,
        number=speech.number,
        percent=speech.percent,
        duration=speech.duration,
        failure=lambda status, error: words.failure(speech, status, error),
        state_name=lambda state: speech.gettext(words.STATES[state]),
        ordering_name=lambda name: speech.gettext(words.ORDERINGS[name]),
        trigger_name=lambda trigger: speech.gettext(words.TRIGGERS[trigger]),
        event_words=speech.gettext,
        said=partial(translated, speech),
        spark=charts.spark,
        receiver=_receivers().__getitem__,
    )
    return environment
