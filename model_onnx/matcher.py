"""The state of one answer while it is written: what may come next, what must, and a way to end.

Knows token ids and their bytes; no tokenizer file, no schema, no logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from model_onnx.errors import ConstraintError

FEW_ROWS = 4096  # a head on chosen rows wins below about 6.5k rows
_LOOKAHEAD = 64  # ids tried for one that an ending can follow at once
_OUTSIDE, _INSIDE, _ESCAPE = 0, 1, 2  # of a JSON string; after its backslash


@dataclass(frozen=True)
class Vocabulary:
    """What a matcher must know of the tokenizer. V: width of the logits.

    pieces: the bytes each id writes, [V], and their lengths. eos: ids that end an answer.
    suppressed: ids that are never written. quote, closers: short JSON texts as ids, in the order
    in which an ending tries them."""

    pieces: tuple[bytes, ...]
    lengths: npt.NDArray[np.int32]
    eos: frozenset[int]
    suppressed: npt.NDArray[np.int64]
    quote: list[int]
    closers: tuple[list[int], ...]

    @cached_property
    def never(self) -> frozenset[int]:
        """Ids that no answer contains."""
        return self.eos.union(self.suppressed.tolist())


@dataclass(frozen=True)
class Notation:
    """What an ending tries, as ids: quote begins or ends a text, closers in order."""

    quote: list[int]
    closers: tuple[list[int], ...]


class Matcher:
    """One answer under no grammar: free text.

    tokens: ids so far, without the end token. finished: nothing may follow. truncated: the budget
    or `close` ended the answer, not the model."""

    def __init__(self, vocabulary: Vocabulary, max_new_tokens: int) -> None:
        self._vocabulary = vocabulary
        self.max_new_tokens = max_new_tokens
        self.tokens: list[int] = []
        self.finished = self.truncated = max_new_tokens <= 0

    @property
    def remaining(self) -> int:
        """Ids that the budget still allows; the end token is free."""
        return self.max_new_tokens - len(self.tokens)

    @property
    def accepting(self) -> bool:
        """The answer so far is whole: an end token is allowed."""
        return True

    def forced(self) -> list[int]:
        """Ids that must come next, not yet taken; [] where there is a choice. Never an end token:
        when only that could follow, the matcher is `finished`."""
        return []

    def allowed(self) -> npt.NDArray[np.bool_]:
        """bool [V]: what may come next; end tokens where `accepting`."""
        allowed = np.ones(len(self._vocabulary.pieces), dtype=np.bool_)
        allowed[self._vocabulary.suppressed] = False
        return allowed

    def allowed_ids(self) -> npt.NDArray[np.int64] | None:
        """The same as ascending ids where they are at most FEW_ROWS, else None."""
        return None

    def legal_prefix(self, draft: Sequence[int]) -> int:
        """How many draft ids could be taken one after another (before the budget is asked)."""
        never = self._vocabulary.never
        return next((i for i, token in enumerate(draft) if token in never), len(draft))

    def advance(self, token: int) -> list[int]:
        """Takes the chosen token and returns the ids it appended: the token; none for an end
        token; or a whole legal ending instead, when after this token none would fit the budget.
        Raises ConstraintError if the token is not allowed."""
        if self.finished:
            raise ConstraintError(f"got token {token} after the answer was finished")
        if token in self._vocabulary.eos:
            if not self.accepting:
                raise ConstraintError(f"got end token {token} before the answer is whole")
            self.finished = True
            return []
        return self._take(token)

    def commit(self, tokens: Sequence[int]) -> None:
        """Takes ids from `forced`. Raises ConstraintError where one is not allowed."""
        for token in tokens:
            if self.finished or self._take(token) != [token]:
                raise ConstraintError(f"got forced tokens {list(tokens)}, not the ones of forced()")

    def rollback(self, count: int) -> None:
        """As if the last `count` ids had never been taken."""
        if not 0 <= count <= len(self.tokens):
            raise ConstraintError(f"got a rollback of {count} of {len(self.tokens)} tokens")
        del self.tokens[len(self.tokens) - count :]
        self.finished = self.truncated = self.remaining <= 0

    def close(self) -> list[int]:
        """Ends the answer legally now (a loop, a time limit); returns the ids it appended."""
        self.finished = self.truncated = True
        return []

    def _take(self, token: int) -> list[int]:
        if token in self._vocabulary.never:
            raise ConstraintError(f"got token {token}, which no answer contains")
        self.tokens.append(token)
        self.finished = self.truncated = self.remaining <= 0
        return [token]


@dataclass
class _Step:
    """The state after one id. string: where in JSON text (see `_scan`). ending: ids that end the
    answer legally within the budget. forced: see `Matcher.forced`, once it has been asked."""

    string: int
    ending: list[int]
    forced: list[int] | None = None


class GrammarMatcher(Matcher):
    """One answer under a grammar. A legal ending always fits the remaining budget.

    matcher: a fresh LLMatcher. It never raises, so its error state is checked after each use.
    may_break_off: no ending is kept ready; a spent budget cuts the answer off, `truncated`."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        matcher: Any,
        max_new_tokens: int,
        *,
        is_json: bool,
        may_break_off: bool = False,
        notation: Notation | None = None,
    ) -> None:
        super().__init__(vocabulary, max_new_tokens)
        self._matcher = matcher
        self._is_json = is_json
        if notation is None:
            notation = Notation(vocabulary.quote, vocabulary.closers if is_json else ())
        self._notation = notation
        self._may_break_off = may_break_off
        self._bits = allocate_token_bitmask(1, len(vocabulary.pieces))  # int32 [1, ceil(V / 32)]
        self._few: npt.NDArray[np.int64] | None = None
        self._has_bits = self._has_few = False
        ending = self._find_ending(_OUTSIDE, max_new_tokens)
        if ending is None:
            raise ConstraintError(
                f"found no legal answer within {max_new_tokens} tokens; raise max_new_tokens or "
                "bound the pattern"
            )
        self._steps = [_Step(_OUTSIDE, ending)]  # one more than tokens
        self._settle()

    @property
    def accepting(self) -> bool:
        return bool(self._matcher.is_accepting())

    def forced(self) -> list[int]:
        step = self._steps[-1]
        if step.forced is None:
            tokens: list[int] = self._matcher.compute_ff_tokens()
            self._check()
            fits = step.ending[: len(tokens)] == tokens or self._fits(tokens)
            step.forced = tokens if fits else step.ending
        return [] if self.finished else list(step.forced)

    def allowed(self) -> npt.NDArray[np.bool_]:
        width = len(self._vocabulary.pieces)
        words = self._words().view(np.uint8)
        return np.unpackbits(words, bitorder="little", count=width).view(np.bool_)

    def allowed_ids(self) -> npt.NDArray[np.int64] | None:
        words = self._words()
        if not self._has_few:
            self._few, self._has_few = _few_ids(words), True
        return self._few

    def legal_prefix(self, draft: Sequence[int]) -> int:
        return int(self._matcher.validate_tokens(list(draft[: super().legal_prefix(draft)])))

    def rollback(self, count: int) -> None:
        super().rollback(count)
        if count:
            self._matcher.rollback(count)
            self._check()
            del self._steps[-count:]
            self._has_bits = False
        self.finished = self.truncated = False
        self._settle()

    def close(self) -> list[int]:
        ending = self._steps[-1].ending
        self.commit(ending)
        return ending + super().close()

    def _take(self, token: int) -> list[int]:
        step = self._steps[-1]
        if self._matcher.try_consume_tokens([token]) != 1:
            self._check()
            raise ConstraintError(
                f"got token {token} ({self._vocabulary.pieces[token]!r}), which the constraint "
                "does not allow here; choose under allowed()"
            )
        string = self._scan(step.string, [token])
        ending: list[int] | None = step.ending[1:]
        if step.ending[:1] != [token] and not self._may_break_off:
            ending = self._adapt(step.ending, self.remaining - 1)
            ending = ending or self._find_ending(string, self.remaining - 1)
        if ending is None:
            self._matcher.rollback(1)
            self._check()
            return self.close()
        self._has_bits = False
        self.tokens.append(token)
        self._steps.append(_Step(string, ending))
        self._settle()
        return [token]

    def _settle(self) -> None:
        """Finished when nothing but an end token may follow, or when no budget is left."""
        if self._matcher.is_stopped():
            self._check()
            self.finished = True
        elif self.remaining <= 0:
            self.finished = self.truncated = True

    def _fits(self, tokens: list[int]) -> bool:
        """Whether a legal ending fits after these forced ids."""
        taken = self._matcher.try_consume_tokens(tokens)
        string = self._scan(self._steps[-1].string, tokens)
        ending = self._find_ending(string, self.remaining - taken)
        self._matcher.rollback(taken)
        self._check()
        return taken == len(tokens) and ending is not None

    def _words(self) -> npt.NDArray[np.uint32]:
        """The mask as uint32 [ceil(V / 32)]: bit i of word w is token 32 w + i."""
        if not self._has_bits:
            fill_next_token_bitmask(self._matcher, self._bits, 0)
            self._check()
            self._has_bits, self._has_few = True, False
        words: npt.NDArray[np.uint32] = self._bits[0].view(np.uint32)
        return words

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = str(self._matcher.get_error()).split("\n<state>")[0]
            raise ConstraintError(f"the constraint failed: {reason}")

    def _scan(self, string: int, tokens: list[int]) -> int:
        """Where in JSON text these ids lead."""
        if not self._is_json:
            return _OUTSIDE
        for byte in b"".join(self._vocabulary.pieces[token] for token in tokens):
            if string == _ESCAPE:
                string = _INSIDE
            elif byte == 0x22:
                string = _OUTSIDE if string == _INSIDE else _INSIDE
            elif byte == 0x5C and string == _INSIDE:
                string = _ESCAPE
        return string

    def _adapt(self, ending: list[int], limit: int) -> list[int] | None:
        """The ending of one token ago if it still serves, five times cheaper than a new one: the
        token may have stood inside a text, in place of the ending's first value, or opened one."""
        for tokens in (ending, ending[1:], self._notation.quote + ending[1:]):
            if len(tokens) <= limit and self._matcher.validate_tokens(tokens) == len(tokens):
                self._matcher.consume_tokens(tokens)
                whole = self._matcher.is_accepting()
                self._matcher.rollback(len(tokens))
                self._check()
                if whole:
                    return tokens
        return None

    def _find_ending(self, string: int, limit: int) -> list[int] | None:
        """A short legal ending of at most `limit` ids from the matcher's present state, or None.
        First with null for what may be absent, then with whatever takes the fewest ids. Where
        neither helps, long pieces reach the end of a fixed length soon, short ones stray less."""
        if self._may_break_off:
            return []
        closers = self._notation.closers
        ending = self._try_ending(string, limit, closers, longest=True)
        if ending is None:
            ending = self._try_ending(string, limit, sorted(closers, key=len), longest=False)
        return ending

    def _try_ending(
        self, string: int, limit: int, closers: Sequence[list[int]], *, longest: bool
    ) -> list[int] | None:
        ending: list[int] = []
        while not self._matcher.is_accepting() and len(ending) < limit:
            tokens = self._matcher.compute_ff_tokens()
            tokens = tokens or self._towards_the_end(string, closers, longest)
            if not self._matcher.consume_tokens(tokens):
                self._check()
            string = self._scan(string, tokens)
            ending += tokens
        found = len(ending) <= limit and bool(self._matcher.is_accepting())
        if ending:
            self._matcher.rollback(len(ending))
        self._check()
        return ending if found else None

    def _towards_the_end(
        self, string: int, closers: Sequence[list[int]], longest: bool
    ) -> list[int]:
        """What to write where there is a choice: a closer; else a short id that a closer can
        follow; else any."""
        closer = self._closer(string, closers)
        if closer is not None:
            return closer
        self._has_bits = False  # the state is not the answer's: compute, and forget
        candidates = np.flatnonzero(self.allowed())
        self._has_bits = False
        by_length = candidates[np.argsort(self._vocabulary.lengths[candidates], kind="stable")]
        for token in by_length[:_LOOKAHEAD].tolist():
            self._matcher.consume_tokens([token])
            after = self._scan(string, [token])
            ends = self._matcher.is_accepting() or self._closer(after, closers) is not None
            self._matcher.rollback(1)
            if ends:
                return [token]
        return [int(by_length[-1 if longest else 0])]

    def _closer(self, string: int, closers: Sequence[list[int]]) -> list[int] | None:
        """The first closer that the grammar takes; inside a JSON string only the quote."""
        tried = closers if string == _OUTSIDE else [self._notation.quote]
        return next((c for c in tried if self._matcher.validate_tokens(c) == len(c)), None)


def _few_ids(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64] | None:
    """The ids of the set bits, or None if they are more than FEW_ROWS."""
    if int(np.bitwise_count(words).sum(dtype=np.int64)) > FEW_ROWS:
        return None
    used = np.flatnonzero(words)
    bits = np.unpackbits(words[used].view(np.uint8), bitorder="little").reshape(-1, 32)
    row, bit = np.nonzero(bits)
    return used[row] * 32 + bit
