"""The prompts that are trained on are the prompts that are sent."""

from __future__ import annotations

from pipelines.clean import instruction as clean_instruction
from pipelines.extract import instruction as extract_instruction
from pipelines.repair import instruction as repair_instruction
from pipelines.tag import instruction as tag_instruction
from pipelines.transcribe import instruction as transcribe_instruction
from training.generators import prompts


def test_training_and_pipelines_say_the_same() -> None:
    assert clean_instruction() == prompts.CLEAN
    assert repair_instruction() == prompts.REPAIR
    assert transcribe_instruction("page") == prompts.PAGE
    assert transcribe_instruction("speech") == prompts.SPEECH
    assert prompts.tag(["a", "b"]) == tag_instruction(["a", "b"])
    assert prompts.extract(["a", "b"], {"b": "what b is"}) == extract_instruction(
        {"a": "", "b": "what b is"}
    )
