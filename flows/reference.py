"""docs/reference/cli.md from the commands themselves.

    python -m flows.reference > docs/reference/cli.md

Knows only what `--help` knows: names, types, defaults, help texts and examples.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from flows.cli import app

_HEAD = """# The command line

What you get: every command of `flows` with its arguments, options and an example. This page is
written by `python -m flows.reference > docs/reference/cli.md`; a test holds it to the code.

All commands take `--help` (or `-h`). Exit codes: [run-directory.md](run-directory.md#exit-codes).
"""
EXAMPLE = "Example: "
_KINDS = {Path: "PATH", int: "NUMBER", float: "NUMBER"}


def commands() -> Iterator[tuple[str, Any]]:
    """("flows run", command) ...; groups are walked through."""
    yield from _walk("flows", typer.main.get_command(app))


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, each in inner.items():
        if not each.hidden:
            yield from _walk(f"{name} {word}", each)


def examples(command: Any) -> list[str]:
    """The command lines that the help shows."""
    text = f"{command.help or ''}\n\n{command.epilog or ''}"
    parts = [" ".join(inspect.cleandoc(part).split()) for part in text.split("\n\n")]
    return [part.removeprefix(EXAMPLE) for part in parts if part.startswith(EXAMPLE)]


def page() -> str:
    return "\n".join([_HEAD, *(_section(name, command) for name, command in commands())])


def _section(name: str, command: Any) -> str:
    parts = [" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n")]
    hints = get_type_hints(inspect.unwrap(command.callback))
    given = [each for each in command.params if not each.hidden]
    usage = [name, *(_usage(each, hints) for each in given if each.required)]
    optional = ["[OPTIONS]"] if any(not each.required for each in given) else []
    lines = [f"## {name}", "", *_paragraphs(part for part in parts if part[:9] != EXAMPLE)]
    lines += ["```text", " ".join(usage + optional), "```", ""]
    if given:
        lines += [
            "| argument | what | default |",
            "|---|---|---|",
            *(_row(each, hints) for each in given),
            "",
        ]
    lines += ["```sh", *examples(command), "```", ""]
    return "\n".join(lines)


def _paragraphs(parts: Iterator[str]) -> Iterator[str]:
    for part in parts:
        yield from (part, "")


def _usage(each: Any, hints: dict[str, Any]) -> str:
    value = _value(each, hints)
    return value if each.param_type_name == "argument" else f"{each.opts[0]} {value}"


def _row(each: Any, hints: dict[str, Any]) -> str:
    name = each.name.upper()
    if each.param_type_name != "argument":
        name = ", ".join([*each.opts, *each.secondary_opts])
        name = name if each.is_flag else f"{name} {_value(each, hints)}"
    about = " ".join((each.help or "").split()).replace("|", "\\|")
    return f"| `{name}` | {about} | {_default(each)} |"


def _value(each: Any, hints: dict[str, Any]) -> str:
    if each.param_type_name == "argument":
        return str(each.name).upper()
    kinds = [kind for kind in _flat(hints.get(each.name)) if kind is not type(None)]
    names = [_KINDS.get(kind, "TEXT") for kind in kinds] or ["TEXT"]
    return " ".join(names)


def _flat(hint: Any) -> Iterator[type]:
    """The plain types in `list[str]`, `Path | None`, `tuple[Path, Path]` ..."""
    inner = get_args(hint)
    if not inner:
        yield hint
    for each in inner:
        yield from _flat(each)


def _default(each: Any) -> str:
    if each.required:
        return "required"
    if isinstance(each.show_default, str):
        return each.show_default
    empty = each.default is None or each.default in ("", (), []) or each.is_flag
    return "" if empty or callable(each.default) else f"`{shlex.quote(str(each.default))}`"


if __name__ == "__main__":
    print(page(), end="")
