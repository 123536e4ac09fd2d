"""Synthetic speech: sentences, numbers and dictation read out by espeak-ng in many voices.

Clips are made once and kept in a folder: making one costs about half of training on it.
`python -m training.generators.speech --clips 20000` fills the folder; a clip that is not there yet
is made when it is asked for. Files are named by what is said and by whom, so they never get stale.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from training.generators import dictation, espeak, lists, prose, words
from training.generators.espeak import Clip
from training.generators.words import Source, Split

FOLDER = Path.home() / ".cache" / "scanscribe" / "speech"
CLIPS: dict[Split, int] = {"train": 20_000, "heldout": 400}
DIGIT_CLIPS: dict[Split, int] = {"train": 1000, "heldout": 60}
# The plain voices most often: with many voices, echoes and loud noise from the start, hearing took
# far longer to begin.
ACCENTS = ("en-us", "en-us", "en", "en", "en-gb-scotland", "en-gb-x-rp")
VARIANTS = (
    *("", "", "", "+m1", "+m2", "+m3", "+m4", "+m6", "+m7"),
    *("+f1", "+f2", "+f3", "+f5", "+klatt", "+klatt2"),
)
HELD_OUT_VOICES = ("en-us+m5", "en+f4", "en-gb-x-gbcwmd", "en+klatt3", "en-us+f4")
SAYABLE_TEMPLATES = tuple(
    line for line in prose.PLAIN_TEMPLATES if "{amount}" not in line and "{clock}" not in line
)
SAID_WORDS = {
    "noun": prose.NOUNS[:120],
    "adjective": prose.ADJECTIVES[:60],
    "verb": prose.VERBS[:60],
    "adverb": prose.OPEN_CLASSES["adverb"][:30],
    "first": words.FIRST_NAMES[:40],
    "person": words.FIRST_NAMES[:40],
    "city": words.CITIES[:20],
}
SLOT = re.compile(r"\{(\w+)\}")
SAID = re.compile(r"[a-z0-9']+")
UNHEARD = 127  # no sound has this number: the first run begins at the first sample
BROKEN_OFF = re.compile(r"\b[A-Za-z]+- ")  # a stutter, which espeak-ng would spell


def phrase(source: Source) -> str:
    """What is said: lower-case words and digits, without punctuation.

    All words are from one vocabulary of about 700: spelling a word that was never heard is beyond
    a model of this size, and the attempt kept it from learning the others.
    """
    draw = source.random.random()
    if draw < 0.3:
        text = sayable(source)
    elif draw < 0.4:
        text = BROKEN_OFF.sub("", dictation.spoken(source, sayable(source)))
    elif draw < 0.5:
        text = " ".join(source.pick("0123456789") for _ in range(source.between(1, 6)))
    else:  # without an order that could be guessed, and short ones, which are easier to align
        text = " ".join(source.pick(vocabulary()) for _ in range(source.pick((1, 1, 2, 3, 5))))
    return " ".join(SAID.findall(text.lower().replace("-", " ")))


def sayable(source: Source) -> str:
    """A sentence of common words whose spelling can be heard."""
    template = source.own(SAYABLE_TEMPLATES)
    return SLOT.sub(lambda slot: said_slot(source, slot[1]), template)


def said_slot(source: Source, name: str) -> str:
    if name in SAID_WORDS:
        return source.pick(SAID_WORDS[name])
    if name == "date":
        return f"{source.between(1, 28)} {source.pick(words.MONTHS)}"
    if name == "year":
        return str(source.between(2015, 2030))
    if name == "number":
        return str(source.between(2, source.pick((9, 30, 100))))
    return prose.slot(source, name, plain=True)


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word of the sentences, of both splits, and the spoken punctuation."""
    text = " ".join(
        [SLOT.sub(" ", line) for line in (*SAYABLE_TEMPLATES, *lists.load("places"))]
        + [entry for entries in SAID_WORDS.values() for entry in entries]
        + [name for names in dictation.MARKS.values() for name in names]
        + [*words.MONTHS, *prose.WEEKDAYS, *lists.load("fillers"), *lists.load("corrections")]
    )
    return tuple(sorted(set(SAID.findall(text.lower()))))


def voice(source: Source) -> tuple[str, int, int]:
    """Voice name, words a minute, pitch."""
    name = source.pick(ACCENTS) + source.pick(VARIANTS)
    if source.split == "heldout":
        name = source.pick(HELD_OUT_VOICES)
    return name, source.between(125, 195), source.between(30, 70)


def clip(number: int, split: Split, folder: Path = FOLDER) -> tuple[str, Clip]:
    """A clip of the bank and its text."""
    source = Source(random.Random(f"clip:{split}:{number}"), split)
    text = phrase(source)
    return text, kept(text, voice(source), folder)


def kept(text: str, spoken_by: tuple[str, int, int], folder: Path) -> Clip:
    """The clip from the folder, made first where it is not there yet."""
    key = hashlib.sha256(repr((text, spoken_by)).encode()).hexdigest()
    path = folder / key[:2] / f"{key[2:26]}.npz"
    if not path.is_file():
        write_clip(path, espeak.say(text, *spoken_by))
    with np.load(path) as file:
        samples = file["samples"].astype(np.float32) / 32768
        return Clip(samples, np.repeat(file["sounds"], file["lengths"]))


def write_clip(path: Path, clip: Clip) -> None:
    """Write the clip so that another process sees either nothing or all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.clip(clip.samples * 32768, -32768, 32767).astype(np.int16)
    starts = np.flatnonzero(np.diff(clip.sounds, prepend=UNHEARD))
    lengths = np.diff(starts, append=len(clip.sounds))
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        np.savez(file, samples=samples, sounds=clip.sounds[starts], lengths=lengths)
    os.replace(file.name, path)


def digit_clip(source: Source, folder: Path = FOLDER) -> tuple[str, Clip]:
    """Digits from a bank of their own."""
    number = source.between(0, DIGIT_CLIPS[source.split] - 1)
    chosen = Source(random.Random(f"digits:{source.split}:{number}"), source.split)
    text = " ".join(chosen.pick("0123456789") for _ in range(chosen.pick((1, 1, 2, 3))))
    return text, kept(text, voice(chosen), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--clips", type=int, default=CLIPS["train"])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.threads) as pool:
        held_out = pool.map(lambda n: clip(n, "heldout", arguments.out), range(CLIPS["heldout"]))
        train = pool.map(lambda n: clip(n, "train", arguments.out), range(arguments.clips))
        made = sum(1 for _ in (*held_out, *train))
    print(f"{made} clips in {arguments.out}")


if __name__ == "__main__":
    main()
