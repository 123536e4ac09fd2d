"""Labelled sets (see `pipelines/labelled.py`) from the shared data and from the generators.

    python -m benchmarks.sets OUT [--data SHARED_DATA] [--limit N]

Held out from training: every fourth receipt by file name; recordings of the known speakers whose
index is divisible by 5, and all of the unseen speaker's. `unseen` marks the fields and lines whose
text occurs in no training receipt. Generated sets are the held-out split of `training.samples`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import soundfile
from PIL import Image

from pipelines.labelled import Name, Row, write_set
from pipelines.metrics import fold

FIELDS = ("company", "date", "address", "total")
UNSEEN_SPEAKER = "yweweler"
DATA = Path(__file__).parents[1].parent / "shared" / "data"


def receipt_names(data: Path, *, held_out: bool) -> list[str]:
    """The receipts that are kept from training, or the others."""
    names = sorted(path.stem for path in (data / "receipts" / "lines").glob("*.json"))
    return [name for at, name in enumerate(names) if (at % 4 == 0) == held_out]


def receipt_lines(data: Path, name: str) -> list[dict[str, Any]]:
    """[{bbox: [x0, y0, x1, y1], text}] in the annotators' order."""
    loaded: list[dict[str, Any]] = _json(data / "receipts" / "lines" / f"{name}.json")
    return loaded


def receipt_rows(data: Path, suffix: str, limit: int | None = None) -> list[Row]:
    """One extract row per held-out receipt. suffix: of the file that `write_set` will make."""
    seen = {
        (field, fold(str(value)))
        for name in receipt_names(data, held_out=False)
        for field, value in _fields(data, name).items()
    }
    rows = []
    for name in receipt_names(data, held_out=True)[:limit]:
        output = _fields(data, name)
        unseen = [f for f in FIELDS if output[f] and (f, fold(str(output[f]))) not in seen]
        row = Row(name + suffix, "extract", schema="receipt", output=output, unseen=tuple(unseen))
        rows.append(row)
    return rows


def _fields(data: Path, name: str) -> dict[str, str | None]:
    stated = _json(data / "receipts" / "fields" / f"{name}.json")
    return {field: stated.get(field) or None for field in FIELDS}


def transcript_receipts(data: Path, out: Path, limit: int | None = None) -> Path:
    """The annotated lines as text files."""

    def write(path: Path, row: Row) -> None:
        lines = receipt_lines(data, Path(row.file).stem)
        path.write_text("\n".join(line["text"] for line in lines), encoding="utf-8")

    return write_set(out, receipt_rows(data, ".txt", limit), write)


def scanned_receipts(data: Path, out: Path, limit: int | None = None) -> Path:
    """The images."""

    def write(path: Path, row: Row) -> None:
        shutil.copyfile(data / "receipts" / "images" / row.file, path)

    return write_set(out, receipt_rows(data, ".jpg", limit), write)


def receipt_line_images(data: Path, out: Path, limit: int | None = None) -> Path:
    """Each annotated line cut out of its image; a sample spread over the held-out receipts."""
    known = {
        fold(line["text"])
        for name in receipt_names(data, held_out=False)
        for line in receipt_lines(data, name)
    }
    cuts: dict[str, tuple[str, list[int]]] = {}
    rows = []
    for name in receipt_names(data, held_out=True):
        for at, line in enumerate(receipt_lines(data, name)):
            if line["text"].strip():
                file = f"{name}-{at:03}.png"
                cuts[file] = name, line["bbox"]
                unseen = ("text",) if fold(line["text"]) not in known else ()
                rows.append(Row(file, "transcribe", text=line["text"], unseen=unseen))
    rows = list(_spread(rows, limit))

    def write(path: Path, row: Row) -> None:
        name, (x0, y0, x1, y1) = cuts[row.file]
        with Image.open(data / "receipts" / "images" / f"{name}.jpg") as image:
            image.convert("L").crop((x0 - 4, y0 - 2, x1 + 4, y1 + 2)).save(path)

    return write_set(out, rows, write)


def spoken_digits(data: Path, out: Path, *, known: bool, limit: int | None = None) -> Path:
    """Recordings `DIGIT_SPEAKER_INDEX.wav` of the known speakers, or of the unseen one."""
    rows = []
    for path in sorted((data / "digits").glob("*.wav")):
        digit, speaker, index = path.stem.split("_")
        chosen = speaker != UNSEEN_SPEAKER and int(index) % 5 == 0
        if chosen if known else speaker == UNSEEN_SPEAKER:
            rows.append(Row(path.name, "transcribe", text=digit))
    return write_set(
        out,
        list(_spread(rows, limit)),
        lambda path, row: shutil.copyfile(data / "digits" / row.file, path),
    )


GENERATED: dict[str, Name] = {
    "extract_page": "extract",
    "extract_text": "extract",
    "repair": "repair",
    "clean": "clean",
    "tag": "tag",
    "speech": "transcribe",
    "read_line": "transcribe",
}


def generated(
    task: str,
    out: Path,
    limit: int,
    *,
    start: int = 0,
    split: Literal["train", "heldout"] = "heldout",
) -> Path:
    """Samples of one training task that training never sees: other fonts, layouts, words, voices.

    The samples are what the model is trained to take, so a page is a picture at the patch pitch.
    start: the first seed; split: "train" for what may be fitted on.
    """
    from training.samples import Sample, generate

    samples: dict[str, Sample] = {}
    rows = []
    for seed in range(start, start + limit):
        sample = generate(task, seed, split)
        kind = "png" if sample.image is not None else "flac" if sample.audio is not None else "txt"
        subtask = GENERATED.get(task, "extract")
        row = generated_row(f"{seed:04}.{kind}", subtask, sample.instruction, sample.answer)
        samples[row.file] = sample
        rows.append(row)

    def write(path: Path, row: Row) -> None:
        sample = samples[row.file]
        if sample.image is not None:
            Image.fromarray(sample.image).save(path)
        elif sample.audio is not None:
            soundfile.write(path, sample.audio, 16000)
        else:
            path.write_text(sample.text, encoding="utf-8")

    return write_set(out, rows, write)


def generated_receipts(out: Path, limit: int, *, pixels: bool) -> Path:
    """Generated till receipts of the held-out split, asked with the built-in schema.

    pixels: pages drawn at the patch pitch, else text files. A receipt that does not fit on a page
    is left out.
    """
    from training.generators import documents, receipts, render
    from training.generators.words import Source

    made: dict[str, Image.Image | str] = {}
    rows: list[Row] = []
    for seed in itertools.count():
        if len(rows) == limit:
            break
        source = Source(random.Random(f"receipts:{seed}"), "heldout")
        document = receipts.receipt(source)
        picture = render.page(source, document) if pixels else None
        if pixels and picture is None:
            continue
        file = f"{seed:04}.{'png' if pixels else 'txt'}"
        made[file] = Image.fromarray(picture.image) if picture else documents.text(document)
        values = document.values()
        rows.append(Row(file, "extract", schema="receipt", output={f: values[f] for f in FIELDS}))

    def write(path: Path, row: Row) -> None:
        what = made[row.file]
        if isinstance(what, str):
            path.write_text(what, encoding="utf-8")
        else:
            what.save(path)

    return write_set(out, rows, write)


def generated_row(file: str, subtask: Name, instruction: str, answer: str) -> Row:
    """A labelled row from a training sample's instruction and answer."""
    lines = instruction.split("\n")[1:]
    if subtask == "extract":
        return Row(file, subtask, schema=schema_of(lines), output=json.loads(answer))
    if subtask == "tag":
        return Row(file, subtask, labels=tuple(lines), label=answer)
    return Row(file, subtask, text=answer)


def schema_of(lines: Iterable[str]) -> dict[str, Any]:
    """The JSON Schema whose instruction has these lines: the inverse of `extract.describe`."""
    properties: dict[str, Any] = {}
    for line in lines:
        path, _, about = line.partition(": ")
        leaf: dict[str, Any] = {"type": ["string", "null"]}
        if path.endswith("[]"):
            inner = {"type": "object", "properties": {}}
            leaf = {"type": "array", "items": inner, "maxItems": 40}
        if about:
            leaf["description"] = about
        if "[]." in path:
            owner, name = path.split("[].")
            properties[owner]["items"]["properties"][name] = leaf
        else:
            properties[path.removesuffix("[]")] = leaf
    return {"title": "generated", "type": "object", "properties": properties}


def _spread(rows: list[Row], limit: int | None) -> Iterator[Row]:
    """`limit` rows at even distances."""
    step = max(1.0, len(rows) / limit) if limit else 1.0
    count = len(rows) if limit is None else min(limit, len(rows))
    yield from (rows[int(at * step)] for at in range(count))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def shared_sets(data: Path, out: Path, limit: int | None = None) -> dict[str, Path]:
    """All sets from the shared data by name."""
    return {
        "receipts-transcript": transcript_receipts(data, out / "receipts-transcript", limit),
        "receipts-scanned": scanned_receipts(data, out / "receipts-scanned", limit),
        "receipt-lines": receipt_line_images(data, out / "receipt-lines", limit and 6 * limit),
        "digits-known": spoken_digits(data, out / "digits-known", known=True, limit=limit),
        "digits-unseen": spoken_digits(data, out / "digits-unseen", known=False, limit=limit),
    }


def main() -> None:
    """Writes all sets that can be made here, for `flows eval`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--limit", type=int, default=100, help="items of a generated set")
    options = parser.parse_args()
    sets = [generated(task, options.out / task, options.limit) for task in GENERATED]
    if options.data.is_dir():
        sets += shared_sets(options.data, options.out).values()
    for path in sets:
        print(path)


if __name__ == "__main__":
    main()
