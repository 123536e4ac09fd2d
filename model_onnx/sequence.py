"""One request while it runs: what was chosen, what waits to be fed, what was drafted.

Knows no cache and no thread. A sequence is fed `pending` tokens (the last choice and the tokens
that the grammar forces after it) and `drafts` (guesses to verify) in one chunk, then absorbs their
hidden states. Drafts are checked with the very choices that plain decoding makes, so they change
the number of steps and never the tokens. A thought comes before the answer, under a matcher of its
own, and is no part of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from model_onnx.constrain import Choices, Constraint, FreeText, Grammar
from model_onnx.draft import Acceptance, PromptLookup
from model_onnx.loops import LoopDetector
from model_onnx.prompt import Prompt
from model_onnx.sample import Sampling, choose
from model_onnx.session import Array
from model_onnx.thinking import ThoughtMatcher

Finish = Literal["stop", "truncated", "loop", "cancelled"]
MOST_PENDING = 4  # chosen and forced tokens behind which the drafter is asked


class Head(Protocol):
    """The part of a decoder that turns hidden states into logits."""

    def logits(self, hidden: Array) -> Array: ...

    def logits_of(self, hidden: Array, ids: Array) -> Array: ...


@dataclass(frozen=True)
class Request:
    """One generation.

    max_new_tokens counts forced tokens too. draft: text that the answer mostly copies (guesses are
    taken from it). time_limit: seconds from when the engine begins with it (waiting for a slot does
    not count), after which the text so far is returned, constrained text closed legally.
    thinking: most tokens of a thought before the answer, with the channel's own; 0: none. Else the
    prompt must have been rendered with thinking on.
    """

    prompt: Prompt
    constraint: Constraint = FreeText()
    max_new_tokens: int = 512
    sampling: Sampling = Sampling()
    draft: str | None = None
    time_limit: float | None = None
    thinking: int = 0


@dataclass(frozen=True)
class Result:
    """What came out. pieces: the bytes of each id; joined they are the text in UTF-8.

    logprobs: float32, natural log of each token's probability under the mask; 0 for forced tokens.
    finish: `stop` (complete), `truncated` (budget; constrained text is closed legally), `loop` (a
    repetition was cut), `cancelled` (time limit; closed too). choice_probabilities: for Choices,
    sums to 1; None after the time limit. thought: what was thought before; it counts nowhere but in
    thought_tokens, which include the channel's own.
    """

    text: str
    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
    logprobs: Array
    finish: Finish
    choice_probabilities: dict[str, float] | None
    prompt_tokens: int
    cached_tokens: int
    forced_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    prefill_seconds: float
    decode_seconds: float
    thought: str = ""
    thought_tokens: int = 0


@dataclass
class Counts:
    cached: int = 0
    forced: int = 0
    drafted: int = 0
    accepted: int = 0


@dataclass(eq=False)
class Sequence:
    """A request in flight."""

    request: Request
    future: Future[Result]
    grammar: Grammar
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    def __post_init__(self) -> None:
        request = self.request
        self.thought: ThoughtMatcher | None = None
        if request.thinking:
            self.thought = self.grammar.thought(request.prompt.ids.tolist(), request.thinking)
        self._answer = self.grammar.matcher(
            request.constraint, request.max_new_tokens, after_thought=bool(request.thinking)
        )
        self.matcher = self.thought or self._answer
        self._random = np.random.default_rng(request.sampling.seed)
        source = self.grammar.encode(request.draft or "")
        self._lookup = PromptLookup(source) if source else None
        self._guesser: PromptLookup | Acceptance | None = self._lookup  # whose the drafts are
        self._believed = 0  # of the drafts and of the one id that was left out as illegal
        self.acceptance: Acceptance | None = None  # of the bundle's drafter
        self.state: Array | None = None  # [H] of the last token in the cache
        self._loop_of_answer = LoopDetector(source)
        self._loop = LoopDetector() if self.thought else self._loop_of_answer
        self.options: list[list[int]] = []
        if isinstance(request.constraint, Choices):
            self.options = self.grammar.choice_token_ids(request.constraint.options)
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.pending: list[int] = []
        self.drafts: list[int] = []
        self.finish: Finish | None = None
        self.choice_probabilities: dict[str, float] | None = None
        self.counts = Counts()
        self.begun: float | None = None  # time.monotonic()
        self.ready = False  # fed as one row of a batch in this step
        self.settled = False  # the caller has the result, the error or the cancellation

    @property
    def overdue(self) -> bool:
        limit, begun = self.request.time_limit, self.begun
        return limit is not None and begun is not None and time.monotonic() - begun > limit

    @property
    def thinking(self) -> bool:
        return self.matcher is self.thought

    @property
    def must_score(self) -> bool:
        """Whether the options are to be scored behind what is pending."""
        return bool(self.options) and not self.thinking

    @property
    def needs_head(self) -> bool:
        """Whether the next choice needs the logits of the whole vocabulary."""
        return not self.matcher.forced() and self.matcher.allowed_ids() is None

    def absorb(self, hidden: Array, head: Head, logits: Array | None = None) -> int:
        """Chooses tokens from the hidden states [len(pending) + len(drafts), H] of what was fed.

        logits: the row of the last pending token when the caller has computed it for a batch.
        Returns how many fed drafts turned out wrong: the caller drops their cache rows.
        """
        row, drafts = len(hidden) - 1 - len(self.drafts), deque(self.drafts)
        rows = None if logits is None else {row: logits}
        fresh: list[int] = []  # chosen, not yet in the cache
        while self.finish is None and not (fresh and self.must_score):
            forced = self.matcher.forced()
            if forced:
                self.matcher.commit(forced)
                self.counts.forced += 0 if self.thinking else len(forced)
                taken = [(token, 0.0) for token in forced]
            elif fresh:
                break
            else:
                if rows is None and self.matcher.allowed_ids() is None:
                    rows = dict(enumerate(head.logits(hidden[row:]), start=row))
                taken = self._choose(hidden[row], head, rows[row] if rows else None)
            for token, logprob in taken:
                self._record(token, logprob)
                if not fresh and drafts and drafts[0] == token:
                    drafts.popleft()
                    row += 1
                    self.counts.accepted += 1
                else:
                    fresh.append(token)
            self._settle()
        if self._guesser is not None:
            self._guesser.feedback(self._believed, len(self.drafts) - len(drafts))
        self.state = hidden[row].copy()
        self.pending, self.drafts, self._believed = fresh, [], 0
        if self._lookup is not None and not self.thinking:
            self.guess(self._lookup.propose(self.ids), self._lookup)
        return len(drafts)

    @property
    def room(self) -> int:
        """How many ids may be guessed now: another one is always chosen behind them. 0 when there
        are guesses already, or when so much is forced that a guess behind it would be far off."""
        if self.finish is not None or self.drafts or self.must_score:
            return 0
        return max(0, self.matcher.remaining - 1) if 0 < len(self.pending) <= MOST_PENDING else 0

    def guess(self, ids: list[int], guesser: PromptLookup | Acceptance) -> None:
        """Takes guesses of what follows: those that fit the budget, and of the drafter those that
        the matcher allows (it knows no grammar; a text that is copied mostly obeys it)."""
        if self.finish is not None:
            ids = []
        ids = ids[: max(0, self.matcher.remaining - 1)]
        legal = len(ids) if guesser is self._lookup else self.matcher.legal_prefix(ids)
        self.drafts = ids[:legal]
        self._guesser, self._believed = guesser, min(len(ids), len(self.drafts) + 1)
        self.counts.drafted += len(self.drafts)

    def score(self, probabilities: Array) -> None:
        """Ends a Choices request: the likeliest option is the answer."""
        assert isinstance(self.request.constraint, Choices)
        options = self.request.constraint.options
        values = [float(value) for value in probabilities]
        self.choice_probabilities = dict(zip(options, values, strict=True))
        best = int(np.argmax(probabilities))
        self.ids = self.grammar.encode(options[best])
        # The choice was made at the first token; the others follow from it.
        self.logprobs = [float(np.log(max(values[best], 1e-30))), *[0.0] * (len(self.ids) - 1)]
        self.finish = "stop"

    def expire(self) -> None:
        """Ends the answer at its time limit. Options get no choice: none would be the model's."""
        self.matcher = self._answer
        for token in [] if self.options else self.matcher.close():
            self._record(token, 0.0)
        self.finish = "cancelled"
        self.settle()

    def settle(self, error: Exception | None = None) -> None:
        """Gives the caller the result or the error, once, unless the caller has cancelled."""
        if self.settled:
            return
        self.settled = True
        if not self.future.set_running_or_notify_cancel():
            return
        if error is None:
            self.future.set_result(self.result())
        else:
            self.future.set_exception(error)

    def result(self) -> Result:
        pieces = tuple(self.grammar.bytes_of(token) for token in self.ids)
        thought = self.thought
        return Result(
            text=_text(pieces),
            ids=tuple(self.ids),
            pieces=pieces,
            logprobs=np.array(self.logprobs, np.float32),
            finish=self.finish or "cancelled",
            choice_probabilities=self.choice_probabilities,
            prompt_tokens=len(self.request.prompt.ids),
            cached_tokens=self.counts.cached,
            forced_tokens=self.counts.forced,
            drafted_tokens=self.counts.drafted,
            accepted_tokens=self.counts.accepted,
            prefill_seconds=self.prefill_seconds,
            decode_seconds=self.decode_seconds,
            thought=_text(map(self.grammar.bytes_of, thought.free)).strip() if thought else "",
            thought_tokens=len(thought.tokens) if thought else 0,
        )

    def _choose(self, hidden: Array, head: Head, logits: Array | None) -> list[tuple[int, float]]:
        """The next token and its log-probability; a whole ending when the budget forces one."""
        ids = self.matcher.allowed_ids()
        if ids is not None:
            scores = head.logits_of(hidden, ids)
            index, logprob = choose(scores, None, self.request.sampling, self._random)
            token = int(ids[index])
        else:
            assert logits is not None
            mask = self.matcher.allowed()
            token, logprob = choose(logits, mask, self.request.sampling, self._random)
        appended = self.matcher.advance(token)
        if appended == [token]:
            return [(token, logprob)]
        return [(token, 0.0) for token in appended]

    def _settle(self) -> None:
        """Ends the sequence when its answer is complete, its budget spent or its text a loop; a
        thought makes way for the answer then."""
        if self.thought and self.thinking:
            if self.thought.finished:
                self.matcher, self._loop = self._answer, self._loop_of_answer
            elif self._loop.found:
                self.thought.end()
        elif self.matcher.finished:
            self.finish = "truncated" if self.matcher.truncated else "stop"
        elif self._loop.found:
            for token in self.matcher.close():
                self._record(token, 0.0)
            self.finish = "loop"

    def _record(self, token: int, logprob: float) -> None:
        if not self.thinking:
            self.ids.append(token)
            self.logprobs.append(logprob)
        self._loop.add(token)


def _text(pieces: Iterable[bytes]) -> str:
    """A budget can end inside a character; nothing else makes invalid UTF-8."""
    return b"".join(pieces).decode("utf-8", errors="ignore")
