"""call: the model calls tools for a document: proposals, or calls that run where they are allowed.

Worked example, tools find_supplier (allowed) and file_invoice:

    system  Find the supplier, file the invoice.      (and the declarations of the tools)
    user    ACME TRADING\\nINVOICE 4711\\nTOTAL 12.50
    model   <|tool_call>call:find_supplier{name:<|"|>ACME TRADING<|"|>}<tool_call|>
            <|tool_response>response:find_supplier{id:17,...}<tool_response|>
            <|tool_call>call:file_invoice{amount:12.50,number:<|"|>4711<|"|>,supplier:17}<tool_call|>
            <|tool_response>response:file_invoice{status:<|"|>proposed<|"|>,...}<tool_response|>
            The invoice of ACME TRADING is proposed for filing.

    output  calls=[{tool: find_supplier, state: ran, result: {id: 17, ...}, ...},
                   {tool: file_invoice, state: proposed, ...}], answer="The invoice of ..."

Every call is one of a declared tool with arguments of its types: the grammar allows no other. A
tool runs only when it is named in `allowed`; every other call is a proposal for a person, and the
record is `review`. An argument that stands nowhere, neither in the document nor in an earlier
result, is the model's own, and the record is `review` too. A call that fails is an entry with its
error. A run that was killed begins its document again, so a tool may be called twice with the same
arguments: write tools for which that does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from model_onnx.answer import ToolCall, argument_spans, parse_tool_calls
from model_onnx.constrain import ToolCalls
from model_onnx.errors import InputError
from model_onnx.prompt import Part, ToolResult, Turn
from pipelines.items import Item
from pipelines.origins import Origins, leaves
from pipelines.records import Check, FieldValue
from pipelines.subtask import Answer, Ask, Reply, Subtask, Work
from pipelines.tools import DeclaredTool, Toolbox, ToolError, check_allowed
from pipelines.transcribe import page_image
from pipelines.windows import Window, evidence, windows

PROMPT_VERSION = "call-1"

_PROPOSED = {"status": "proposed", "note": "a person decides; go on without a result"}
_CALL_TOKENS = 512  # of one answer: several calls, or the last sentence


class Call(BaseModel):
    """One call. from_document, from_results: arguments whose values stand in the document, or in
    results of calls before. result: of one that ran; error: of one that failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str
    arguments: dict[str, Any]
    from_document: tuple[str, ...] = ()
    from_results: tuple[str, ...] = ()
    state: Literal["ran", "proposed", "failed"]
    result: Any = None
    error: str = ""


class Calls(BaseModel):
    """calls: in order; answer: what the model said last, if anything."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: tuple[Call, ...] = ()
    answer: str = ""


def subtask(toolbox: Toolbox, *, allowed: Iterable[str] = ()) -> Subtask:
    """allowed: names of the tools that run; calls of the others are proposals.

    Raises ConfigError for tools that cannot be declared or allowed.
    """
    tools, allow = toolbox.declared(), frozenset(allowed)
    check_allowed(tools, allow)
    name = ",".join(f"{tool}!" if tool in allow else tool for tool in tools)
    answer = partial(_answer, toolbox, tools, allow)
    return Subtask("call", PROMPT_VERSION, Calls, answer, schema_name=name)


def identity(toolbox: Toolbox, allowed: Iterable[str] = ()) -> str:
    """What decides the outcome: task, declarations, limits, which tools run, and from which code
    (a file's module is named by its content)."""
    tools = [
        (vars(tool.declaration), getattr(tool.function, "__module__", None))
        for tool in toolbox.declared().values()
    ]
    said = [toolbox.task, toolbox.must_call, vars(toolbox.limits), tools, sorted(set(allowed))]
    return json.dumps(said)


@dataclass
class _Dialogue:
    """What was said and done so far. ended: names of the limits that ended it."""

    window: Window
    origins: Origins
    calls: list[Call] = field(default_factory=list)
    fields: dict[str, FieldValue] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    answer: str = ""
    truncated: bool = False
    ended: list[str] = field(default_factory=list)


def _answer(
    toolbox: Toolbox,
    tools: Mapping[str, DeclaredTool],
    allowed: frozenset[str],
    work: Work,
    item: Item,
) -> Answer:
    reading = evidence(work, item)

    def room(window: Window) -> int:  # a quarter is left for calls and results
        return work.room(_ask(work, toolbox, tools, window, ())) - work.context_tokens // 4

    window, *rest = windows(work, item, reading, room)
    said = _Dialogue(window, Origins(window, work.options.locale))
    _talk(toolbox, tools, allowed, work, said)
    failed = [call.tool for call in said.calls if call.state == "failed"]
    proposed = [call.tool for call in said.calls if call.state == "proposed"]
    checks = (
        *([reading.check] if reading else []),
        Check(name="cut", passed=not rest, reason=f"{len(rest)} further parts were not shown"),
        Check(name="tool_failed", passed=not failed, reason=", ".join(failed)),
        Check(name="proposed", passed=not proposed, reason=", ".join(proposed)),
        Check(name="call_limit", passed=not said.ended, reason=", ".join(said.ended)),
        _own_arguments(tools, said),
    )
    output = Calls(calls=tuple(said.calls), answer=said.answer)
    truncated = said.truncated or (reading is not None and reading.truncated)
    return Answer(output, said.fields, checks, truncated)


def _talk(
    toolbox: Toolbox,
    tools: Mapping[str, DeclaredTool],
    allowed: frozenset[str],
    work: Work,
    said: _Dialogue,
) -> None:
    """Rounds of calls until the model says something else, or a limit ends them."""
    limits = toolbox.limits
    for turn in range(limits.rounds + 1):
        left = limits.calls - len(said.calls) if turn < limits.rounds else 0
        constraint = ToolCalls(
            tuple((n, json.dumps(dict(t.declaration.parameters))) for n, t in tools.items()),
            most=min(left, 4),
            must_call=toolbox.must_call and not said.calls,
            evidence=said.window.text if said.window.lines else None,
        )
        ask = _ask(work, toolbox, tools, said.window, said.turns, constraint)
        if said.turns and work.room(ask) < 0:
            said.ended.append("no room for another answer")
            return
        [reply] = work.ask([ask])
        said.truncated |= reply.truncated
        said.ended += ["a repetition"] if reply.looped else []
        made = _calls_of(reply)
        if not made:
            said.answer = "" if reply.looped else reply.text
            if left == 0:
                said.ended.append("calls" if turn < limits.rounds else "rounds")
            return
        if not _take(toolbox, tools, allowed, said, reply, made):
            said.ended.append("the same call again")
            return


def _calls_of(reply: Reply) -> tuple[ToolCall, ...]:
    try:
        return parse_tool_calls(reply.tokens.text)
    except InputError:  # a time limit ended it where it could not be closed
        return ()


def _take(
    toolbox: Toolbox,
    tools: Mapping[str, DeclaredTool],
    allowed: frozenset[str],
    said: _Dialogue,
    reply: Reply,
    made: tuple[ToolCall, ...],
) -> bool:
    """Runs or proposes the calls of one answer. False when one was made before, word for word."""
    texts, at = reply.tokens.text, 0
    parts: list[ToolCall | ToolResult] = list(made)
    for call in made:
        if any(c.tool == call.name and c.arguments == call.arguments for c in said.calls):
            return False
        spans = argument_spans(texts, at)
        at = spans.end
        runs = call.name in allowed and not reply.truncated and not reply.looped
        entry = _made(tools[call.name], call, said, toolbox, runs=runs)
        path = f"calls[{len(said.calls)}].arguments"
        for name, value in call.arguments.items():
            start, end = spans.arguments[name]
            said.fields[f"{path}.{name}"] = FieldValue(
                value=value,
                confidence=reply.tokens.probability(start, end),
                grounding=said.origins.place(value),
            )
        said.calls.append(entry)
        parts.append(ToolResult(call.name, _response(entry)))
    for entry in said.calls[-len(made) :]:  # calls of one answer were made without each other
        said.origins.add(entry.result)
    said.turns.append(Turn("model", tuple(parts)))
    return True


def _made(
    tool: DeclaredTool, call: ToolCall, said: _Dialogue, toolbox: Toolbox, *, runs: bool
) -> Call:
    named = dict(call.arguments)
    entry = Call(
        tool=tool.name,
        arguments=named,
        from_document=tuple(n for n, v in named.items() if said.origins.in_document(v)),
        from_results=tuple(n for n, v in named.items() if said.origins.in_results(v)),
        state="proposed",
    )
    if not runs:
        return entry
    try:
        result = tool.run(named, toolbox.limits)
    except ToolError as error:
        return entry.model_copy(update={"state": "failed", "error": str(error)})
    return entry.model_copy(update={"state": "ran", "result": result})


def _response(call: Call) -> Mapping[str, Any]:
    if call.state == "proposed":
        return _PROPOSED
    if call.state == "failed":
        return {"error": call.error}
    return call.result if isinstance(call.result, dict) else {"value": call.result}


def _own_arguments(tools: Mapping[str, DeclaredTool], said: _Dialogue) -> Check:
    """One of a fixed set is a choice, not a claim."""
    own = [
        f"{call.tool}.{name}"
        for call in said.calls
        for name, value in call.arguments.items()
        if name not in {*call.from_document, *call.from_results}
        and "enum" not in tools[call.tool].declaration.parameters["properties"][name]
        and next(leaves(value), None) is not None
    ]
    return Check(
        name="own_arguments",
        passed=not own,
        reason=f"neither in the document nor in a result: {', '.join(own)}",
    )


def _ask(
    work: Work,
    toolbox: Toolbox,
    tools: Mapping[str, DeclaredTool],
    window: Window,
    turns: Iterable[Turn],
    constraint: ToolCalls | None = None,
) -> Ask:
    images = tuple(page_image(work, page) for page in window.pages)
    parts: tuple[Part, ...] = (*images, window.text) if window.text else images
    return Ask(
        toolbox.task,
        parts,
        constraint or ToolCalls(()),
        new_tokens=min(work.options.new_tokens, _CALL_TOKENS),
        turns=tuple(turns),
        tools=tuple(tool.declaration for tool in tools.values()),
    )
