"""What an answer may say: a Constraint (plain data) becomes a Matcher that the decode loop asks.

    matcher = grammar.matcher(JsonSchema('{"type":"boolean"}'), max_new_tokens=8)
    while not matcher.finished:
        forced = matcher.forced()              # must come next: append in one chunk, no choice
        if forced:
            matcher.commit(forced)
            continue
        token = ...                            # the best under allowed() or among allowed_ids()
        appended = matcher.advance(token)      # [token]; [] for an end token; or a whole ending

Knows tokens and text, no logits and no cache. llguidance never raises by itself, so every call is
checked here and becomes a ConstraintError: an answer is never silently unconstrained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from model_onnx.answer import CALL_CLOSE, CHANNEL_CLOSE, CHANNEL_OPEN, QUOTE
from model_onnx.bundle import TOKENIZER, Bundle
from model_onnx.calls import calls_grammar
from model_onnx.errors import BundleError, ConstraintError
from model_onnx.grammar import json_grammar, literals_grammar, regex_grammar
from model_onnx.matcher import GrammarMatcher, Matcher, Notation, Vocabulary
from model_onnx.thinking import Channel, ThoughtMatcher

# What an ending tries where the grammar leaves a choice: close what is open, write what says
# "absent", else the least value.
_CLOSERS = ("}", "]", ",", "null", '""', "[]", "false", "0", '"', "[")
_THOUGHT = "thought\n"  # the name of the channel, as the chat template opens it


@dataclass(frozen=True)
class JsonSchema:
    """Compact JSON of a schema (JSON text). With `evidence`, strings marked `"verbatim": true` are
    runs of its words."""

    schema: str
    evidence: str | None = None


@dataclass(frozen=True)
class Regex:
    """The whole answer matches the pattern (Rust dialect, no look-around).

    may_break_off: a spent budget cuts the answer off where it stands. Else a legal ending is kept
    ready for it, which costs tens of milliseconds a token where the ending is a long text."""

    pattern: str
    may_break_off: bool = False


@dataclass(frozen=True)
class Choices:
    """The answer is one of the options."""

    options: tuple[str, ...]


@dataclass(frozen=True)
class ToolCalls:
    """Up to `most` calls of declared tools, or text in their place unless a call is a must.

    tools: (name, JSON Schema text of the arguments); evidence: as in JsonSchema."""

    tools: tuple[tuple[str, str], ...]
    most: int = 1
    must_call: bool = False
    evidence: str | None = None


@dataclass(frozen=True)
class FreeText:
    """Anything until the model ends its turn."""


Bounded = JsonSchema | Regex | Choices | ToolCalls
Constraint = Bounded | FreeText


class Grammar:
    """The tokenizer's side of constraints: one per process and bundle (3-12 s at 262k tokens)."""

    def __init__(self, bundle: Bundle) -> None:
        width = bundle.config.vocab_size
        tokenizer = json.loads(bundle.path(TOKENIZER).read_text(encoding="utf-8"))
        special = _hide_special_tokens(tokenizer)
        self._tokenizer = LLTokenizer(
            json.dumps(tokenizer, ensure_ascii=False),
            n_vocab=width,
            eos_token=list(bundle.eos_token_ids),
            slices=LLTokenizer.json_slices(),
        )
        pieces = [self._tokenizer.decode_bytes([token]) for token in range(width)]
        for token, name in special.items():
            pieces[token] = name.encode()
        eos = frozenset(bundle.eos_token_ids)
        used = {token["id"] for token in tokenizer["added_tokens"]}
        unused = set(range(width)) - used - set(tokenizer["model"]["vocab"].values())
        never = unused.union(bundle.suppress_tokens) - eos
        self._vocabulary = Vocabulary(
            pieces=tuple(pieces),
            lengths=np.array([len(piece) for piece in pieces], dtype=np.int32),
            eos=eos,
            suppressed=np.array(sorted(never), dtype=np.int64),
            quote=self.encode('"'),
            closers=tuple(self.encode(text) for text in _CLOSERS),
        )
        self._controls = {name: token for token, name in special.items()}

    def check(self, constraint: Constraint) -> None:
        """Raises ConstraintError that names the keyword which cannot be enforced."""
        if not isinstance(constraint, FreeText):
            self._start(constraint)

    def matcher(
        self, constraint: Constraint, max_new_tokens: int, *, after_thought: bool = False
    ) -> Matcher:
        """A fresh answer of at most `max_new_tokens` ids (the end token is not counted).

        after_thought: free text does not open a channel again. Raises ConstraintError when the
        constraint cannot be enforced or when not even its shortest answer fits the budget."""
        if isinstance(constraint, FreeText):
            plain = self.channel.plain(self._vocabulary) if after_thought else self._vocabulary
            return Matcher(plain, max_new_tokens)
        matcher = self._start(constraint)
        is_json = isinstance(constraint, JsonSchema)
        may_break_off = isinstance(constraint, Regex) and constraint.may_break_off
        try:
            return GrammarMatcher(
                self._vocabulary,
                matcher,
                max_new_tokens,
                is_json=is_json,
                may_break_off=may_break_off,
                notation=self._notation(constraint),
            )
        except ConstraintError as error:
            raise ConstraintError(f"{_describe(constraint)}: {error}") from error

    @cached_property
    def channel(self) -> Channel:
        """Raises BundleError when the tokenizer has no channels."""
        missing = [name for name in (CHANNEL_OPEN, CHANNEL_CLOSE) if name not in self._controls]
        if missing:
            raise BundleError(
                f"the tokenizer has no {' and no '.join(missing)}, which a thought needs; use the "
                "tokenizer.json that came with the checkpoint, or no thinking"
            )
        return Channel(
            opening=(self._controls[CHANNEL_OPEN], *self.encode(_THOUGHT)),
            close=self._controls[CHANNEL_CLOSE],
            controls=frozenset(self._controls.values()),
        )

    def thought(self, prompt: Sequence[int], budget: int) -> ThoughtMatcher:
        """A fresh thought of at most `budget` ids. Raises RequestError, BundleError."""
        return ThoughtMatcher(self._vocabulary, self.channel, prompt, budget)

    def bytes_of(self, token: int) -> bytes:
        """What one token writes; a special token writes its name."""
        return self._vocabulary.pieces[token]

    def encode(self, text: str) -> list[int]:
        """Canonical ids of plain text; the spelling of a control token gives ordinary tokens."""
        ids: list[int] = self._tokenizer.tokenize_str(text)
        return ids

    def choice_token_ids(self, options: Sequence[str]) -> list[list[int]]:
        """One canonical id sequence for each option, in order. Where an option's ids begin
        another's, an end token closes it, so that no sequence begins another."""
        _check_options(options)
        sequences = [self.encode(option) for option in options]
        end = min(self._vocabulary.eos)
        prefixes = {tuple(ids[:n]) for ids in sequences for n in range(len(ids))}
        return [[*ids, end] if tuple(ids) in prefixes else ids for ids in sequences]

    def _notation(self, constraint: Bounded) -> Notation | None:
        """How calls are closed; None: like JSON, or not at all."""
        if not isinstance(constraint, ToolCalls):
            return None
        quote, close = ([self._controls[name]] for name in (QUOTE, CALL_CLOSE))
        closers = (self.encode(text) for text in ("}", "]", ",", "null", "false", "0"))
        return Notation(quote, (close, quote, *closers))

    def _start(self, constraint: Bounded) -> Any:
        """A new llguidance matcher."""
        lark = _lark(constraint, self._controls)
        try:
            lark.encode()
        except UnicodeEncodeError as error:
            raise ConstraintError(
                f"{_describe(constraint)} or its evidence holds a lone surrogate, which no "
                "answer can hold; clean the text first"
            ) from error
        matcher = LLMatcher(self._tokenizer, lark, log_level=0)
        if matcher.is_error():
            raise ConstraintError(
                f"{_describe(constraint)} cannot be enforced: {_reason(matcher.get_error())}"
            )
        return matcher


def _hide_special_tokens(tokenizer: dict[str, Any]) -> dict[int, str]:
    """Renames the special tokens of a tokenizer.json in place; returns id -> name.

    llguidance tokenizes what a grammar forces, and would write a document's "<turn|>" as the
    control token. No text spells the new names: JSON escapes their control characters."""
    names: dict[int, str] = {}
    for token in tokenizer["added_tokens"]:
        if token["special"]:
            names[token["id"]] = token["content"]
            token["content"] = f"\x00\x01{token['id']}\x01\x00"
    hidden = {name: f"\x00\x01{index}\x01\x00" for index, name in names.items()}
    model = tokenizer["model"]
    model["vocab"] = {hidden.get(text, text): index for text, index in model["vocab"].items()}
    if model.get("unk_token") in hidden:
        model["unk_token"] = hidden[model["unk_token"]]
    return names


def _check_options(options: Sequence[str]) -> None:
    repeated = {option for option in options if list(options).count(option) > 1}
    if not options or "" in options or repeated:
        raise ConstraintError(
            f"got the choices {list(options)[:20]}; expected at least one, none empty or repeated"
        )


def _lark(constraint: Bounded, controls: Mapping[str, int]) -> str:
    if isinstance(constraint, JsonSchema):
        return json_grammar(constraint.schema, constraint.evidence)
    if isinstance(constraint, Regex):
        return regex_grammar(constraint.pattern)
    if isinstance(constraint, ToolCalls):
        return calls_grammar(
            constraint.tools,
            controls,
            most=constraint.most,
            must_call=constraint.must_call,
            evidence=constraint.evidence,
        )
    _check_options(constraint.options)
    return literals_grammar(constraint.options)


def _describe(constraint: Bounded) -> str:
    if isinstance(constraint, JsonSchema):
        text = f"the schema {constraint.schema}"
    elif isinstance(constraint, Regex):
        text = f"the pattern {constraint.pattern!r}"
    elif isinstance(constraint, ToolCalls):
        text = f"the tools {[name for name, _ in constraint.tools]}"
    else:
        text = f"the choices {list(constraint.options)}"
    return text if len(text) <= 300 else text[:300] + " ..."


def _reason(error: str) -> str:
    """llguidance's message without its copy of the whole grammar."""
    return error.split("\n<state>")[0].split("\n   1 |")[0].strip()[:500]
