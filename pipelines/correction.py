"""What `clean` and `repair` share: texts go through the model block by block, under the guard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from model_onnx.constrain import Constraint, FreeText
from model_onnx.errors import InputError
from model_onnx.prompt import Part
from pipelines.evidence import blocks
from pipelines.guard import Edit, Policy, guard
from pipelines.records import Check
from pipelines.subtask import Ask, Reply, Work, loops
from pipelines.transcribe import image_cost, page_image

if TYPE_CHECKING:
    from pipelines.pages import Page

# An edit is applied when the model's probability of the piece is at least this.
EDIT_CONFIDENCE = 0.5


class Corrected(BaseModel):
    """text: corrected; edits: the diff, applied and refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class Correction:
    """One text's way through the model. kept: why the answers to some blocks were thrown away."""

    text: str
    edits: tuple[Edit, ...]
    confidence: float
    truncated: bool
    kept: tuple[str, ...]


def correct(
    work: Work,
    texts: Sequence[str],
    instruction: str,
    policy: Callable[[str], Policy],
    pictures: Sequence[Page | None] = (),
    *,
    constraint: Callable[[str], Constraint] = lambda block: FreeText(),
) -> list[Correction]:
    """Corrects each text by itself; all blocks of all texts are asked for at once.

    policy: which edits of a block are applied; pictures: the page that each text stands on, where
    the model shall see it; constraint: what the answer to a block may be.

    A block whose answer is empty, cut off or a loop stays as it is. Raises InputError when all
    texts are blank.
    """
    if not any(text.strip() for text in texts):
        raise InputError(
            "got no text, expected some; is it a scan? then use transcribe", reason="empty"
        )
    shown = pictures or [None] * len(texts)
    prompts = [_Prompt(work, instruction, constraint, page) for page in shown]
    cut = [list(blocks(text, prompt.fits)) for text, prompt in zip(texts, prompts, strict=True)]
    replies = iter(
        work.ask(
            prompt.ask(block)
            for parts, prompt in zip(cut, prompts, strict=True)
            for block, _ in parts
            if block.strip()
        )
    )
    return [_assemble(parts, replies, policy) for parts in cut]


@dataclass(frozen=True)
class _Prompt:
    """What the blocks of one text are asked with."""

    work: Work
    instruction: str
    constraint: Callable[[str], Constraint]
    page: Page | None

    def fits(self, block: str) -> bool:
        most = self.work.habits.block_lines
        if most is not None and block.count("\n") >= most:
            return False
        room = self.work.room(self._ask((block,), block))
        return room >= (image_cost(self.work) if self.page else 0)

    def ask(self, block: str) -> Ask:
        picture = (page_image(self.work, self.page),) if self.page else ()
        return replace(self._ask((*picture, block), block), constraint=self.constraint(block))

    def _ask(self, parts: tuple[Part, ...], block: str) -> Ask:
        """The answer may be a third longer than the block."""
        budget = self.work.count(block) * 4 // 3 + 16
        return Ask(self.instruction, parts, new_tokens=budget, draft=block)


def _assemble(
    parts: list[tuple[str, str]], replies: Iterator[Reply], policy: Callable[[str], Policy]
) -> Correction:
    text, line = "", 0
    edits: list[Edit] = []
    confidences: list[float] = []
    kept: list[str] = []
    truncated = False
    for block, behind in parts:
        if block.strip():
            reply = next(replies)
            truncated |= reply.truncated
            if problem := unusable(reply, block):
                kept.append(problem)
            else:
                done = guard(block, reply.text, policy(block), sure=_sure(reply))
                edits += [e.model_copy(update={"line": e.line + line}) for e in done.edits]
                confidences.append(reply.confidence)
                text, line = text + done.text + behind, line + (block + behind).count("\n")
                continue
        text, line = text + block + behind, line + (block + behind).count("\n")
    confidence = min(confidences, default=0.0)
    return Correction(text, tuple(edits), confidence, truncated, tuple(kept))


def unusable(reply: Reply, source: str) -> str:
    """Why an answer is thrown away, or "". source: a text that may itself repeat."""
    if not reply.text:
        return "empty"
    if reply.result.finish == "loop" or (reply.looped and not loops(source)):
        return "loop"
    return "truncated" if reply.truncated else ""


def _sure(reply: Reply) -> Callable[[int, int], bool]:
    """Offsets count from the stripped text's start."""
    text = reply.tokens.text
    shift = len(text) - len(text.lstrip())

    def sure(start: int, end: int) -> bool:
        end = max(start + 1, end)
        return reply.tokens.probability(start + shift, end + shift) >= EDIT_CONFIDENCE

    return sure


def checks(corrections: Sequence[Correction]) -> tuple[Check, ...]:
    """Refused edits by reason, and blocks that stayed as they were."""
    refused = [edit.refused for done in corrections for edit in done.edits if edit.refused]
    kept = [reason for done in corrections for reason in done.kept]
    numbers = refused.count("protected")
    others = len(refused) - numbers
    return (
        Check(
            name="protected",
            passed=not numbers,
            reason=f"{numbers} edits of numbers refused, the original stands",
        ),
        Check(
            name="refused",
            passed=not others,
            reason=f"{others} other edits refused, the original stands",
        ),
        Check(name="kept", passed=not kept, reason=f"blocks left as they were: {', '.join(kept)}"),
    )
