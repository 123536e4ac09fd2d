"""What the embedded model can do stays where it is: small held-out sets through the real engine.

`tests/pocket/` has samples of the held-out split (seeds from 1000, which `benchmarks.accuracy` does
not use), written by `benchmarks.sets.generated`. The bounds lie below what was measured for the
committed bundle, by about two standard errors of so few items.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from export.drafter import add_drafter
from export.write import export_bundle
from model_onnx.engine import POCKET, Engine
from model_onnx.prompt import Turn
from model_onnx.sequence import Request
from pipelines.evaluate import Report, evaluate
from pipelines.opening import Opener
from pipelines.options import Options

SETS = Path(__file__).with_name("pocket")
CHECKPOINT = Path(__file__).parents[1] / "training" / "pocket"
DRAFTER = CHECKPOINT.with_name("pocket_drafter")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.open(slots=8) as opened:
        yield opened


@pytest.fixture(scope="module")
def files() -> Iterator[Opener]:
    with Opener(workers=2, tesseract=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def measured(engine: Engine, files: Opener) -> Callable[[str], Report]:
    """The report on a set of `tests/pocket/`, made once."""
    options = Options(time_limit=None)
    return cache(lambda name: evaluate(engine, SETS / name, read=files.open, options=options))


def test_the_bundle_is_the_export_of_the_committed_checkpoint(tmp_path: Path) -> None:
    made = export_bundle(CHECKPOINT, tmp_path / "bundle", recipe="int8")
    for path in made.directory.iterdir():
        assert path.read_bytes() == (POCKET / path.name).read_bytes(), path.name


def test_the_committed_drafter_fits_the_bundle(tmp_path: Path) -> None:
    made = shutil.copytree(POCKET, tmp_path / "bundle")
    add_drafter(DRAFTER, made)
    with Engine.open(made, slots=1, drafts="on") as drafted, Engine.open(slots=1) as plain:
        prompt = plain.renderer.render([Turn("user", ("Repeat: 17 boxes of nails",))])
        asked = Request(prompt, max_new_tokens=24)
        answers = [engine.submit(asked).result() for engine in (drafted, plain)]
    assert answers[0].ids == answers[1].ids
    assert answers[0].drafted_tokens > 0


# Speech is not among them: the committed model loses its place after a few words (see its card).
BOUNDS = (
    ("extract_text", "extract.f1.normalised", 0.65),
    ("repair", "repair.cut", 0.75),
    ("clean", "clean.cut", 0.09),
    ("clean", "clean.worse", -0.08),
    ("tag", "tag.accuracy", 0.60),
    ("read_line", "transcribe.cer", -0.30),
)


@pytest.mark.parametrize(("name", "metric", "bound"), BOUNDS)
def test_level(measured: Callable[[str], Report], name: str, metric: str, bound: float) -> None:
    """bound: the least value; of errors, the most, with a minus."""
    report = measured(name)
    value = report.metrics[metric].value
    assert value is not None
    assert value >= bound if bound >= 0 else value <= -bound, report.table()


def test_what_is_not_there_is_not_invented(measured: Callable[[str], Report]) -> None:
    invented = measured("extract_text").metrics["extract.hallucinated"].value
    assert invented == 0, "verbatim values stand in the text"
