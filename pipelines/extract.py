"""extract: a document or a recording becomes the JSON of a schema.

Worked example, schema `{"company": str | None, "total": Decimal | None}`:

    system  Extract these fields as JSON, null where absent:
            company
            total: amount to pay
    user    ACME TRADING\\n12 HIGH STREET\\nTOTAL RM12.50
    model   {"company":"ACME TRADING","total":"RM12.50"}

    output  company="ACME TRADING", total=Decimal("12.50")

Where there are words (text layer, character recognition, transcript, or a reading by the model
itself) every value is a run of them. Code finds the dates and amounts among them (`candidates.py`)
and the model chooses: the confidence is the choice's share among all of them and null. Values read
from a picture alone stand in no words, so their record is `review`.

A document that does not fit one context is cut into windows of whole pages, or of lines where a
page does not fit. Merging: a field takes the value of the first window that is sure of one (at
least `Options.minimum_confidence`), else the surest value; lists are joined in order. A window
without a usable answer makes the record `review` and does not lose the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial, reduce
from typing import Any

from pydantic import BaseModel, RootModel

from model_onnx.constrain import FreeText, JsonSchema
from model_onnx.errors import InputError
from model_onnx.prompt import Part
from pipelines.candidates import candidates
from pipelines.items import Item
from pipelines.pointing import Choices, Parsed, pointing, resolve
from pipelines.records import Check, FieldValue
from pipelines.spans import join_path, value_spans
from pipelines.subtask import Answer, Ask, Reply, Subtask, Work
from pipelines.transcribe import Reading, page_image
from pipelines.windows import Window, evidence, windows

PROMPT_VERSION = "extract-2"


def instruction(fields: Mapping[str, str]) -> str:
    """The system turn. fields: path -> description ("" for none), in the schema's order.

    A path is `name`, or `items[]` for a list of objects followed by its `items[].name`.
    """
    lines = [f"{path}: {about}" if about else path for path, about in fields.items()]
    return "\n".join(["Extract these fields as JSON, null where absent:", *lines])


def describe(schema: Mapping[str, Any]) -> dict[str, str]:
    """JSON Schema of an object -> the `fields` of `instruction`, references followed."""
    return dict(_walk(schema, schema.get("$defs", {}), ""))


def _walk(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, str]]:
    for name, raw in schema.get("properties", {}).items():
        node = resolve(raw, definitions)
        path, about = f"{prefix}{name}", " ".join(str(raw.get("description", "")).split())
        if node.get("type") == "array":
            path, node = f"{path}[]", resolve(node.get("items", {}), definitions)
        yield path, about
        if node.get("type") == "object" and path.count(".") < 4:  # a recursive schema has no end
            yield from _walk(node, definitions, f"{path}.")


Output = type[BaseModel] | Mapping[str, Any]


Checks = tuple[Callable[[Any, Item], Check], ...]


def subtask(
    output: Output,
    *,
    name: str = "extract",
    schema_name: str | None = None,
    checks: Checks = (),
) -> Subtask:
    """Extraction into a pydantic model, or into a dict of a JSON Schema.

    checks: (validated output, item) -> Check; one that fails makes the record `review`.
    Raises ConfigError for a schema that is not an object with properties.
    """
    model: type[BaseModel] = RootModel[dict[str, Any]]
    if isinstance(output, Mapping):
        schema, label = dict(output), str(output.get("title") or "schema")
    else:
        schema, label, model = output.model_json_schema(), output.__name__, output
    pointing(schema)
    answer = partial(_answer, schema, model is output)
    return Subtask(name, PROMPT_VERSION, model, answer, checks, schema_name or label)


@dataclass(frozen=True)
class _Leaf:
    """One value as the model wrote it. confidence: the probability of its tokens."""

    value: Any
    confidence: float
    window: Window


_Tree = dict[str, Any] | list[Any] | _Leaf  # JSON with _Leaf at its ends


def _answer(schema: dict[str, Any], exact: bool, work: Work, item: Item) -> Answer:
    return answer_from(schema, exact, work, item, evidence(work, item))


def answer_from(
    schema: dict[str, Any], exact: bool, work: Work, item: Item, reading: Reading | None
) -> Answer:
    """reading: of `windows.evidence`; exact: numbers stay text, for pydantic."""
    groups = _groups(schema, work.habits.fields_per_request)

    def room(window: Window) -> int:
        return work.room(_ask(work, schema, window))

    pairs = [(w, group) for w in windows(work, item, reading, room) for group in groups]
    replies = work.ask(_ask(work, group, w, constrained=True) for w, group in pairs)
    trees = [_tree(reply, w) for (w, _), reply in zip(pairs, replies, strict=True)]
    looped = sum(reply.looped for reply in replies)
    damaged = sum(tree is None for tree in trees) - looped
    if looped + damaged == len(trees):
        raise _unusable(looped)
    usable = [tree for tree in trees if tree is not None]
    tree = reduce(partial(_merge, work.options.minimum_confidence), usable)
    assert isinstance(tree, dict)
    ordered = {name: tree[name] for name in schema["properties"] if name in tree}
    parsed = Parsed(work.options.locale, exact)
    output = parsed.value(_data(ordered), schema)
    leaves = dict(_leaves(ordered))
    fields = {path: _field(leaf, work, parsed.parsed.get(path)) for path, leaf in leaves.items()}
    checks = (
        *([_read_check(reading)] if reading else []),
        *_checks(leaves, fields, parsed.unparsed),
        Check(name="loop", passed=not looped, reason=f"{looped} answers repeated themselves"),
        Check(name="damaged_answer", passed=not damaged, reason=f"{damaged} answers are no JSON"),
    )
    return Answer(output, fields, checks, any(reply.truncated for reply in replies))


def _read_check(reading: Reading) -> Check:
    if reading.truncated:
        return Check(name="unread", passed=False, reason="a page was read only in part")
    return reading.check


def _unusable(looped: int) -> InputError:
    if looped:
        return InputError(
            "got only answers that repeat themselves, expected values; look at the document, or "
            "use a larger model",
            reason="loop",
        )
    return InputError(
        "got an answer that is not JSON, expected it to fit its budget; ask for fewer fields, or "
        "raise Options.new_tokens",
        reason="damaged_answer",
    )


def _checks(
    leaves: Mapping[str, _Leaf], fields: Mapping[str, FieldValue], unparsed: Sequence[str]
) -> Iterator[Check]:
    """A value from a picture alone has nothing to stand in, so a person looks at it."""
    nowhere = [path for path in leaves if fields[path].grounding.status == "none"]
    loose = [p for p in nowhere if leaves[p].window.lines and isinstance(leaves[p].value, str)]
    unseen = [
        p for p in nowhere if not leaves[p].window.lines and leaves[p].value not in (None, [], {})
    ]
    reasons = [
        *([f"not in the evidence: {', '.join(loose)}"] if loose else []),
        *([f"no words to compare with: {', '.join(unseen)}"] if unseen else []),
    ]
    yield Check(name="ungrounded", passed=not reasons, reason="; ".join(reasons))
    yield Check(
        name="unparsed", passed=not unparsed, reason=f"no date or number: {', '.join(unparsed)}"
    )


def _tree(reply: Reply, window: Window) -> _Tree | None:
    """None when the model repeated itself, or a budget cut the JSON where it could not close."""
    if reply.looped:
        return None
    try:
        spans = value_spans(reply.tokens.text)
    except ValueError:
        return None

    def build(value: Any, path: str) -> _Tree:
        if isinstance(value, dict) and value:
            return {key: build(inner, join_path(path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [build(inner, f"{path}[{at}]") for at, inner in enumerate(value)]
        span = spans[path]
        return _Leaf(value, reply.tokens.probability(span.start, span.end), window)

    return build(json.loads(reply.tokens.text), "")


def _merge(sure: float, one: _Tree, two: _Tree) -> _Tree:
    """See the module's docstring; `one` comes first."""
    if isinstance(one, dict) and isinstance(two, dict):
        return {
            key: _merge(sure, one[key], two[key]) if key in one and key in two else (one | two)[key]
            for key in one | two
        }
    if isinstance(one, list) and isinstance(two, list):
        return one + two
    if not isinstance(one, _Leaf) or not isinstance(two, _Leaf):
        return two if isinstance(one, _Leaf) else one  # a null beside an object or a list
    if one.value is None or two.value is None:
        if one.value is None and two.value is None:
            return min(one, two, key=lambda leaf: leaf.confidence)
        return two if one.value is None else one
    return one if one.confidence >= min(sure, two.confidence) else two


def _leaves(tree: _Tree, path: str = "") -> Iterator[tuple[str, _Leaf]]:
    if isinstance(tree, _Leaf):
        yield path, tree
    elif isinstance(tree, dict):
        for key, inner in tree.items():
            yield from _leaves(inner, join_path(path, key))
    else:
        for at, inner in enumerate(tree):
            yield from _leaves(inner, f"{path}[{at}]")


def _data(tree: _Tree) -> Any:
    if isinstance(tree, _Leaf):
        return tree.value
    if isinstance(tree, dict):
        return {key: _data(inner) for key, inner in tree.items()}
    return [_data(inner) for inner in tree]


def _field(leaf: _Leaf, work: Work, parsed: str | None) -> FieldValue:
    """A value from words that were themselves read is as sure as both steps."""
    place = leaf.window.index.find(leaf.value) if isinstance(leaf.value, str) else None
    certain = place.certain if place else 1.0
    return FieldValue(
        value=leaf.value,
        confidence=work.calibrated(leaf.confidence * certain),
        grounding=place.grounding if place else leaf.window.find(leaf.value),
        parsed=parsed,
    )


def _groups(schema: dict[str, Any], size: int | None) -> list[dict[str, Any]]:
    """The schema, or parts of it with `size` top-level fields each."""
    names = list(schema["properties"])
    size = size or len(names)
    parts = [names[at : at + size] for at in range(0, len(names), size)]
    return [
        schema | {"properties": {name: schema["properties"][name] for name in part}, "required": []}
        for part in parts
    ]


def _ask(work: Work, schema: dict[str, Any], window: Window, *, constrained: bool = False) -> Ask:
    """constrained: not while only its length is asked for, since finding candidates takes time."""
    parts: tuple[Part, ...] = tuple(page_image(work, page) for page in window.pages)
    if window.film:
        parts = window.film.parts(work.options.frame_tokens)
    if window.text:
        parts = (*parts, window.text)
    constraint = _constraint(work, schema, window) if constrained else FreeText()
    return Ask(instruction(describe(schema)), parts, constraint)


def _constraint(work: Work, schema: dict[str, Any], window: Window) -> JsonSchema:
    choices: Choices = cache(lambda kind: candidates(window.text, kind, work.options.locale))
    compact = json.dumps(pointing(schema, choices), ensure_ascii=False)
    return JsonSchema(compact, evidence=window.text if window.lines else None)
