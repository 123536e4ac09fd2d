"""A labelled set -> lessons: what the pipelines would ask, and the answer that the label makes.

Each row runs through its own subtask with a teacher in the model's place, so prompt, windows,
digest and constraint are exactly those of `flows run`. The teacher's answer is the label in the
words of the evidence; a value that stands nowhere in it is null, since only that could be written.
What the label does not say (the lines of a scan whose fields are labelled) the model itself reads.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model_onnx.bundle import TOKENIZER
from model_onnx.constrain import Choices, Grammar, JsonSchema
from model_onnx.engine import Engine
from model_onnx.errors import ConfigError, InputError, ScanscribeError
from model_onnx.prompt import MediaSpan, PromptRenderer, Turn
from model_onnx.sequence import Result
from pipelines.evaluate import subtask_for
from pipelines.grounding import Aligner
from pipelines.items import Item
from pipelines.labelled import Row
from pipelines.metrics import tight
from pipelines.options import Options
from pipelines.records import Word
from pipelines.spans import TokenMap
from pipelines.subtask import Ask, Reply, Work
from pipelines.transcribe import instruction as reading
from pipelines.values import Locale, parse_date, parse_number

TURN_END = "<turn|>"
_LISTED = 5  # files named in an error


Picture = tuple[NDArray[np.uint8], NDArray[np.int16]]


@dataclass(frozen=True, eq=False)
class Lesson:
    """ids[answer:] is what the model learns to write, the end of the turn included.

    images, frames (of videos): patches uint8 [N, patch_dim] and (x, y) int16 [N, 2]; clips:
    float32 [T, frame_size]; all in the order of their placeholders.
    """

    file: str
    ids: NDArray[np.int32]
    answer: int
    images: tuple[Picture, ...] = ()
    frames: tuple[Picture, ...] = ()
    clips: tuple[NDArray[np.float32], ...] = ()


@dataclass
class Lessons:
    """taught: in the order of the rows; left_out: file -> why it teaches nothing."""

    taught: list[Lesson] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        reasons = Counter(self.left_out.values())
        files = len({lesson.file for lesson in self.taught})
        lines = [f"{len(self.taught)} lessons from {files} files"]
        return "\n".join([*lines, *(f"left out: {n} files, {why}" for why, n in reasons.items())])


class _Untaught(Exception):
    """Why a row teaches nothing."""


def lessons_of(
    engine: Engine,
    rows: Sequence[tuple[Path, Row]],
    read: Callable[[Path], Item],
    *,
    longest: int,
    options: Options | None = None,
) -> Lessons:
    """rows: (folder, row); read: parses a file; longest: tokens of prompt and answer together.

    Raises ConfigError when no row teaches anything.
    """
    made = Lessons()
    turn_end = _token(engine, TURN_END)
    grammar = Grammar(engine.bundle)
    several = len({folder for folder, _ in rows}) > 1
    for folder, row in rows:
        name = f"{folder.name}/{row.file}" if several else row.file
        teacher = _Teacher(engine, options or Options(), row)
        try:
            subtask_for(row).answer(teacher, read(folder / row.file))
            lessons = [_lesson(engine.renderer, name, *told, turn_end) for told in teacher.told]
            _check(teacher, lessons, grammar, longest)
        except _Untaught as why:
            made.left_out[name] = str(why)
        except InputError as error:
            made.left_out[name] = f"cannot be read ({error.reason})"
        except ScanscribeError as error:
            made.left_out[name] = f"cannot be asked ({type(error).__name__})"
        else:
            made.taught += lessons
    if not made.taught:
        named = [f"{file}: {why}" for file, why in list(made.left_out.items())[:_LISTED]]
        raise ConfigError(
            f"got {len(rows)} labelled files, none of which can be taught ({'; '.join(named)}); "
            "expected labels that the documents bear out: look at the set with `flows eval`"
        )
    return made


def _token(engine: Engine, name: str) -> int:
    found = Tokenizer.from_file(str(engine.bundle.path(TOKENIZER))).token_to_id(name)
    if found is None:
        raise ConfigError(f"got a tokenizer without {name}, expected the checkpoint's own")
    return int(found)


def _lesson(renderer: PromptRenderer, file: str, ask: Ask, answer: str, turn_end: int) -> Lesson:
    prompt = renderer.render([Turn("system", (ask.instruction,)), Turn("user", ask.parts)])
    ids = [*prompt.ids.tolist(), *renderer.encode_text(answer), turn_end]
    media = prompt.media
    return Lesson(
        file,
        np.array(ids, np.int32),
        len(prompt.ids),
        images=tuple(_compact(span) for span in media if span.kind == "image"),
        frames=tuple(_compact(span) for span in media if span.kind == "video"),
        clips=tuple(span.features for span in media if span.kind == "audio"),
    )


def _compact(span: MediaSpan) -> Picture:
    """A patch holds bytes / 255, so as bytes it takes a quarter of the room and loses nothing."""
    assert span.positions is not None
    return np.rint(span.features * 255).astype(np.uint8), span.positions.astype(np.int16)


def _check(teacher: _Teacher, lessons: Sequence[Lesson], grammar: Grammar, longest: int) -> None:
    """Raises _Untaught when the row has no lesson, or one that decoding could never give."""
    if not lessons:
        raise _Untaught("nothing was asked: its text is copied, not read")
    if max(len(lesson.ids) for lesson in lessons) > longest:
        raise _Untaught(f"longer than {longest} tokens")
    for (ask, _), lesson in zip(teacher.told, lessons, strict=True):
        ids = lesson.ids[lesson.answer : -1].tolist()
        matcher = grammar.matcher(ask.constraint, len(ids) + 64)
        if matcher.legal_prefix(ids) < len(ids):
            raise _Untaught("its label cannot be written under the schema")


class _Teacher(Work):
    """Answers what the label answers and notes it; the model answers the rest."""

    def __init__(self, engine: Engine, options: Options, row: Row) -> None:
        super().__init__(engine, options)
        self._row = row
        self.told: list[tuple[Ask, str]] = []

    def ask(self, asks: Iterable[Ask]) -> list[Reply]:
        waiting = list(asks)
        if not waiting or not self._is_mine(waiting[0]):
            return super().ask(waiting)
        answers = list(self._answers(waiting))
        self.told += zip(waiting, answers, strict=True)
        return [_reply(ask, answer) for ask, answer in zip(waiting, answers, strict=True)]

    def _is_mine(self, ask: Ask) -> bool:
        match self._row.subtask:
            case "extract":
                return isinstance(ask.constraint, JsonSchema)
            case "transcribe":
                return True
        reads = ask.instruction in (reading("page"), reading("speech"))
        return not reads  # a scan or recording that is cleaned, repaired or tagged is read first

    def _answers(self, asks: Sequence[Ask]) -> Iterator[str]:
        match self._row.subtask:
            case "extract":
                yield from _values(self._row.output or {}, asks)
            case "tag":
                yield from [self._row.label] * len(asks)
            case "transcribe":
                yield from _shares(self._row.text, asks, lambda ask: 1)
            case "clean":
                yield from _shares(
                    self._row.text, asks, lambda ask: (ask.draft or "").count("\n") + 1
                )
            case _:
                yield from _shares(self._row.text, asks, lambda ask: 0)


def _shares(text: str, asks: Sequence[Ask], lines_of: Callable[[Ask], int]) -> Iterator[str]:
    """The whole text for a single request, else each request's own lines (0: it has none)."""
    if len(asks) == 1:
        spoken = asks[0].instruction == reading("speech")
        yield " ".join(text.split()) if spoken else text.strip()
        return
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    counts = [lines_of(ask) for ask in asks]
    if 0 in counts or sum(counts) != len(lines) or asks[0].instruction == reading("speech"):
        raise _Untaught(f"asked in parts that its text does not part into ({len(asks)} for it)")
    for count in counts:
        yield "\n".join(lines[:count])
        lines = lines[count:]


def _reply(ask: Ask, text: str) -> Reply:
    """As if a model that is sure had written it."""
    piece, certain = text.encode(), np.zeros(1, np.float32)
    options = ask.constraint.options if isinstance(ask.constraint, Choices) else ()
    result = Result(
        text=text,
        ids=(0,),
        pieces=(piece,),
        logprobs=certain,
        finish="stop",
        choice_probabilities={option: float(option == text) for option in options},
        prompt_tokens=0,
        cached_tokens=0,
        forced_tokens=0,
        drafted_tokens=0,
        accepted_tokens=0,
        prefill_seconds=0.0,
        decode_seconds=0.0,
    )
    return Reply(text, TokenMap.of(text, (piece,), certain), result)


def _values(output: Mapping[str, Any], asks: Sequence[Ask]) -> Iterator[str]:
    """The label as the model may write it: compact, in the order of the schema, in its words."""
    made = []
    for ask in asks:
        assert isinstance(ask.constraint, JsonSchema)
        schema, evidence = json.loads(ask.constraint.schema), ask.constraint.evidence
        words = evidence.split() if evidence else None
        made.append(_Written(schema.get("$defs", {}), words).value(output, schema))
    if _says_something(output) and not any(map(_says_something, made)):
        raise _Untaught("none of its values stands in what is read of it")
    for written in made:
        yield json.dumps(written, ensure_ascii=False, separators=(",", ":"))


class _Written:
    """words: of the evidence; None where there are none to copy from."""

    def __init__(self, definitions: Any, words: list[str] | None) -> None:
        self._definitions = definitions
        self._text = None if words is None else " ".join(words)
        self._aligner = Aligner([Word(text=word) for word in words or ()])

    def value(self, value: Any, node: Any) -> Any:
        node, nullable = self._plain(node)
        if "properties" in node:
            given = value if isinstance(value, dict) else {}
            return {name: self.value(given.get(name), n) for name, n in node["properties"].items()}
        if node.get("type") == "array":
            rows = [self.value(item, node.get("items", {})) for item in value or ()]
            return [row for row in rows if _says_something(row)]
        if value is None or value == "":
            found = None
        elif "enum" in node:
            found = _choice(value, node["enum"])
        else:
            found = self._words(str(value)) if node.get("verbatim") else value
        if found is None and not nullable:
            raise _Untaught("a field that may not be null has no value in the evidence")
        return found

    def _plain(self, node: Any) -> tuple[Any, bool]:
        """The node behind references, and whether null may stand there."""
        while "$ref" in node:
            node = self._definitions[node["$ref"].rsplit("/", 1)[-1]]
        options = node.get("anyOf")
        if not options:
            kinds = node.get("type")
            return node, kinds == "null" or (isinstance(kinds, list) and "null" in kinds)
        rest = [option for option in options if option.get("type") != "null"]
        inner, nullable = self._plain(rest[0]) if rest else ({}, True)
        return inner, nullable or len(rest) < len(options)

    def _words(self, value: str) -> str | None:
        value = " ".join(value.split())
        if self._text is None or f" {value} " in f" {self._text} ":
            return value
        found = self._aligner.find(value)
        if found.status == "exact" and value in self._text:
            return value
        return found.evidence


def _says_something(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_says_something, value.values()))
    return any(map(_says_something, value)) if isinstance(value, list) else value is not None


def _choice(value: Any, options: Sequence[Any]) -> Any:
    """The option that says the same: as written, in the same letters and digits, as a value (the
    shortest, where some name a currency)."""
    if value in options:
        return value
    words = [option for option in options if isinstance(option, str)]
    same = [option for option in words if tight(option) == tight(str(value))]
    for parse in (parse_number, parse_date):
        if not same and (wanted := parse(str(value), Locale())) is not None:
            same = [option for option in words if parse(option, Locale()) == wanted]
    return min(same, key=len, default=None)
