"""extract: a document or a recording becomes the JSON of a schema.

Worked example, schema `{"company": str | None, "total": Decimal | None}`:

    system  Extract these fields as JSON, null where absent:
            company
            total: amount to pay
    user    ACME TRADING\\n12 HIGH STREET\\nTOTAL RM12.50
    model   {"company":"ACME TRADING","total":"RM12.50"}

    output  company="ACME TRADING", total=Decimal("12.50")

Where there are words (text layer, character recognition, transcript, or a reading by the model
itself) every value is a run of them. A document that does not fit one context is cut into windows
of whole pages, or of lines where a page does not fit. Merging: a field takes the value of the first
window that is sure of one (at least `Options.minimum_confidence`), else the surest value; lists are
joined in order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, RootModel

from model_onnx.constrain import JsonSchema
from model_onnx.errors import InputError
from model_onnx.prompt import Part
from pipelines.evidence import Index, Line, digest, joined, runs
from pipelines.grounding import Aligner
from pipelines.items import Item
from pipelines.pointing import Parsed, pointing, resolve
from pipelines.records import Check, FieldValue
from pipelines.spans import join_path, value_spans
from pipelines.subtask import Answer, Ask, Reply, Subtask, Work
from pipelines.transcribe import image_cost, page_image, read_evidence

if TYPE_CHECKING:
    from pipelines.pages import Page

PROMPT_VERSION = "extract-1"


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
class _Window:
    """What one request sees: lines, and pages as pictures."""

    lines: tuple[Line, ...] = ()
    pages: tuple[Page, ...] = ()

    @cached_property
    def index(self) -> Index:
        return Index(self.lines)

    @cached_property
    def aligner(self) -> Aligner:
        return Aligner([word for line in self.lines for word in line.words])


@dataclass(frozen=True)
class _Leaf:
    """One value as the model wrote it. confidence: the probability of its tokens."""

    value: Any
    confidence: float
    window: _Window


_Tree = dict[str, Any] | list[Any] | _Leaf  # JSON with _Leaf at its ends


def _answer(schema: dict[str, Any], exact: bool, work: Work, item: Item) -> Answer:
    windows, problems = _windows(work, item, schema)
    groups = _groups(schema, work.habits.fields_per_request)
    pairs = [(window, group) for window in windows for group in groups]
    replies = work.ask(_ask(work, group, window) for window, group in pairs)
    trees = [
        _tree(reply, window)
        for (window, _), reply in zip(pairs, replies, strict=True)
        if not reply.looped
    ]
    if not trees:
        raise InputError("the model repeated itself and gave no usable answer", reason="loop")
    tree = reduce(partial(_merge, work.options.minimum_confidence), trees)
    assert isinstance(tree, dict)
    ordered = {name: tree[name] for name in schema["properties"] if name in tree}
    parsed = Parsed(work.options.locale, exact)
    fields = {path: _field(leaf, work) for path, leaf in _leaves(ordered)}
    output = parsed.value(_data(ordered), schema)
    fields = {
        path: field.model_copy(update={"parsed": parsed.parsed.get(path)})
        for path, field in fields.items()
    }
    looped = len(replies) - len(trees)
    checks = (*problems, *_checks(dict(_leaves(ordered)), fields, parsed, looped))
    return Answer(output, fields, checks, any(reply.truncated for reply in replies))


def _checks(
    leaves: Mapping[str, _Leaf], fields: Mapping[str, FieldValue], parsed: Parsed, looped: int
) -> tuple[Check, ...]:
    loose = [
        path
        for path, leaf in leaves.items()
        if isinstance(leaf.value, str)
        and leaf.window.lines
        and fields[path].grounding.status == "none"
    ]
    unread = ", ".join(parsed.unparsed)
    return (
        Check(
            name="ungrounded", passed=not loose, reason=f"not in the evidence: {', '.join(loose)}"
        ),
        Check(name="unparsed", passed=not unread, reason=f"no date or number: {unread}"),
        Check(name="loop", passed=not looped, reason=f"{looped} answers repeated themselves"),
    )


def _tree(reply: Reply, window: _Window) -> _Tree:
    """Raises InputError when a budget cut the JSON where the grammar could not close it."""
    try:
        spans = value_spans(reply.tokens.text)
    except ValueError:
        raise InputError(
            "got an answer that is not JSON; raise new_tokens", reason="damaged_answer"
        ) from None

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


def _field(leaf: _Leaf, work: Work) -> FieldValue:
    """A value from words that were themselves read is as sure as both steps."""
    place = leaf.window.index.find(leaf.value) if isinstance(leaf.value, str) else None
    certain = place.certain if place else 1.0
    return FieldValue(
        value=leaf.value,
        confidence=work.calibrated(leaf.confidence * certain),
        grounding=place.grounding if place else leaf.window.aligner.find(leaf.value),
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


def _ask(work: Work, schema: dict[str, Any], window: _Window) -> Ask:
    text = joined(window.lines)
    compact = json.dumps(pointing(schema), ensure_ascii=False)
    constraint = JsonSchema(compact, evidence=text if window.lines else None)
    images = tuple(page_image(work, page) for page in window.pages)
    parts: tuple[Part, ...] = (*images, text) if text else images
    return Ask(instruction(describe(schema)), parts, constraint)


def _windows(
    work: Work, item: Item, schema: dict[str, Any]
) -> tuple[list[_Window], tuple[Check, ...]]:
    """What the requests see: as few windows as the context allows."""
    if work.reading == "page" and _only_pixels(item):
        room = work.room(_ask(work, schema, _Window()))
        most = max(1, room // image_cost(work))
        pages = [page for page in item.pages if page.image is not None]
        parts = [tuple(pages[at : at + most]) for at in range(0, len(pages), most)]
        return [_Window(pages=part) for part in parts], ()
    reading = read_evidence(work, item, pixels=work.options.recognised == "read")
    check = reading.check
    if reading.truncated:
        check = Check(name="unread", passed=False, reason="a page was read only in part")
    lines = digest(reading.lines, work.habits.evidence_characters)
    return list(_text_windows(work, lines, _pictures(work, item), schema)), (check,)


def _only_pixels(item: Item) -> bool:
    has_words = item.cues or item.clips or any(page.words for page in item.pages)
    return bool(item.pages) and not has_words


def _pictures(work: Work, item: Item) -> dict[int, Page]:
    """Pages whose picture is shown beside their words: those that were recognised, not typeset."""
    if not work.habits.images_with_text or work.options.recognised == "read":
        return {}
    return {page.number: page for page in item.pages if page.text_source == "tesseract"}


def _text_windows(
    work: Work, lines: Sequence[Line], pictures: Mapping[int, Page], schema: dict[str, Any]
) -> Iterator[_Window]:
    """Whole pages while they fit; a page that does not fit alone is cut between lines."""

    def shown(part: Sequence[Line]) -> tuple[Page, ...]:
        numbers = dict.fromkeys(line.page for line in part if line.page in pictures)
        return tuple(pictures[number] for number in numbers if number is not None)

    def fits(part: Sequence[Line]) -> bool:
        room = work.room(_ask(work, schema, _Window(tuple(part))))
        return room >= len(shown(part)) * image_cost(work)

    def windows() -> Iterator[Sequence[Line]]:
        if fits(lines):
            yield lines
            return
        pages = [tuple(page) for _, page in groupby(lines, lambda line: line.page)]
        for run in runs(pages, fits):
            yield from [run] if fits(run) else runs([(line,) for line in run], fits)

    for part in windows():
        yield _Window(tuple(part), shown(part))
