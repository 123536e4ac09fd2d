"""The review page of a large run: how long it takes to make, and to load in a browser.

    python -m benchmarks.review --records 1000

Every record has a page of printed words, but for one in fifty, which failed. Loading is timed by
the browser itself, from the start of the navigation to its load event, and until the first record
with its picture is drawn; the median of the repeats. `renderer_cpu_s` is the processor time of the
page's own process, which hardly depends on what else the machine does. Needs chromium and
chromium-driver.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmarks.report import Value, print_table, write_report
from flows.review_files import write_review
from tests.browser import chromium
from tests.review_run import Document, failed, make_run, receipt

_WORDS = ["invoice", "total", "paid", "green", "paper", "tea", "street", "london", "box", "april"]
_LOADED = "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd / 1000"
_DRAWN = """
const done = arguments[0];
const look = () => {
  const image = document.querySelector(".sheet img");
  if (image?.complete && image.naturalWidth) done(performance.now() / 1000);
  else requestAnimationFrame(look);
};
look();
"""


def document(at: int) -> Document:
    """A page of 40 lines, each page different."""
    if at % 50 == 49:
        return failed(f"{at:04}.pdf")
    chance = random.Random(at)
    image = Image.new("L", (1000, 1400), 250)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(24)
    for line in range(40):
        words = " ".join(chance.choice(_WORDS) for _ in range(9))
        draw.text((60, 60 + 32 * line), words, fill=20, font=font)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    made = receipt(f"{at // 100:02}/{at:04}.png", f"{at}.00", sure=chance.random())
    made.content = buffer.getvalue()
    return made


def measure(records: int, repeats: int) -> dict[str, Value]:
    with tempfile.TemporaryDirectory(prefix="scanscribe-") as folder:
        run = make_run(Path(folder), [document(at) for at in range(records)])
        started = time.monotonic()
        page = write_review(run.directory)
        written = time.monotonic() - started
        files = list(page.with_name("review-files").glob("*"))
        times = [_load(page) for _ in range(repeats)]
        return {
            "records": records,
            "page_bytes": page.stat().st_size,
            "files_bytes": sum(path.stat().st_size for path in files),
            "write_s": written,
            "load_s": statistics.median(loaded for loaded, *_ in times),
            "first_record_s": statistics.median(drawn for _, drawn, _ in times),
            "renderer_cpu_s": statistics.median(processor for *_, processor in times),
            "repeats": repeats,
            "load_before": os.getloadavg()[0],
        }


def _load(page: Path) -> tuple[float, float, float]:
    """(seconds to the load event, until a picture is drawn, of processor) in a fresh browser."""
    with chromium() as driver:
        driver.execute_cdp_cmd("Performance.enable", {})
        driver.get(page.as_uri())
        drawn: Any = driver.execute_async_script(_DRAWN)
        loaded: Any = driver.execute_script(_LOADED)
        metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        processor = next(row["value"] for row in metrics if row["name"] == "ProcessTime")
        return float(loaded), float(drawn), float(processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    measures = measure(asked.records, asked.repeats)
    print_table(measures)
    write_report("review", measures)


if __name__ == "__main__":
    main()
