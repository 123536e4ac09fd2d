"""call: what runs, what is proposed, what is marked, and what ends it."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import pytest

from model_onnx.answer import ToolCall, argument_spans, parse_tool_calls
from model_onnx.constrain import ToolCalls
from model_onnx.engine import Engine
from model_onnx.errors import ConfigError
from model_onnx.prompt import ToolResult
from pipelines.call import Calls, identity, subtask
from pipelines.cues import Cue
from pipelines.items import Item
from pipelines.options import Options
from pipelines.records import Record, Source
from pipelines.subtask import run
from pipelines.tools import Limits, Toolbox, Verbatim, load_toolbox
from tests.fakes import Answered, FakeEngine
from tests.tiny import tiny_bundle

SOURCE = Source(path="a.txt", sha256="0" * 64, kind="text")
TEXT = "ACME TRADING\nINVOICE 4711 of 01/02/2024\nTOTAL 1,234.50"
Q = '<|"|>'


def find_supplier(name: Annotated[str, Verbatim]) -> dict[str, Any] | None:
    """Finds a supplier."""
    return {"id": 17, "country": "MY"} if name == "ACME TRADING" else None


def file_invoice(supplier: int, number: str, total: float, day: str, note: str = "") -> str:
    """Files an invoice."""
    if number == "0":
        raise ValueError("no such number")
    return "filed"


BOX = Toolbox((find_supplier, file_invoice), task="File it.")


def call(tool: str, /, **arguments: Any) -> str:
    def value(x: Any) -> str:
        return f"{Q}{x}{Q}" if isinstance(x, str) else json.dumps(x)

    body = ",".join(f"{key}:{value(x)}" for key, x in sorted(arguments.items()))
    return f"<|tool_call>call:{tool}{{{body}}}<tool_call|>"


FIND = call("find_supplier", name="ACME TRADING")
FILE = call("file_invoice", supplier=17, number="4711", total=1234.5, day="2024-02-01")


def script(*answers: str | Answered) -> FakeEngine:
    left = list(answers)
    return FakeEngine(lambda asked: left.pop(0))


def made(engine: Any, *allowed: str, box: Toolbox = BOX, text: str = TEXT, **more: Any) -> Record:
    item = Item(SOURCE, cues=(Cue(text),))
    return run(engine, subtask(box, allowed=allowed), item, options=Options(**more))


def failed_checks(record: Record) -> dict[str, str]:
    return {check.name: check.reason for check in record.checks if not check.passed}


def test_calls_are_proposals() -> None:
    engine = script(FIND, "Proposed.")
    record = made(engine)
    [proposal] = record.output.calls
    assert proposal.state == "proposed" and proposal.result is None
    assert proposal.arguments == {"name": "ACME TRADING"}
    assert record.output.answer == "Proposed."
    assert (record.status, record.reason) == ("review", "proposed")
    [_, _, turn] = engine.asked[1].turns
    assert isinstance(turn.parts[1], ToolResult)
    assert turn.parts[1].response == {
        "status": "proposed",
        "note": "a person decides; go on without a result",
    }


def test_allowed_tools_run_and_their_results_are_fed_back() -> None:
    engine = script(FIND, FILE, "Filed.")
    record = made(engine, "find_supplier", "file_invoice")
    find, file = record.output.calls
    assert (find.state, find.result) == ("ran", {"id": 17, "country": "MY"})
    assert (file.state, file.result) == ("ran", "filed")
    assert find.from_document == ("name",) and find.from_results == ()
    assert set(file.from_document) == {"number", "total", "day"}
    assert file.from_results == ("supplier",)
    assert (record.status, record.reason) == ("ok", "")
    field = record.fields["calls[1].arguments.total"]
    assert field.grounding.evidence == "1,234.50" and 0.5 < field.confidence < 1
    last = engine.asked[2]
    assert [turn.role for turn in last.turns] == ["system", "user", "model", "model"]
    assert last.turns[2].parts == (
        ToolCall("find_supplier", {"name": "ACME TRADING"}),
        ToolResult("find_supplier", {"id": 17, "country": "MY"}),
    )
    assert isinstance(last.turns[3].parts[1], ToolResult)
    assert last.turns[3].parts[1].response == {"value": "filed"}
    assert [tool.name for tool in last.tools] == ["find_supplier", "file_invoice"]


def test_only_what_is_allowed_runs() -> None:
    record = made(script(FIND + FILE, "Done."), "find_supplier")
    assert [c.state for c in record.output.calls] == ["ran", "proposed"]
    assert failed_checks(record).keys() >= {"proposed"}


def test_what_the_model_made_up_is_marked() -> None:
    own = FILE.replace("4711", "4712").replace("1234.5", "999")
    record = made(script(own, "Done."), "file_invoice")
    [call] = record.output.calls
    assert set(call.from_document) == {"day"}
    assert failed_checks(record) == {
        "own_arguments": "neither in the document nor in a result: "
        "file_invoice.number, file_invoice.supplier, file_invoice.total"
    }


def test_a_tool_that_fails_is_an_entry() -> None:
    bad = FILE.replace("4711", "0")
    engine = script(bad, FILE, "Filed.")
    record = made(engine, "file_invoice")
    assert [c.state for c in record.output.calls] == ["failed", "ran"]
    assert record.output.calls[0].error == "ValueError: no such number"
    assert failed_checks(record)["tool_failed"] == "file_invoice"
    result = engine.asked[1].turns[2].parts[1]
    assert isinstance(result, ToolResult)
    assert result.response == {"error": "ValueError: no such number"}


def test_calls_of_an_answer_that_was_cut_do_not_run() -> None:
    for finish in ("truncated", "cancelled", "loop"):
        record = made(script(Answered(FIND, finish=finish), "Done."), "find_supplier")
        assert record.output.calls[0].state == "proposed", finish
        assert record.status == ("review" if finish == "loop" else "truncated")


@pytest.mark.parametrize(
    ("limits", "answers", "reason", "calls"),
    [
        (Limits(rounds=2), [FIND, FILE, "Enough."], "rounds", 2),
        (Limits(calls=1), [FIND, "Enough."], "calls", 1),
        (Limits(), [FIND, FIND], "the same call again", 1),
    ],
)
def test_limits_end_it(limits: Limits, answers: list[str], reason: str, calls: int) -> None:
    engine = script(*answers)
    record = made(engine, box=Toolbox(BOX.tools, limits=limits))
    assert failed_checks(record)["call_limit"] == reason
    assert len(record.output.calls) == calls and len(engine.asked) == len(answers)


def test_a_last_answer_may_not_call() -> None:
    engine = script(FIND, "Enough.")
    made(engine, box=Toolbox(BOX.tools, limits=Limits(rounds=1)))
    first, last = (asked.request.constraint for asked in engine.asked if asked.request)
    assert isinstance(first, ToolCalls) and isinstance(last, ToolCalls)
    assert (first.most > 0, last.most) == (True, 0)
    assert first.evidence == TEXT


def test_nothing_to_call_is_an_answer() -> None:
    record = made(script("This is no invoice."))
    assert (record.status, record.output.calls) == ("ok", ())
    assert record.output.answer == "This is no invoice."


def test_no_room_for_a_result_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = script(FIND, "Done.")
    monkeypatch.setattr("pipelines.subtask.Work.room", lambda _, ask: -1 if ask.turns else 9999)
    record = made(engine, "find_supplier")
    assert failed_checks(record)["call_limit"] == "no room for another answer"
    assert record.output.calls[0].state == "ran" and len(engine.asked) == 1


def test_the_identity_is_all_that_decides() -> None:
    kinds = [
        identity(BOX),
        identity(BOX, ["find_supplier"]),
        identity(Toolbox(BOX.tools, task="Other.")),
        identity(Toolbox(BOX.tools[:1], task=BOX.task)),
        identity(Toolbox(BOX.tools, task=BOX.task, must_call=True)),
        identity(Toolbox(BOX.tools, task=BOX.task, limits=Limits(calls=1))),
    ]
    assert len(set(kinds)) == len(kinds)
    assert identity(BOX, ["file_invoice", "find_supplier"]) == identity(
        BOX, ["find_supplier", "file_invoice"]
    )


def test_an_unknown_tool_cannot_be_allowed() -> None:
    with pytest.raises(ConfigError, match="expected one of find_supplier, file_invoice"):
        subtask(BOX, allowed=["find_suplier"])


def test_spans_of_arguments() -> None:
    text = "<|tool_call>call:a{x:{y:[1,{z:2}]},t:" + f"{Q}a,b:{{c}}{Q},u:-1.5}}<tool_call|>"
    text += "<|tool_call>call:b{}<tool_call|>"
    first = argument_spans(text)
    assert {k: text[a:b] for k, (a, b) in first.arguments.items()} == {
        "x": "{y:[1,{z:2}]}",
        "t": f"{Q}a,b:{{c}}{Q}",
        "u": "-1.5",
    }
    assert argument_spans(text, first.end).arguments == {}
    assert [list(c.arguments) for c in parse_tool_calls(text)] == [["x", "t", "u"], []]
    with pytest.raises(ValueError, match="no whole call"):
        argument_spans("<|tool_call>call:a{x:1")


def test_the_example_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supplier is found and its invoice is filed, once."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "call-tools.md").read_text("utf-8")
    table, tools, *_ = re.findall(r"^```python[^\n]*\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(table, {})
    (tmp_path / "office.py").write_text(tools)
    box = load_toolbox("office.py")
    text = "GREEN HILL GARDEN CENTRE\nInvoice 4471/24 of 3 September 2024\nTotal EUR 856.00"
    find = call("find_supplier", name="GREEN HILL GARDEN CENTRE")
    file = call("file_invoice", supplier=17, number="4471/24", total=856.0, day="2024-09-03")
    for _ in range(2):
        engine = script(find, file, "Filed.")
        record = made(engine, "find_supplier", "file_invoice", box=box, text=text)
        assert [c.state for c in record.output.calls] == ["ran", "ran"]
        assert record.output.calls[0].result["id"] == 17
        assert (record.status, record.reason) == ("ok", "")
    with closing(sqlite3.connect("office.sqlite")) as office:
        rows = office.execute("SELECT * FROM filed").fetchall()
    assert rows == [(17, "4471/24", 856.0, "2024-09-03")]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = tmp_path_factory.mktemp("call") / "tiny"
    tiny_bundle(path)
    with Engine.open(path, slots=2, threads=1) as opened:
        yield opened


def check_form(record: Record, ran: Callable[[str], bool]) -> None:
    """What holds whatever a model says."""
    assert isinstance(record.output, Calls) and record.output.calls
    for call in record.output.calls:
        assert call.state in (("ran", "failed") if ran(call.tool) else ("proposed",))
        if call.tool == "find_supplier":
            assert call.arguments["name"] in " ".join(TEXT.split())
            assert call.from_document == ("name",)
        else:
            assert isinstance(call.arguments["supplier"], int)


@pytest.mark.parametrize("thinking", [0, 24])
def test_a_random_model_makes_valid_calls(engine: Engine, thinking: int) -> None:
    box = Toolbox(BOX.tools, must_call=True, limits=Limits(rounds=2, calls=3))
    record = made(engine, box=box, thinking=thinking, new_tokens=300)
    check_form(record, lambda name: False)
    assert record.status in ("review", "truncated")


@pytest.mark.slow
def test_the_embedded_model_makes_valid_calls() -> None:
    box = Toolbox(BOX.tools, must_call=True, limits=Limits(rounds=2, calls=3))
    with Engine.open(slots=1, threads=1) as embedded:
        record = made(embedded, "find_supplier", box=box)
    check_form(record, lambda name: name == "find_supplier" and record.status != "truncated")
