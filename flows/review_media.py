"""What stands beside a record on the review page: its pages, sound, text and differences.

Knows no HTML. Input files are parsed in child processes; one that is gone, or is not what the run
read, gives a problem for the person and no picture.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.discover import read_version
from flows.review import TEXTS
from flows.store import Row
from model_onnx.errors import InputError
from pipelines.differences import differences
from pipelines.previews import Previews
from pipelines.video import VideoOptions

FIRST_PAGES = 3  # shown without a value on them, in a page that is made ahead
MOST_TEXT = 300_000  # characters


@dataclass(frozen=True)
class File:
    name: str
    kind: str  # a media type
    content: bytes


@dataclass(frozen=True)
class Shown:
    """plain: JSON for the page, whose `src` name files; files: the bytes, as far as made."""

    plain: dict[str, Any]
    files: tuple[File, ...] = ()


@dataclass
class Media:
    """root: the input folder (or the folder of the one input file), None where it is unknown."""

    root: Path | None
    previews: Previews = field(default_factory=Previews)
    videos: VideoOptions = field(default_factory=VideoOptions)  # as the run read them
    ahead: bool = True  # whether all files are made at once; else `page` makes them when asked

    def close(self) -> None:
        self.previews.close()

    def shown(self, name: str, row: Row, record: Mapping[str, Any]) -> Shown:
        """Never raises for a file that cannot be read. name: of the entry, starts file names."""
        try:
            path = locate(self.root, row)
            match record["source"]["kind"]:
                case "recording":
                    return self._recording(name, path)
                case "text":
                    return Shown(_with_text(self.previews.text(path), record))
            return self._document(name, path, record)
        except InputError as error:
            return Shown({"problem": str(error)})

    def page(self, name: str, row: Row, record: Mapping[str, Any], number: int) -> File:
        """One page's picture. Raises InputError."""
        turn = turn_of(record, number)
        made = self.previews.page(locate(self.root, row), number, turn=turn, videos=self.videos)
        if made.image is None:
            raise InputError("a page of plain text has no picture", reason="empty")
        return File(f"{name}-{number}.webp", "image/webp", made.image)

    def _recording(self, name: str, path: Path) -> Shown:
        made = self.previews.sound(path)
        file = File(f"{name}.mp3", "audio/mpeg", made.sound)
        sound = {"src": file.name, "seconds": made.seconds, "bars": made.bars}
        return Shown({"sound": sound}, (file,))

    def _document(self, name: str, path: Path, record: Mapping[str, Any]) -> Shown:
        recognise = record["subtask"] in ("clean", "repair")
        total = record["source"].get("pages") or 1
        numbers = page_numbers(record) if self.ahead and not recognise else range(1, total + 1)
        pages, files, texts = [], [], []
        for number in numbers:
            page: dict[str, Any] = {"number": number, "src": f"{name}-{number}.webp"}
            if self.ahead or recognise or number == 1:
                turn = turn_of(record, number)
                made = self.previews.page(
                    path, number, turn=turn, recognise=recognise, videos=self.videos
                )
                texts.append(made.text)
                if made.image is None:
                    continue
                page |= {"width": made.width, "height": made.height}
                files.append(File(page["src"], "image/webp", made.image))
            pages.append(page)
        plain: dict[str, Any] = {"pages": pages, "left_out": total - len(numbers)}
        if not files:
            plain = {"pages": []}
        if recognise or not files:
            plain |= _with_text("\n\n".join(map(_tidy, texts)), record)
        return Shown(plain, tuple(files))


def locate(root: Path | None, row: Row) -> Path:
    """The file that the run read. Raises InputError when it is not there any more."""
    if root is None:
        raise InputError(
            "the run does not say where its files are; say --input DIRECTORY", reason="vanished"
        )
    path = root / os.fsdecode(row.raw)
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(
            "the file lies outside of the input folder; say --input DIRECTORY with the folder that "
            "the run read",
            reason="symlink_outside",
        )
    try:
        same = row.sha256 is not None and read_version(path).sha256 == row.sha256
    except InputError:
        raise InputError(
            f"the file is not in {root}; say --input DIRECTORY with the folder that the run read",
            reason="vanished",
        ) from None
    if not same:
        raise InputError("the file changed since the run; run again", reason="changed")
    return path


def _tidy(text: str) -> str:
    """Lines as the subtasks see them."""
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _with_text(text: str, record: Mapping[str, Any]) -> dict[str, Any]:
    output = record["output"]
    plain: dict[str, Any] = {"text": text[:MOST_TEXT]}
    changed = isinstance(output, dict) and record["subtask"] in TEXTS and "edits" in output
    if changed and max(len(text), len(output["text"])) <= MOST_TEXT:
        pieces = differences(text, output["text"], output["edits"])
        plain["pieces"] = [asdict(piece) for piece in pieces]
    return plain


def page_numbers(record: Mapping[str, Any]) -> list[int]:
    """The first pages and those that a value stands on."""
    total = record["source"].get("pages") or 1
    found = {field["grounding"]["page"] for field in record["fields"].values()}
    first = range(1, min(total, FIRST_PAGES) + 1)
    return sorted({*first, *(page for page in found if page and page <= total)})


def turn_of(record: Mapping[str, Any], number: int) -> int:
    """Clockwise degrees by which the run turned a scanned page."""
    turns = record["source"].get("turned") or ()
    return int(turns[number - 1]) if number <= len(turns) else 0
