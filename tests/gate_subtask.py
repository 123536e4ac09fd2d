"""A subtask of one's own, `tests.gate_subtask:GATED`, whose documents wait for a file to appear.

A document's text is its number and, if it is to wait, the path of that file. While it waits it asks
the model again and again, so that it is stopped as any other document is.
"""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel

from model_onnx.constrain import Choices
from pipelines.items import Item
from pipelines.subtask import Answer, Ask, Subtask, Work


class Passed(BaseModel):
    number: int


def _wait(work: Work, item: Item) -> Answer:
    number, *gate = item.cues[0].text.split()
    while True:
        work.ask([Ask("Choose:\na\nb", ("a",), Choices(("a", "b")))])
        if not gate or Path(gate[0]).exists():
            return Answer(Passed(number=int(number)))
        time.sleep(0.2)


GATED = Subtask("gated", "gated-1", Passed, _wait)
