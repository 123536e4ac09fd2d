"""The real runtime: an answer's tokens depend neither on what else is decoded nor on drafts.

Kernels for one row and for several round differently: 1e-6, which int8 activations make 1e-2 of a
log-probability. `test_engine` has what must hold exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.quantize import RECIPES
from model_onnx.constrain import Choices, JsonSchema
from model_onnx.engine import Engine
from model_onnx.prompt import Audio, Image, Turn
from model_onnx.sequence import Request, Result
from tests.tiny import tiny_bundle, tiny_checkpoint

SCHEMA = JsonSchema(
    json.dumps(
        {
            "type": "object",
            "properties": {
                name: {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]}
                for name in ("company_name", "address_of_the_company", "total_amount")
            },
            "additionalProperties": False,
            "required": ["company_name", "address_of_the_company", "total_amount"],
        }
    )
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("independence")
    tiny_checkpoint(home / "checkpoint")
    return home


@pytest.fixture(scope="module", params=RECIPES)
def engine(home: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    checkpoint = home / f"{request.param}-checkpoint-0"
    checkpoint.symlink_to(home / "checkpoint")
    bundle = tiny_bundle(home / request.param, request.param)
    with Engine.open(bundle, slots=4, threads=1) as opened:
        yield opened


def requests(engine: Engine) -> list[Request]:
    rng = np.random.default_rng(0)
    parts = [
        (Image(rng.integers(0, 256, (96, 144, 3), np.uint8), None), "an image"),
        (Audio(rng.standard_normal(3200).astype(np.float32) * 0.1), "a recording"),
        *(("word " * count,) for count in (1, 7, 40)),
    ]
    prompts = [engine.renderer.render([Turn("user", part)]) for part in parts]
    return [
        *(Request(prompt, SCHEMA, max_new_tokens=150) for prompt in prompts),
        *(Request(prompt, max_new_tokens=30) for prompt in prompts),
        Request(prompts[0], Choices(("invoice", "receipt", "in"))),
    ]


def assert_same(got: list[Result], expected: list[Result], tolerance: float) -> None:
    for one, other in zip(got, expected, strict=True):
        assert (one.ids, one.finish) == (other.ids, other.finish)
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=tolerance)
        assert (one.choice_probabilities is None) == (other.choice_probabilities is None)


def test_the_same_alone_and_together(engine: Engine) -> None:
    wanted = requests(engine)
    alone = [engine.generate(request) for request in wanted]
    futures = [engine.submit(request) for request in [*wanted, *wanted[::-1]]]
    together = [future.result(120) for future in futures]
    # Mostly bit by bit; some kernels for one row and for a batch differ in the last place.
    assert_same(together, alone + alone[::-1], 1e-5 if engine.bundle.recipe == "fp32" else 0.05)


def test_drafts_change_no_token(engine: Engine) -> None:
    plain = [engine.generate(request) for request in requests(engine)[:-1]]
    drafted = [
        engine.generate(replace(request, draft=result.text))
        for request, result in zip(requests(engine)[:-1], plain, strict=True)
    ]
    assert_same(drafted, plain, 1e-4 if engine.bundle.recipe == "fp32" else 0.05)
    assert sum(result.accepted_tokens for result in drafted) > 50
