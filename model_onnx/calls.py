"""Declared tools -> one Lark grammar of their calls, or of plain text instead. Knows token ids.

    <|tool_call>call:weather{city:<|"|>Oslo<|"|>,days:3}<tool_call|>

is the model's own notation (see `answer.py`): only declared names, only arguments of the tool's
schema, keys in the order in which the chat template sorts them, optional ones left out or written.
Declarations say no unions and no references, so schemas here have none; `"nullable": true` allows
null. Text between quote tokens never spells a control token's `<|`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from model_onnx.answer import CALL_CLOSE, CALL_OPEN, QUOTE
from model_onnx.errors import ConstraintError
from model_onnx.grammar import MAX_FORMATTED_LENGTH, MAX_LENGTH, Compiler, quote, refused

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of tools and arguments

_FORMATS = {
    "date": r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
    "time": r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?",
    "date-time": r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-][0-9]{2}:[0-9]{2})?",
    "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}
_SPELLS_CONTROL = r"/(?s:.*)<\|(?s:.*)/"
_TEXT = f"TEXT: /(?s:.*)/ & ~{_SPELLS_CONTROL}"
_UNIONS = ("$ref", "allOf", "anyOf", "oneOf")


def calls_grammar(
    tools: Sequence[tuple[str, str]],
    tokens: Mapping[str, int],
    *,
    most: int,
    must_call: bool = False,
    evidence: str | None = None,
) -> str:
    """The Lark text: up to `most` calls, or text in their place unless a call is a must.

    tools: (name, JSON Schema of the arguments); tokens: ids of the control tokens; evidence: as in
    `json_grammar`. Raises ConstraintError.
    """
    missing = [name for name in (CALL_OPEN, CALL_CLOSE, QUOTE) if name not in tokens]
    if missing:
        raise ConstraintError(f"the tokenizer has no {', '.join(missing)}, which a call needs")
    if most < 1 or not tools:
        return f"start: TEXT\n{_TEXT}"
    compiler = _CallCompiler(evidence, f"<[{tokens[QUOTE]}]>")
    bodies = [f"{quote(f'call:{name}')} {compiler.arguments(name, text)}" for name, text in tools]
    call = f"<[{tokens[CALL_OPEN]}]> ({' | '.join(bodies)}) <[{tokens[CALL_CLOSE]}]>"
    start = f"call{{1,{most}}}" + ("" if must_call else " | TEXT")
    return "\n".join([*compiler.lines, _TEXT, f"call: {call}", f"start: {start}"])


class _CallCompiler(Compiler):
    """Rules of arguments. mark: the quote token in Lark."""

    def __init__(self, evidence: str | None, mark: str) -> None:
        super().__init__(None, evidence)
        self._mark = mark

    @property
    def lines(self) -> list[str]:
        return self._lines

    def arguments(self, name: str, schema: str) -> str:
        """The rule of a tool's arguments with their braces."""
        if not NAME.fullmatch(name):
            raise ConstraintError(
                f"got a tool named {name!r}, expected letters, digits and underscores"
            )
        try:
            declared = json.loads(schema)
            if declared.get("type") != "object":
                raise refused("type", name, "expected an object of arguments")
            return self._node(declared, name, False)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ConstraintError(
                f"the arguments of {name} are no JSON Schema ({type(error).__name__}: {error})"
            ) from error

    def _node(self, schema: Any, where: str, verbatim: bool) -> str:
        if not isinstance(schema, dict):
            return super()._node(schema, where, verbatim)
        for keyword in _UNIONS:
            if keyword in schema:
                raise refused(keyword, where, "declarations cannot say it; use one type")
        plain = {key: value for key, value in schema.items() if key != "nullable"}
        node = super()._node(plain, where, verbatim)
        return self._define(f'{node} | "null"') if schema.get("nullable") else node

    def _literal(self, value: object, where: str) -> str:
        if isinstance(value, str):
            if "<|" in value or not value.isprintable():
                raise refused("enum", where, f"{value!r} cannot be written in a call")
            return f"{self._mark} {quote(value)} {self._mark}" if value else self._mark * 2
        if isinstance(value, list | dict):
            raise refused("enum", where, "expected texts, numbers, true, false or null")
        return super()._literal(value, where)

    def _object(self, schema: dict[str, Any], where: str) -> str:
        """Two chains of rules from the last key to the first: behind another key, and not."""
        properties = schema.get("properties") or {}
        required = set(schema.get("required", ()))
        if isinstance(schema.get("additionalProperties", False), dict):
            raise refused("additionalProperties", where, "free keys cannot be declared")
        if unknown := required - properties.keys():
            raise refused("required", where, f"{sorted(unknown)} are not in properties")
        first = more = '"}"'
        for name in sorted(properties, key=str.lower, reverse=True):
            if not NAME.fullmatch(name):
                raise refused("properties", where, f"got {name!r}, expected an identifier")
            pair = f"{quote(name + ':')} {self._node(properties[name], f'{where}.{name}', False)}"
            skips = (
                "" if name in required else f" | {first}",
                "" if name in required else f" | {more}",
            )
            first, more = (
                self._define(f"{pair} {more}{skips[0]}"),
                self._define(f'"," {pair} {more}{skips[1]}'),
            )
        return self._define(f'"{{" {first}')

    def _string(self, schema: dict[str, Any], where: str, verbatim: bool) -> str:
        least = schema.get("minLength", 0)
        default = MAX_FORMATTED_LENGTH if "format" in schema else MAX_LENGTH
        most = schema.get("maxLength", max(least, default))
        if least > most:
            raise refused("maxLength", where, f"got {most}, expected at least minLength {least}")
        if verbatim and self._evidence is not None:
            return self._verbatim(least, most)
        length = rf"/[^\x00-\x09\x0b-\x1f\x7f]{{{least},{most}}}/"
        parts = [length, f"~{_SPELLS_CONTROL}"]
        if "pattern" in schema:
            parts.append("/" + schema["pattern"].replace("/", r"\/") + "/")
        if "format" in schema:
            if schema["format"] not in _FORMATS:
                raise refused("format", where, f"expected one of {sorted(_FORMATS)}; use pattern")
            parts.append(f"/{_FORMATS[schema['format']]}/")
        return self._quoted(" & ".join(parts))

    def _verbatim(self, least: int, most: int) -> str:
        if not self._evidence:
            return self._define(f"{self._mark} {self._mark}")
        run = self._define(
            "%regex " + json.dumps({"substring_chunks": self._evidence}), "EVIDENCE_"
        )
        length = f"/(?s:.{{{max(least, 1)},{most}}})/"
        return self._quoted(f"{run} & {length} & /[^ ](.*[^ ])?/ & ~{_SPELLS_CONTROL}")

    def _quoted(self, terminal: str) -> str:
        text = self._define(terminal, "TEXT_")
        return self._define(f"{self._mark} {text} {self._mark}")
