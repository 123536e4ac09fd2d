"""The guard of `clean` and `repair`: which of a model's edits are applied to a text.

Knows no model. The two texts are aligned and cut into pieces at white space; each piece that
differs is one Edit, which is applied or refused. A refused edit leaves the original words and is
reported. Refused are edits that

- change, drop or add a protected word: digits, amounts, dates, times, identifiers (`protected`);
- the subtask's `Policy.judge` refuses: too much rewritten, words from nowhere, words dropped;
- break or join lines, where the policy keeps lines.

Worked example: `Tbe sum is 12.5O` / `The sum is 12.60` gives `The sum is 12.5O` with one edit
applied (`Tbe` -> `The`) and one refused (`12.5O` -> `12.60`, protected).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rapidfuzz.distance import Levenshtein

Refusal = Literal["", "protected", "unsure", "edit_cap", "added", "dropped", "lines"]

# Letters then digits (AB12, INV-204) or digits then letters (12A): an identifier in capitals.
_IDENTIFIER = re.compile(r"[A-Z]{1,5}[-/#.:]?\d{2,}[\w/.-]*|\d{2,}[-/]?[A-Z]{1,3}")
_EDGE = ".,;:!?()[]{}<>\"'`*_|~=^-"


class Edit(BaseModel):
    """One changed piece. `refused`: why the original was kept, "" when the edit was applied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int  # of the original text, from 0
    before: str
    after: str
    refused: Refusal = ""


@dataclass(frozen=True)
class Piece:
    """Words of both texts."""

    before: list[str]
    after: list[str]


@dataclass(frozen=True)
class Policy:
    """What an edit may do.

    judge: a piece whose protected words agree -> refusal; may_lose: whether protected words of a
    piece may vanish (they never change); key: what words are aligned by (None: the texts are
    aligned by characters, for wrong letters and lost spaces); keep_lines: line breaks are content;
    total_cap: share of the text's characters that may change, over it every edit is refused.
    """

    judge: Callable[[Piece], Refusal]
    may_lose: Callable[[Piece], bool]
    total_cap: float
    keep_lines: bool
    key: Callable[[str], str] | None = None


@dataclass(frozen=True)
class Guarded:
    text: str
    edits: tuple[Edit, ...]

    @property
    def refused(self) -> tuple[Edit, ...]:
        return tuple(edit for edit in self.edits if edit.refused)


def protected(word: str) -> bool:
    """Whether a word carries digits that a correction must not touch.

    More digits than letters (`12.5O`, `l0:30`, `2024-01-05`) or an identifier in capitals (`AB12`).
    `wi11` and `T0TAL` are words with digits in them, so they stay correctable.
    """
    bare = word.strip(_EDGE)
    digits = sum(character.isdigit() for character in bare)
    letters = sum(character.isalpha() for character in bare)
    return digits > letters or bool(_IDENTIFIER.fullmatch(bare))


def protected_words(words: list[str]) -> list[str]:
    """The protected ones, bare of edge punctuation: `12.50,` may follow `12.50`."""
    return [word.strip(_EDGE) for word in words if protected(word)]


def guard(
    before: str,
    after: str,
    policy: Policy,
    *,
    sure: Callable[[int, int], bool] = lambda start, end: True,
) -> Guarded:
    """`before` with those edits of `after` that the policy allows. Pure.

    sure: whether the model was sure of after[start:end].
    """
    parts: list[str] = [before[: len(before) - len(before.lstrip())]]
    edits: list[Edit] = []
    line = at = 0
    pieces = (
        _by_characters(before, after)
        if policy.key is None
        else _by_words(before, after, policy.key)
    )
    for old, new in pieces:
        chosen = old
        if _differ(old, new, policy):
            refused = _judge(old, new, policy)
            if not refused and not sure(at, at + len(new)):
                refused = "unsure"
            edits.append(
                Edit(line=line, before=old.strip(" "), after=new.strip(" "), refused=refused)
            )
            chosen = old if refused else _spaced(old, new, policy)
        if parts[-1] and chosen.strip() and not parts[-1][-1].isspace():
            parts.append(" ")  # pieces never merge into a new word
        parts += [chosen] if chosen else []
        line, at = line + old.count("\n"), at + len(new)
    return _capped(before, "".join(parts), edits, policy)


def _capped(before: str, text: str, edits: list[Edit], policy: Policy) -> Guarded:
    allowed = max(8, round(policy.total_cap * len(before)))
    if Levenshtein.distance(before, text, score_cutoff=allowed) > allowed:
        text = before
        edits = [edit.model_copy(update={"refused": edit.refused or "edit_cap"}) for edit in edits]
    text, tail = text.rstrip(), before[len(before.rstrip()) :]
    if policy.keep_lines:  # the last lines may have lost all their words
        tail = "\n" * (before.count("\n") - text.count("\n") - tail.count("\n")) + tail
    return Guarded(text + tail, tuple(edits))


_Pair = tuple[str, str]  # a piece of the original and what stands there now


def _by_characters(before: str, after: str) -> list[_Pair]:
    """Each piece ends in white space that both texts have there."""
    pairs, i, j = [], len(before) - len(before.lstrip()), 0
    blank = (re.sub(r"\s", " ", before), re.sub(r"\s", " ", after))
    start = i
    for block in Levenshtein.opcodes(blank[0][start:], blank[1]):
        if block.tag != "equal":
            continue
        for k in range(block.src_end - block.src_start):
            if blank[0][start + block.src_start + k] == " ":
                p, q = start + block.src_start + k + 1, block.dest_start + k + 1
                pairs.append((before[i:p], after[j:q]))
                i, j = p, q
    return [*pairs, (before[i:], after[j:])] if before[i:] or after[j:] else pairs


def _by_words(before: str, after: str, key: Callable[[str], str]) -> list[_Pair]:
    """Words with the same key are a piece each; what lies between them is one."""
    old, new = re.findall(r"\S+\s*", before), re.findall(r"\S+\s*", after)
    keys = [[key(word.strip()) for word in words] for words in (old, new)]
    pairs: list[_Pair] = []
    i = j = 0
    for block in Levenshtein.opcodes(*keys).as_matching_blocks():
        if block.a > i or block.b > j:
            pairs.append(("".join(old[i : block.a]), "".join(new[j : block.b])))
        for k in range(block.size):
            pairs.append((old[block.a + k], new[block.b + k]))
        i, j = block.a + block.size, block.b + block.size
    return pairs


def _differ(old: str, new: str, policy: Policy) -> bool:
    return old.split() != new.split() or (
        not policy.keep_lines and old.count("\n") != new.count("\n")
    )


def _judge(old: str, new: str, policy: Policy) -> Refusal:
    piece = Piece(old.split(), new.split())
    if not _same_numbers(piece) and not (policy.may_lose(piece) and _only_loses(piece)):
        return "protected"
    if policy.keep_lines and piece.after and _breaks(old) != _breaks(new):
        return "lines"
    return policy.judge(piece)


def _same_numbers(piece: Piece) -> bool:
    """The same protected words, or the same digits where only spaces moved: `49of`, `49 of`."""
    if protected_words(piece.before) == protected_words(piece.after):
        return True
    one, two = " ".join(piece.before), " ".join(piece.after)
    moved = one.replace(" ", "") == two.replace(" ", "")
    return moved and re.findall(r"\d+", one) == re.findall(r"\d+", two)


def _only_loses(piece: Piece) -> bool:
    return _is_subsequence(protected_words(piece.after), protected_words(piece.before))


def _breaks(text: str) -> int:
    return text.rstrip().count("\n")


def _is_subsequence(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(word in rest for word in part)


def _spaced(old: str, new: str, policy: Policy) -> str:
    """The new piece; where lines are kept it ends as the old one did."""
    if not policy.keep_lines:
        return new
    if not new.split():
        return "\n" * old.count("\n")
    return new.rstrip() + old[len(old.rstrip()) :]
