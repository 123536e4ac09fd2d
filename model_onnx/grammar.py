"""JSON Schema -> one Lark grammar for llguidance: compact JSON, every part bounded. Knows no token.

Narrower than the schema on purpose, so that generation always ends and keys can be forced: every
property is written, in schema order, optional or not; nothing beyond the declared properties;
strings, arrays and numbers get default bounds. What cannot be enforced is a ConstraintError that
names the keyword and the place.

The project's own keyword `"verbatim": true` on a string means: with an evidence text, the value is
a run of that text's chunks (see `evidence_chunks`). Without evidence it has no effect.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Set
from json.encoder import encode_basestring
from typing import Any

from model_onnx.errors import ConstraintError

MAX_LENGTH = 500  # characters of a string that has no maxLength
MAX_FORMATTED_LENGTH = 120  # the same with a `format`: an URI fits, an endless fraction does not
MAX_ITEMS = 100  # of an array that has no maxItems
MAX_NUMBER = 10**15  # numbers stay exact as float64
NUMBER_STEP = 1e-6  # six decimals, unless multipleOf says otherwise
MAX_NESTING = 64  # of merged references, which have no rule of their own

_ANNOTATIONS = frozenset({
    "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly",
    "discriminator", "$schema", "$id", "$comment", "$defs", "definitions", "verbatim",
})  # fmt: skip
_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "boolean": set(),
    "null": set(),
}
_NULL = '"null"'
_NOTHING = r'''"\"" "\""'''  # the empty string for want of evidence; spelt like no other rule
_COMPACT = {"whitespace_flexible": False, "json_allowed_escapes": 'nrbtf\\"'}
_PLAIN_CHARACTER = r'([^"\\\x00-\x1f\x7f]|\\["\\bfnrt])'
_ANY_CHARACTER = r"(\\u[0-9a-f]{4}|\\[^u]|[^\\])"  # of text that is already escaped


def json_grammar(schema: str, evidence: str | None = None) -> str:
    """The Lark text of a JSON Schema document, optionally with an evidence text for its verbatim
    strings. Raises ConstraintError."""
    try:
        return Compiler(json.loads(schema), evidence).lark()
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ConstraintError(
            f"the text is no JSON Schema ({type(error).__name__}: {error}): {schema[:200]}"
        ) from error


def literals_grammar(options: Iterable[str]) -> str:
    """Exactly one of the texts."""
    return "start: " + " | ".join(quote(option) for option in options)


def regex_grammar(pattern: str) -> str:
    """The whole text matches a regular expression of the Rust dialect without look-around."""
    escaped = re.sub(r"(\\.)|/", lambda match: match[1] or r"\/", pattern, flags=re.DOTALL)
    return "start: /" + escaped.replace("\n", r"\n") + "/"


def evidence_chunks(evidence: str) -> list[str]:
    """The smallest units a verbatim value is made of; joined they are the evidence with every run
    of whitespace written as one space.

    A unit is a word (letters and their marks), a number with its inner points, commas and
    apostrophes ("1,234.56": half an amount is not an amount), one CJK character, one other
    character, or one space. So "TOTAL:RM12.50" offers "RM12.50" and "12.50", never "12".
    """
    text = " ".join(evidence.split())
    characters: dict[str, str] = {"letter": "", "digit": ""}
    for character in set(text):
        category = unicodedata.category(character)[0]
        if category == "N":
            characters["digit"] += re.escape(character)
        elif category in "LM" and not _UNSPACED_SCRIPTS.match(character):
            characters["letter"] += re.escape(character)
    letters, digits = (f"[{c}]" if c else r"[^\s\S]" for c in characters.values())
    return re.findall(rf"(?s:{letters}+|{digits}+(?:[.,'’]{digits}+)*|.)", text)


_UNSPACED_SCRIPTS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def quote(text: str) -> str:
    """A Lark string literal."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Compiler:
    """One schema; model_onnx/calls.py writes it in another notation.

    Every method `_x(schema, where, verbatim)` returns the name of a rule; equal bodies share one
    rule. `where`: a path such as `$.items[].price` for messages."""

    def __init__(self, root: Any, evidence: str | None) -> None:
        self._root = root
        self._names: dict[str, str] = {}  # body -> rule or terminal
        self._lines: list[str] = []
        self._references: dict[tuple[str, bool], str] = {}
        self._merging = 0
        self._evidence = None if evidence is None else evidence_chunks(evidence)

    def lark(self) -> str:
        self._lines.append("start: " + self._node(self._root, "$", False))
        return "\n".join(self._lines)

    def _define(self, body: str, prefix: str = "rule_") -> str:
        if body not in self._names:
            self._names[body] = f"{prefix}{len(self._names)}"
            self._lines.append(f"{self._names[body]}: {body}")
        return self._names[body]

    def _node(self, schema: Any, where: str, verbatim: bool) -> str:
        if not isinstance(schema, dict) or not schema.keys() - _ANNOTATIONS:
            raise refused("type", where, f"got {_json(schema)}, expected a schema with a type")
        verbatim = bool(schema.get("verbatim", verbatim))
        for keyword in ("$ref", "allOf", "anyOf", "oneOf"):
            if keyword in schema:
                rest = {k: v for k, v in schema.items() if k != keyword and k not in _ANNOTATIONS}
                return self._combined(keyword, schema[keyword], rest, where, verbatim)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            nodes = [self._node({**schema, "type": kind}, where, verbatim) for kind in kinds]
            return self._either(nodes)
        if "enum" in schema or "const" in schema:
            return self._values(schema, where, verbatim)
        return self._typed(schema, where, verbatim)

    def _typed(self, schema: dict[str, Any], where: str, verbatim: bool) -> str:
        kind = schema.get("type")
        if not isinstance(kind, str) or kind not in _KEYWORDS:
            raise refused("type", where, f"got {kind!r}, expected one of {sorted(_KEYWORDS)}")
        _check_keywords(schema, frozenset().union(*_KEYWORDS.values()), where)
        schema = {k: v for k, v in schema.items() if k in _KEYWORDS[kind] or k == "type"}
        if verbatim and kind not in ("string", "null"):
            raise refused("verbatim", where, f"got type {kind}, expected string; remove it")
        if kind == "object":
            return self._object(schema, where)
        if kind == "array":
            return self._array(schema, where)
        if kind == "string":
            return self._string(schema, where, verbatim)
        if kind in ("number", "integer"):
            return self._number(schema)
        return self._define(_NULL if kind == "null" else '"true" | "false"')

    def _combined(
        self, keyword: str, value: Any, rest: dict[str, Any], where: str, verbatim: bool
    ) -> str:
        """$ref, allOf, anyOf or oneOf, with the keywords that stand beside it."""
        if keyword == "$ref":
            target = self._resolve(value, where)
            if rest:
                return self._merged([target, rest], where, verbatim)
            return self._reference(value, target, where, verbatim)
        if keyword == "allOf":
            return self._merged([*value, rest], where, verbatim)
        if keyword == "oneOf":
            self._check_exclusive(value, where)
        branches = [self._merged([branch, rest], where, verbatim) for branch in value]
        return self._either(branches)

    def _either(self, nodes: list[str]) -> str:
        """One of the rules. Where null is possible, it stands for a text that is not there."""
        if self._define(_NULL) in nodes:
            nodes = [node for node in nodes if node != self._define(_NOTHING)]
        return self._define(" | ".join(dict.fromkeys(nodes)))

    def _resolve(self, reference: str, where: str) -> Any:
        target = self._root
        if not reference.startswith("#"):
            raise refused("$ref", where, f"got {reference!r}, expected one into this schema (#/)")
        for part in reference[1:].split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or part not in target:
                raise refused("$ref", where, f"{reference!r} leads nowhere")
            target = target[part]
        return target

    def _reference(self, reference: str, target: Any, where: str, verbatim: bool) -> str:
        """One rule for each definition, named before its body is compiled: it may use itself."""
        key = (reference, verbatim)
        if key not in self._references:
            self._references[key] = name = f"definition_{len(self._references)}"
            self._lines.append(f"{name}: {self._node(target, where, verbatim)}")
        return self._references[key]

    def _merged(self, parts: list[Any], where: str, verbatim: bool) -> str:
        """The conjunction of schemas that do not contradict each other word for word."""
        parts = [part for part in parts if part]
        if len(parts) == 1:
            return self._node(parts[0], where, verbatim)
        merged: dict[str, Any] = {}
        for part in parts:
            if "$ref" in part:
                rest = {k: v for k, v in part.items() if k != "$ref"}
                part = {**self._resolve(part["$ref"], where), **rest}
            for key, value in part.items():
                _merge_keyword(merged, key, value, where)
        self._merging += 1
        if self._merging > MAX_NESTING:
            raise refused("$ref", where, "the references never end")
        name = self._node(merged, where, verbatim)
        self._merging -= 1
        return name

    def _check_exclusive(self, branches: list[Any], where: str) -> None:
        """oneOf is anyOf where at most one branch can match: the kinds differ, or a constant
        of the same property does (a tagged union)."""
        seen: list[dict[str, set[str]]] = []
        for branch in branches:
            branch = self._resolve(branch["$ref"], where) if "$ref" in branch else branch
            marks = _marks(branch)
            for other in seen:
                if not any(marks[name].isdisjoint(other[name]) for name in marks if name in other):
                    raise refused("oneOf", where, "its branches overlap; use anyOf")
            seen.append(marks)

    def _values(self, schema: dict[str, Any], where: str, verbatim: bool) -> str:
        _check_keywords(schema, {"enum", "const"}, where)
        if verbatim:
            raise refused("verbatim", where, "it has fixed values; remove one of them")
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        if "const" in schema:
            values = [value for value in values if value == schema["const"]]
        if "type" in schema:
            values = [value for value in values if _is_kind(value, schema["type"])]
        if not values:
            raise refused("enum", where, "no value is left; expected at least one")
        return self._define(" | ".join(self._literal(value, where) for value in values))

    def _literal(self, value: object, where: str) -> str:
        """One fixed value in Lark."""
        return quote(_json(value))

    def _object(self, schema: dict[str, Any], where: str) -> str:
        properties = schema.get("properties") or {}
        if isinstance(schema.get("additionalProperties", False), dict) or not properties:
            raise refused(
                "additionalProperties",
                where,
                "free keys cannot be enforced; declare the properties or use a list of pairs",
            )
        for name in schema.get("required", ()):
            if name not in properties:
                raise refused("required", where, f"{name!r} is not in properties")
        body = []
        for index, (name, value) in enumerate(properties.items()):
            body.append(quote(("," if index else "{") + _json(name) + ":"))
            body.append(self._node(value, f"{where}.{name}", False))
        return self._define(" ".join(body) + ' "}"')

    def _array(self, schema: dict[str, Any], where: str) -> str:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if "prefixItems" in schema:
            items = [
                self._node(s, f"{where}[{i}]", False) for i, s in enumerate(schema["prefixItems"])
            ]
            fits = least <= len(items) <= (len(items) if most is None else most)
            if schema.get("items", False) is not False or not fits:
                raise refused("prefixItems", where, "expected a tuple of fixed length")
            return self._define('"[" ' + ' "," '.join(items) + ' "]"')
        most = max(least, MAX_ITEMS) if most is None else most
        if least > most:
            raise refused("maxItems", where, f"got {most}, expected at least minItems {least}")
        if "items" not in schema:
            raise refused("items", where, "it is missing; expected the schema of an item")
        if most == 0:
            return self._define('"[]"')
        item = self._node(schema["items"], f"{where}[]", False)
        more = f' ("," {item}){{{max(least - 1, 0)},{most - 1}}}' if most > 1 else ""
        return self._define(f'"[" {item}{more} "]"' if least else f'"[" ({item}{more})? "]"')

    def _string(self, schema: dict[str, Any], where: str, verbatim: bool) -> str:
        least = schema.get("minLength", 0)
        default = MAX_FORMATTED_LENGTH if "format" in schema else MAX_LENGTH
        most = schema.get("maxLength", max(least, default))
        if least > most:
            raise refused("maxLength", where, f"got {most}, expected at least minLength {least}")
        formed = [keyword for keyword in ("pattern", "format") if keyword in schema]
        if verbatim and formed:
            raise refused(formed[0], where, "it cannot be combined with verbatim")
        if verbatim and self._evidence is not None:
            return self._verbatim(least, most)
        if formed:
            return self._leaf({**schema, "maxLength": most})
        return self._define(f'/"{_PLAIN_CHARACTER}{{{least},{most}}}"/', "STRING_")

    def _verbatim(self, least: int, most: int) -> str:
        """A non-empty run of the evidence, without a space at its ends; its length counts
        characters, not their escapes. Empty evidence leaves the empty string."""
        if not self._evidence:
            return self._define(_NOTHING)
        chunks = [encode_basestring(chunk)[1:-1] for chunk in self._evidence]
        run = self._define("%regex " + _json({"substring_chunks": chunks}), "EVIDENCE_")
        length = f'/"{_ANY_CHARACTER}{{{max(least, 1)},{most}}}"/'
        return self._define(f'("\\"" {run} "\\"") & {length} & /"[^ ](.*[^ ])?"/', "VERBATIM_")

    def _number(self, schema: dict[str, Any]) -> str:
        leaf = dict(schema)
        if not leaf.keys() & {"minimum", "exclusiveMinimum"}:
            leaf["minimum"] = -MAX_NUMBER
        if not leaf.keys() & {"maximum", "exclusiveMaximum"}:
            leaf["maximum"] = MAX_NUMBER
        if leaf["type"] == "number":
            leaf.setdefault("multipleOf", NUMBER_STEP)
        return self._leaf(leaf)

    def _leaf(self, schema: dict[str, Any]) -> str:
        """Patterns, formats and ranges are llguidance's own."""
        return self._define("%json " + _json(schema | {"x-guidance": _COMPACT}))


def refused(keyword: str, where: str, reason: str) -> ConstraintError:
    return ConstraintError(f"schema keyword {keyword!r} at {where}: {reason}")


def _check_keywords(schema: dict[str, Any], known: Set[str], where: str) -> None:
    """Keywords of another kind have no effect, as the standard says; unknown ones are refused."""
    for keyword in schema.keys() - known - _ANNOTATIONS - {"type"}:
        if not keyword.startswith("x-"):
            raise refused(keyword, where, "it cannot be enforced; remove it")


def _merge_keyword(merged: dict[str, Any], key: str, value: Any, where: str) -> None:
    if key not in merged or key in _ANNOTATIONS or merged[key] == value:
        merged[key] = value
    elif key == "required":
        merged[key] = [*merged[key], *value]
    elif key == "properties" and not merged[key].keys() & value.keys():
        merged[key] = {**merged[key], **value}
    else:
        raise refused(key, where, "allOf or the keywords beside a $ref contradict; merge them")


def _marks(branch: dict[str, Any]) -> dict[str, set[str]]:
    """What tells a branch from another: its kinds, and the fixed values of its properties."""
    kinds = branch.get("type")
    marks = {"": set(kinds) if isinstance(kinds, list) else {kinds}} if kinds else {}
    for name, value in {".": branch, **branch.get("properties", {})}.items():
        fixed = value.get("enum", [value["const"]] if "const" in value else None)
        if fixed is not None:
            marks[name if name == "." else f".{name}"] = {_json(v) for v in fixed}
    return marks


def _is_kind(value: object, kind: str) -> bool:
    kinds = {
        "null": value is None,
        "boolean": isinstance(value, bool),
        "string": isinstance(value, str),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }
    return kinds.get(kind, False)
