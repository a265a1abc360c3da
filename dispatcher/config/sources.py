"""Reading the configuration: file, then environment, then credentials; all that is wrong is told at once.

How this works: each source gives what it has as `Found` values for dotted keys (`delivery.timeout_s`);
a later source replaces an earlier one's. Only then are the values converted, one by one, so that one
bad value hides no other and every complaint names its key and where the value came from.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args, get_origin

import msgspec

from dispatcher.config.redaction import SECRET_KEYS, shown
from dispatcher.config.rules import RULES, disagreements
from dispatcher.config.settings import Config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CREDENTIALS: Final[Mapping[str, tuple[str, str]]] = {
    "database_url": ("database", "url"),
    "encryption_key": ("secrets", "encryption_key"),
    "previous_encryption_key": ("secrets", "previous_encryption_key"),
    "proxy_url": ("delivery", "proxy_url"),
}
_PREFIX: Final = "DISPATCHER_"
_FILE_VARIABLE: Final = "DISPATCHER_CONFIG"  # names the file where no --config does


class ConfigError(Exception):
    """The operator has to change the configuration: each problem names the key and what to do."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Found(NamedTuple):
    """A value that a source gave."""

    value: Any
    source: str  # as the operator knows it: a path, a variable, a credential
    is_text: bool  # it comes from a place that knows only text

    def __repr__(self) -> str:
        return f"Found({self.source})"  # the value may be a secret


def _known_keys() -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for field in msgspec.structs.fields(Config):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            inner = msgspec.structs.fields(field.type)
            keys |= {f"{field.name}.{setting.name}": setting.type for setting in inner}
        else:
            keys[field.name] = field.type
    return keys


KEYS: Final[Mapping[str, Any]] = _known_keys()  # dotted key → type
_SECTIONS: Final = frozenset(key.partition(".")[0] for key in KEYS if "." in key)


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration; without `path` from `$DISPATCHER_CONFIG`, if it is set.

    Raises `ConfigError` with everything that is wrong.
    """
    problems: list[str] = []
    if path is None and environ.get(_FILE_VARIABLE):
        path = Path(environ[_FILE_VARIABLE])
    found: dict[str, Found] = {}
    if path is not None:
        found |= _from_file(path, problems)
    found |= _from_environment(environ, problems)
    found |= _from_credentials(environ, problems)

    tables: dict[str, Any] = {}
    for key, item in found.items():
        try:
            value = _convert(key, item)
        except ValueError as error:
            problems.append(f"{key}: {error} ({item.source})")
            continue
        section, _, name = key.rpartition(".")
        (tables.setdefault(section, {}) if section else tables)[name] = value
    config = msgspec.convert(tables, Config)
    problems += disagreements(config)
    if problems:
        raise ConfigError(problems)
    return config


def _from_file(path: Path, problems: list[str]) -> dict[str, Found]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}; config.example.toml shows what goes in")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path}: is not TOML: {error}")
        return {}
    found: dict[str, Found] = {}
    for name, value in document.items():
        if name in _SECTIONS and not isinstance(value, dict):
            problems.append(f"{name}: expected a table, written [{name}], got {value!r} ({path})")
        elif isinstance(value, dict) and name not in KEYS:
            found |= {f"{name}.{key}": Found(inner, str(path), is_text=False) for key, inner in value.items()}
            if not value and name not in _SECTIONS:
                found[name] = Found(value, str(path), is_text=False)
        else:
            found[name] = Found(value, str(path), is_text=False)
    unknown = [key for key in found if key not in KEYS]
    problems += [f"{key}: unknown key{_did_you_mean(key, KEYS)} ({found.pop(key).source})" for key in unknown]
    return found


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Found]:
    known = {_PREFIX + key.replace(".", "__").upper(): key for key in KEYS}
    found: dict[str, Found] = {}
    for name in sorted(environ):
        if name in known:
            found[known[name]] = Found(environ[name], name, is_text=True)
        elif name.startswith(_PREFIX) and name != _FILE_VARIABLE:
            problems.append(f"{name}: unknown variable{_did_you_mean(name, known)} (environment)")
    return found


def _from_credentials(environ: Mapping[str, str], problems: list[str]) -> dict[str, Found]:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    found: dict[str, Found] = {}
    for name, (section, key) in CREDENTIALS.items() if directory else ():
        file = Path(directory or "", name)
        try:
            text = file.read_text("utf-8").strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{section}.{key}: the credential {file} cannot be read: {error}")
            continue
        found[f"{section}.{key}"] = Found(text, f"credential {name}", is_text=True)
    return found


def _convert(key: str, item: Found) -> Any:
    """Give the value in the key's type; raises ValueError that says what was expected."""
    kind = KEYS[key]
    value = _list_of(item.value) if item.is_text and _is_list(kind) else item.value
    try:
        converted = msgspec.convert(value, kind, strict=not item.is_text)
    except msgspec.ValidationError:
        got = "something else" if key in SECRET_KEYS else repr(shown(key, item.value))
        raise ValueError(f"expected {_expectation(kind)}, got {got}") from None
    try:
        RULES.get(key, bool)(converted)
    except ValueError as error:
        if key in SECRET_KEYS or key == "delivery.allowed_networks":  # not to be shown; shown already
            raise
        raise ValueError(f"{error}, got {shown(key, converted)!r}") from None
    return converted


def _is_list(kind: Any) -> bool:
    return get_origin(getattr(kind, "__origin__", kind)) is tuple


def _list_of(text: str) -> Any:
    """Read a list from a variable: JSON, or values between commas."""
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text  # the conversion says what was expected
    return [part.strip() for part in text.split(",") if part.strip()]


def _expectation(kind: Any) -> str:
    for meta in getattr(kind, "__metadata__", ()):
        return str(meta.description)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    return {bool: "true or false", str: "text"}[kind]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the closest known name: the same last part elsewhere, or nearly the same spelling."""
    names = list(known)
    last = name.rpartition(".")[2]
    same = [other for other in names if other.rpartition(".")[2] == last]
    close = same or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else "; remove it"
