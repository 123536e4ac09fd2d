"""One item, one subtask, one Record: the only place that calls the engine.

Knows no file format and no particular subtask. A Subtask's `answer` asks the engine through `Work`,
which renders, submits, waits and counts; `run` validates what came back, runs the checks and
decides the status.

    record.status   ok         everything held
                    review     a low confidence, a value that stands nowhere, a failed check
                    truncated  a budget ended the answer; what was finished is kept
                    failed     no output

`record.reason` names the checks that failed (one stable word for a failed record), and
`record.checks` explains them.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, RootModel, ValidationError

from model_onnx.bundle import Bundle
from model_onnx.constrain import Constraint, FreeText
from model_onnx.errors import InputError, RequestError
from model_onnx.prompt import Part, Prompt, PromptRenderer, Tool, Turn
from pipelines.items import Item
from pipelines.options import Habits
from pipelines.options import Options as Options
from pipelines.records import Check, FieldValue, ModelInfo, Record, Source, Status, Timing
from pipelines.spans import TokenMap

if TYPE_CHECKING:  # importing a subtask for its prompt does not load the runtime
    from model_onnx.sequence import Request, Result

_IN_FLIGHT = 64  # requests of one item; each strip of a page holds up to 0.7 MB of patches


class Model(Protocol):
    """What of `model_onnx.Engine` is used here; a fake and a journal stand in for it."""

    @property
    def bundle(self) -> Bundle: ...
    @property
    def renderer(self) -> PromptRenderer: ...
    @property
    def provider(self) -> str: ...
    def submit(self, request: Request) -> Future[Result]: ...


@dataclass(frozen=True, eq=False)
class Ask:
    """One request before it is rendered. parts: media first, then text.

    thinking: whether it takes part when thinking was asked for; turns: what was said after the
    user's turn; tools: that the model is told of.
    """

    instruction: str
    parts: tuple[Part, ...]
    constraint: Constraint = FreeText()
    new_tokens: int | None = None  # None: Options.new_tokens
    draft: str | None = None
    thinking: bool = True
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True, eq=False)
class Reply:
    """text: stripped of outer white space for free text."""

    text: str
    tokens: TokenMap
    result: Result

    @property
    def truncated(self) -> bool:
        return self.result.finish in ("truncated", "cancelled")

    @property
    def looped(self) -> bool:
        return self.result.finish == "loop" or loops(self.result.text)

    @property
    def confidence(self) -> float:
        """Geometric mean over the tokens."""
        return self.tokens.mean(0, len(self.tokens.text))


_LOOP = re.compile(r"(.{1,80}?)\1{7,}\s*\Z", re.DOTALL)


def loops(text: str) -> bool:
    """Whether a text ends in eight or more copies of the same words (rules of dots are not words).

    The copies must be at least 24 characters together, so that `00000000` is a number.
    """
    found = _LOOP.search(text[-4000:])
    return found is not None and len(found[0].strip()) >= 24 and bool(re.search(r"\w", found[1]))


class Work:
    """One item's dealings with the engine. Used by one thread; the engine is shared."""

    def __init__(self, model: Model, options: Options, spent: Iterable[Result] = ()) -> None:
        """spent: what was asked before, for the sums."""
        self.model, self.options = model, options
        self.habits = Habits.of(model.bundle)
        self.spent: list[Result] = list(spent)
        self.results: list[Result] = []
        self.showed_pages = False  # as images, whose budget may have been too small

    @property
    def context_tokens(self) -> int:
        return self.options.context_tokens or self.habits.context_tokens

    @property
    def reading(self) -> Literal["strips", "page"]:
        return self.options.reading or self.habits.reading

    def ask(self, asks: Iterable[Ask]) -> list[Reply]:
        """Answers in order. Up to 64 requests are under way at once, so that the engine decodes
        them as a batch; `asks` is consumed as they finish. Raises what the engine raises, after the
        others were cancelled."""
        waiting: deque[Future[Result]] = deque()
        replies: list[Reply] = []
        try:
            for ask in asks:
                waiting.append(self.model.submit(self._request(ask)))
                if len(waiting) == _IN_FLIGHT:
                    replies.append(self._receive(waiting))
            while waiting:
                replies.append(self._receive(waiting))
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
        return replies

    def _receive(self, waiting: deque[Future[Result]]) -> Reply:
        result = waiting[0].result()
        waiting.popleft()
        self.results.append(result)
        tokens = TokenMap.of(result.text, result.pieces, result.logprobs)
        return Reply(result.text.strip(), tokens, result)

    def calibrated(self, probability: float) -> float:
        """A field's confidence from the probability of its tokens."""
        points = self.habits.calibration
        if not points:
            return probability
        raw, calibrated = zip(*points, strict=True)
        return float(np.interp(probability, raw, calibrated))

    def room(self, ask: Ask) -> int:
        """Tokens of the context left beside prompt and answer; negative: it does not fit."""
        answer = self._thinking(ask) + (ask.new_tokens or self.options.new_tokens)
        return self.context_tokens - len(self._render(ask).ids) - answer

    def count(self, text: str) -> int:
        return len(self.model.renderer.encode_text(text))

    def _request(self, ask: Ask) -> Request:
        from model_onnx.sequence import Request

        return Request(
            prompt=self._render(ask),
            constraint=ask.constraint,
            max_new_tokens=ask.new_tokens or self.options.new_tokens,
            draft=ask.draft,
            time_limit=self.options.time_limit,
            thinking=self._thinking(ask),
        )

    def _thinking(self, ask: Ask) -> int:
        return self.options.thinking if ask.thinking else 0

    def _render(self, ask: Ask) -> Prompt:
        turns = (Turn("system", (ask.instruction,)), Turn("user", ask.parts), *ask.turns)
        thinking = self._thinking(ask) > 0
        return self.model.renderer.render(turns, thinking=thinking, tools=ask.tools)

    @property
    def thoughts(self) -> tuple[str, ...]:
        """What was thought, in the order of the answers, if it is to be kept."""
        kept = self.options.keep_thoughts
        return tuple(result.thought for result in self.results if kept and result.thought)

    def timing(self, parse_seconds: float) -> Timing:
        """Sums over the requests; seconds of a batch are counted for each of its requests."""
        results = self.spent + self.results
        return Timing(
            parse_seconds=parse_seconds,
            prefill_seconds=sum(result.prefill_seconds for result in results),
            decode_seconds=sum(result.decode_seconds for result in results),
            prompt_tokens=sum(result.prompt_tokens for result in results),
            new_tokens=sum(len(result.ids) for result in results),
            forced_tokens=sum(result.forced_tokens for result in results),
            thought_tokens=sum(result.thought_tokens for result in results),
        )


@dataclass(frozen=True)
class Answer:
    """What a subtask made of the replies. output: validated by `run` against Subtask.output;
    schema_name: where it was chosen for this item (None: the subtask's)."""

    output: Any
    fields: dict[str, FieldValue] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    truncated: bool = False
    schema_name: str | None = None


@dataclass(frozen=True)
class Subtask:
    """One bounded job. A custom one is an instance of this, named `module:NAME`.

    prompt: the version of its prompt, part of a record's identity; output: the pydantic model of
    the result (of a RootModel the record keeps the root); answer: asks the engine and raises
    InputError when there is nothing to answer from; checks: of the validated output; schema_name:
    of a subtask that is given a schema.
    """

    name: str
    prompt: str
    output: type[BaseModel]
    answer: Callable[[Work, Item], Answer]
    checks: tuple[Callable[[Any, Item], Check], ...] = ()
    schema_name: str | None = None


def run(model: Model, subtask: Subtask, item: Item, *, options: Options | None = None) -> Record:
    """Runs a subtask on an item. May be called from several threads with one engine.

    An item that cannot be answered gives a `failed` record. Raises only what is not the item's
    fault: ConstraintError, ConfigError, EngineClosedError.
    """
    options = options or Options()
    first, *others = options.budgets
    work = Work(model, replace(options, soft_tokens=first))
    record = _run(work, subtask, item)
    for soft_tokens in others:
        if record.status == "ok" or not work.showed_pages:
            break
        spent = work.spent + work.results
        work = Work(model, replace(options, soft_tokens=soft_tokens), spent)
        record = _run(work, subtask, item)
    return record


def _run(work: Work, subtask: Subtask, item: Item) -> Record:
    try:
        answer = subtask.answer(work, item)
        made = subtask.output.model_validate(answer.output)
        output: Any = made.root if isinstance(made, RootModel) else made
    except InputError as error:
        return _failed(work, subtask, item, error.reason, str(error))
    except RequestError as error:
        return _failed(work, subtask, item, "request", str(error))
    except ValidationError as error:
        return _failed(work, subtask, item, "validation", _brief(error))
    checks = (
        *item.flaws,
        *answer.checks,
        *(check(output, item) for check in subtask.checks),
        _confident(answer.fields, work.options.minimum_confidence),
        Check(
            name="truncated",
            passed=not answer.truncated,
            reason="a budget ended the answer; split the document, or raise Options.new_tokens",
        ),
    )
    return _record(work, subtask, item, replace(answer, output=output, checks=checks))


def unread(model: Model, subtask: Subtask, source: Source, error: InputError) -> Record:
    """The `failed` record of an input that could not even be parsed."""
    work = Work(model, Options())
    return _failed(work, subtask, Item(source), error.reason, str(error))


def _confident(fields: dict[str, FieldValue], minimum: float) -> Check:
    unsure = [path or "output" for path, field in fields.items() if field.confidence < minimum]
    return Check(
        name="low_confidence", passed=not unsure, reason=f"{', '.join(unsure)} below {minimum:g}"
    )


def _brief(error: ValidationError) -> str:
    """Which fields and what is wrong with them; never what the document says."""
    parts = [f"{'.'.join(map(str, e['loc']))} ({e['type']})" for e in error.errors()[:5]]
    return (
        f"got an answer that is not of the output's type: {', '.join(parts)}; let these fields be "
        "null or text"
    )


def _failed(work: Work, subtask: Subtask, item: Item, reason: str, message: str) -> Record:
    check = Check(name=reason, passed=False, reason=message)
    return _record(work, subtask, item, Answer({}, checks=(check,)), failed=True)


def _record(
    work: Work, subtask: Subtask, item: Item, answer: Answer, *, failed: bool = False
) -> Record:
    info = ModelInfo(
        bundle=work.model.bundle.sha256, provider=work.model.provider, prompt_version=subtask.prompt
    )
    reasons = [check.name for check in answer.checks if not check.passed]
    status: Status = "review" if reasons else "ok"
    if failed or answer.truncated:
        status = "failed" if failed else "truncated"
    return Record(
        id=_identity(subtask, item, info),
        source=item.source,
        subtask=subtask.name,
        schema_name=answer.schema_name or subtask.schema_name,
        output=None if failed else answer.output,
        fields=answer.fields,
        checks=tuple(
            check if not check.passed else check.model_copy(update={"reason": ""})
            for check in answer.checks
        ),
        status=status,
        reason=", ".join(dict.fromkeys(reasons)),
        model=info,
        timing=work.timing(item.parse_seconds),
        thoughts=work.thoughts,
    )


def _identity(subtask: Subtask, item: Item, info: ModelInfo) -> str:
    """Stable over runs: the same file, subtask, schema and model have the same id."""
    parts = (item.source.path, item.source.sha256, subtask.name, subtask.prompt)
    whole = "\0".join((*parts, subtask.schema_name or "", info.bundle))
    return hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:24]
