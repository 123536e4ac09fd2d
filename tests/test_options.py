from __future__ import annotations

import pytest

from model_onnx.errors import BundleError
from pipelines.options import Habits
from tests.fakes import FakeEngine


def test_a_bundle_that_says_nothing_gets_the_defaults() -> None:
    assert Habits.of(FakeEngine(lambda asked: "").bundle) == Habits(context_tokens=8192)


def test_a_misspelt_habit_is_an_error() -> None:
    engine = FakeEngine(lambda asked: "", habits={"readings": "page"})
    with pytest.raises(BundleError, match="readings"):
        Habits.of(engine.bundle)
