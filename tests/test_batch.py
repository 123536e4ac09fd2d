"""What the slots share; how they answer is in `test_engine.py`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model_onnx.batch import runs


@given(flags=st.lists(st.booleans()))
def test_runs_are_the_longest_stretches_of_true(flags: list[bool]) -> None:
    covered = [False] * len(flags)
    for start, length in runs(flags):
        assert length > 0 and not (start and flags[start - 1])
        assert start + length == len(flags) or not flags[start + length]
        covered[start : start + length] = [True] * length
    assert covered == flags
