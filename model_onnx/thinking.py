"""The thought before an answer: free text between a channel's opening and its end, within a budget.

Knows token ids; no logits and no answer. The budget counts the channel's own tokens, so a prompt,
a thought and an answer never take more than their budgets say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_onnx.errors import ConstraintError, RequestError
from model_onnx.matcher import Matcher, Vocabulary


@dataclass(frozen=True)
class Channel:
    """opening: ids that begin a thought, as the chat template writes them; close: the id that ends
    it; controls: all ids of control tokens."""

    opening: tuple[int, ...]
    close: int
    controls: frozenset[int]

    def plain(self, vocabulary: Vocabulary, *, but: int | None = None) -> Vocabulary:
        """The vocabulary with no control token in it, save one and those that end an answer."""
        forbidden = vocabulary.never | self.controls
        forbidden -= vocabulary.eos if but is None else {but}
        suppressed = np.array(sorted(forbidden), np.int64)
        eos = vocabulary.eos if but is None else frozenset[int]()
        return replace(vocabulary, eos=eos, suppressed=suppressed)


class ThoughtMatcher(Matcher):
    """One thought. tokens: with the channel's opening, unless the prompt ends with it, and its end.

    truncated: it was closed by force, at the end of its budget or by `end`."""

    def __init__(
        self, vocabulary: Vocabulary, channel: Channel, prompt: Sequence[int], budget: int
    ) -> None:
        """budget: ids, at least one of them free. prompt: rendered with thinking on."""
        opening = list(channel.opening)
        ids = list(prompt[-len(opening) :])
        self._opening = [] if ids == opening else opening
        if ids[-1:] == [channel.close]:
            raise RequestError(
                "got a prompt that closes the thought, expected one rendered with thinking=True"
            )
        if budget < len(self._opening) + 2:
            raise RequestError(
                f"got {budget} tokens for thinking, expected 0 or at least "
                f"{len(self._opening) + 2}: the channel's own are counted"
            )
        super().__init__(channel.plain(vocabulary, but=channel.close), budget)
        self._close = channel.close
        self._ended = False

    @property
    def free(self) -> list[int]:
        """What was thought: `tokens` without the channel's own."""
        end = -1 if self.finished else None
        return self.tokens[len(self._opening) : end]

    def forced(self) -> list[int]:
        if self.finished:
            return []
        if len(self.tokens) < len(self._opening):
            return self._opening[len(self.tokens) :]
        return [self._close] if self._ended or self.remaining <= 1 else []

    def end(self) -> None:
        """Makes the channel's end the next token."""
        self._ended = True

    def rollback(self, count: int) -> None:
        super().rollback(count)
        self.finished = self.tokens[-1:] == [self._close]
        self.truncated = self.finished and self._ended

    def _take(self, token: int) -> list[int]:
        forced = self.forced()
        if token != forced[0] if forced else token in self._vocabulary.never:
            raise ConstraintError(f"got token {token}, which does not belong into this thought")
        self.tokens.append(token)
        self.finished = token == self._close
        self.truncated = self.finished and bool(forced)
        return [token]
