"""The README's Python snippet runs as written, on a tiny bundle, a picture and a recording."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from tests.tiny import tiny_bundle

ROOT = Path(__file__).parents[1]


def test_the_snippet_prints_json_from_an_image_and_from_a_recording(tmp_path: Path) -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    tiny_bundle(tmp_path / "bundle")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (200, 300, 3), np.uint8)).save(tmp_path / "receipt.png")
    noise = rng.standard_normal(16000).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "memo.wav", noise, 16000)
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 2 and all(set(answer) == {"total"} for answer in answers)
