"""Renders the OpenAPI document as a page for people: one file, no scripts, no request to anybody else."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_STYLE: Final = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem; }
nav ul { columns: 18rem; padding-left: 1.2rem; }
section { border-top: 1px solid var(--line); margin-top: 2rem; }
h3 { margin-bottom: 0; } h3 code { font-weight: normal; }
pre { border: 1px solid var(--line); border-radius: .4rem; overflow-x: auto; padding: .7rem; }
code, pre { font: .875rem/1.45 ui-monospace, monospace; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .8rem .3rem 0; text-align: left; }
td, th { vertical-align: top; }
.method { font-weight: bold; }
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page(document: Mapping[str, Any]) -> str:
    """Give the page as HTML."""
    reader = _Reader(document)
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    body = "\n".join(reader.body())
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


class _Reader:
    """Reads one document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def body(self) -> Iterator[str]:
        info = self._document["info"]
        yield f"<h1>{escape(info['title'])}</h1>"
        yield from (f"<p>{_text(part)}</p>" for part in info["description"].split("\n\n"))
        yield '<p>The same for programs: <a href="/v1/openapi.json">OpenAPI 3.1</a>.</p>'
        yield "<nav><ul>"
        for _, _, operation in self._operations():
            yield f'<li><a href="#{operation["operationId"]}">{escape(operation["summary"])}</a></li>'
        yield "</ul></nav>"
        for tag in self._document["tags"]:
            yield f"<section><h2>{escape(tag['name'])}</h2>"
            for method, path, operation in self._operations():
                if tag["name"] in operation["tags"]:
                    yield from self._operation(method, path, operation)
            yield "</section>"
        yield "<section><h2>Shapes</h2>"
        for name, schema in self._document["components"]["schemas"].items():
            yield f'<h3 id="{name}">{name}</h3><p>{_text(schema.get("description", ""))}</p>'
            yield from self._fields(schema)
        yield "</section>"

    def _operations(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for part in ("paths", "webhooks"):
            for path, methods in self._document[part].items():
                for method, operation in methods.items():
                    yield method.upper(), path if part == "paths" else "your URL", operation

    def _operation(self, method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
        yield f'<article id="{operation["operationId"]}"><h3>{escape(operation["summary"])}</h3>'
        yield f'<p><code><span class="method">{method}</span> {escape(path)}</code></p>'
        yield from (f"<p>{_text(part)}</p>" for part in operation.get("description", "").split("\n\n"))
        rows = [
            (
                f"<code>{escape(one['name'])}</code>",
                one["in"],
                self._kind(one["schema"]),
                _text(one.get("description", "")),
            )
            for one in operation.get("parameters", ())
        ]
        yield from _table(("Parameter", "In", "Type", ""), rows)
        if "requestBody" in operation:
            [content] = operation["requestBody"]["content"].values()
            yield f"<p>Body: {self._kind(content['schema'])}</p>"
            yield from self._fields(content["schema"])
            yield from _example(content)
        for status, named in operation["responses"].items():
            answer = self._found(named)
            yield f"<p>Answer <strong>{escape(status)}</strong>: {_text(answer['description'])}</p>"
            if "$ref" not in named:
                for content in answer.get("content", {}).values():
                    yield from _example(content)
        yield "</article>"

    def _fields(self, schema: Mapping[str, Any]) -> Iterator[str]:
        required = schema.get("required", ())
        rows = [
            (
                f"<code>{escape(name)}</code>",
                self._kind(one),
                "required" if name in required else "",
                _text(_words(one)),
            )
            for name, one in schema.get("properties", {}).items()
        ]
        yield from _table(("Field", "Type", "", ""), rows)
        if "enum" in schema:
            yield f"<p>{', '.join(f'<code>{escape(str(one))}</code>' for one in schema['enum'])}</p>"

    def _kind(self, schema: Mapping[str, Any]) -> str:
        """Give a schema's type in a few words."""
        match schema:
            case {"$ref": str(ref)}:
                name = ref.rpartition("/")[2]
                return f'<a href="#{escape(name)}">{escape(name)}</a>'
            case {"anyOf": list(kinds)}:
                return " or ".join(self._kind(kind) for kind in kinds)
            case {"type": "array", "items": dict(items)}:
                return f"list of {self._kind(items)}"
            case _:
                return _plain_kind(schema)

    def _found(self, named: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in named:
            return named
        found: Any = self._document
        for step in named["$ref"].split("/")[1:]:
            found = found[step]
        answer: Mapping[str, Any] = found
        return answer


def _plain_kind(schema: Mapping[str, Any]) -> str:
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if values is not None:
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    kind = schema.get("type", "anything")
    words = kind if isinstance(kind, str) else " or ".join(kind)
    return escape(f"{words} ({schema['format']})" if "format" in schema else words)


def _words(schema: Mapping[str, Any]) -> str:
    """Give a field's description, or that of the one of its types that has one."""
    found = (one.get("description") for one in (schema, *schema.get("anyOf", ())))
    return next((words for words in found if words), "")


def _text(words: str) -> str:
    """Escape words; what stands between backticks is code."""
    parts = escape(words).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _example(content: Mapping[str, Any]) -> Iterator[str]:
    if "example" in content:
        yield f"<pre>{escape(json.dumps(content['example'], indent=2, ensure_ascii=False))}</pre>"


def _table(head: Iterable[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield "<table><tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"
        yield from ("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        yield "</table>"
