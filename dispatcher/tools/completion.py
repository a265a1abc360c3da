"""`dispatcher completion`: what a shell needs to complete commands, made from the parser itself.

How this works: the parser is walked once into plain descriptions; bash's script asks, for the word under the
cursor, which command stands before it, and offers that command's words. zsh runs the same script through
its own `bashcompinit`. fish has a line for each word.
"""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

from dispatcher.tools.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS: Final = ("bash", "zsh", "fish")


class Option(NamedTuple):
    """An option of a command."""

    name: str
    words: str
    value: tuple[str, ...] | None  # its choices, empty where anything goes; None: it takes no value


class Described(NamedTuple):
    """A command, by the words that lead to it."""

    path: str
    words: str
    commands: tuple[str, ...]
    options: tuple[Option, ...]
    choices: tuple[str, ...]  # of its arguments


def describe(parser: argparse.ArgumentParser, path: str = "", words: str = "") -> Iterator[Described]:
    """Walk a parser and all below it."""
    below: dict[str, tuple[argparse.ArgumentParser, str]] = {}
    options: list[Option] = []
    choices: list[str] = []
    for action in parser._actions:  # noqa: SLF001 - argparse tells in no other way what it accepts
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            helps = {one.dest: one.help or "" for one in action._choices_actions}  # noqa: SLF001 - the same
            below = {name: (one, helps.get(name, "")) for name, one in action.choices.items()}
        elif action.option_strings:
            takes = action.nargs != 0
            value = tuple(map(str, action.choices or ())) if takes else None
            options += [
                Option(name, action.help or "", value)
                for name in action.option_strings
                if name.startswith("--")
            ]
        else:
            choices += map(str, action.choices or ())
    yield Described(path, words, tuple(below), tuple(options), tuple(choices))
    for name, (one, help_) in below.items():
        yield from describe(one, f"{path} {name}".strip(), help_)


def completion(shell: str, parser: argparse.ArgumentParser) -> int:
    """Print the script for a shell."""
    commands = list(describe(parser))
    if shell == "fish":
        say(*_fish(commands))
    else:
        if shell == "zsh":
            say("autoload -U +X bashcompinit && bashcompinit")
        say(*_bash(commands))
    return 0


def _bash(commands: list[Described]) -> Iterator[str]:
    paths = "|".join(shlex.quote(one.path) for one in commands if one.path)
    yield "_dispatcher() {"
    yield '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" at="" one words i'
    yield "    for ((i = 1; i < COMP_CWORD; i++)); do"
    yield '        one="${at:+$at }${COMP_WORDS[i]}"'
    yield f'        case "$one" in {paths}) at="$one" ;; esac'
    yield "    done"
    yield '    case "$at $before" in'
    for command in commands:
        for option in command.options:
            if option.value is not None:
                offered = f'$(compgen -W {shlex.quote(" ".join(option.value))} -- "$word")'
                pattern = shlex.quote(f"{command.path} {option.name}")
                yield f"        {pattern}) COMPREPLY=({offered if option.value else ''}); return ;;"
    yield "    esac"
    yield '    case "$at" in'
    for command in commands:
        names = " ".join((*command.commands, *command.choices, *(one.name for one in command.options)))
        yield f"        {shlex.quote(command.path)}) words={shlex.quote(names)} ;;"
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield "complete -o default -F _dispatcher dispatcher"


def _fish(commands: list[Described]) -> Iterator[str]:
    yield "complete -c dispatcher -f"
    for command in commands:
        path = command.path.split()
        # Seen so far: the words of this command, and none of those below it.
        seen = [f"__fish_seen_subcommand_from {word}" for word in path]
        below = [f"not __fish_seen_subcommand_from {' '.join(command.commands)}"] if command.commands else []
        condition = shlex.quote("; and ".join([*seen, *below]) or "true")
        for name in (*command.commands, *command.choices):
            words = next((one.words for one in commands if one.path == f"{command.path} {name}".strip()), "")
            yield f"complete -c dispatcher -n {condition} -a {name} -d {shlex.quote(words)}"
        for option in command.options:
            line = (
                f"complete -c dispatcher -n {condition} -l {option.name[2:]} -d {shlex.quote(option.words)}"
            )
            if option.value:
                line += f" -x -a {shlex.quote(' '.join(option.value))}"
            elif option.value is not None:
                line += " -r -F"
            yield line.replace("%%", "%")
