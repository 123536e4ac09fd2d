"""Noise as optical character recognition makes it: confused, merged, split and lost characters.

Knows nothing of documents or tasks: text in, noisy text out. Some of the noise cannot be repaired
(a digit read as another digit), as in real scans; a model has to learn to leave such places alone.
"""

from __future__ import annotations

from training.generators.words import Source

# What is read for what, as Tesseract confuses them on small or thin print.
CONFUSIONS: dict[str, tuple[str, ...]] = {
    "rn": ("m",),
    "m": ("rn", "nn", "in"),
    "cl": ("d",),
    "d": ("cl",),
    "vv": ("w",),
    "w": ("vv",),
    "li": ("h", "b"),
    "h": ("b", "li"),
    "ri": ("n",),
    "n": ("ri", "u"),
    "u": ("ii", "n"),
    "fi": ("f", "ti"),
    "tt": ("H", "it"),
    "0": ("O", "o", "D"),
    "O": ("0", "Q"),
    "o": ("0", "c", "e"),
    "1": ("l", "I", "i", "|"),
    "l": ("1", "I", "|", "i"),
    "I": ("1", "l", "|"),
    "i": ("l", "1", "j", "t"),
    "5": ("S", "s"),
    "S": ("5", "$"),
    "s": ("5", "8"),
    "8": ("B", "3"),
    "B": ("8", "E"),
    "2": ("Z", "z"),
    "Z": ("2",),
    "6": ("G", "b"),
    "G": ("6", "C"),
    "9": ("g", "q"),
    "g": ("q", "9"),
    "e": ("c", "o"),
    "c": ("e", "o"),
    "a": ("o", "e", "s"),
    "t": ("f", "l", "+"),
    "f": ("t", "i"),
    "r": ("t", "f"),
    "y": ("v",),
    "v": ("y",),
    "b": ("h", "6"),
    "D": ("0", "O"),
    "E": ("F", "B"),
    "F": ("P", "E"),
    "P": ("F",),
    "T": ("I", "7"),
    "7": ("T", "/"),
    "H": ("N", "II"),
    "N": ("H", "M"),
    "M": ("N", "IVI"),
    "U": ("V", "LI"),
    "V": ("U", "Y"),
    "A": ("4", "R"),
    "R": ("A", "K"),
    "K": ("X", "R"),
    "4": ("A", "a"),
    "3": ("8", "B"),
    "C": ("G", "("),
    "Q": ("O",),
    ".": (",", "", " ."),
    ",": (".", "", " ,"),
    ":": (".", ";", ""),
    ";": (":", ","),
    "-": ("~", "_", "", "--"),
    "'": ("", "`"),
    "/": ("I", "7", "1"),
    "(": ("{", "C", "["),
    ")": ("}", "]", "J"),
    "&": ("8", "6"),
    "!": ("I", "1"),
    '"': ("''", ""),
    "$": ("S", "5"),
    "#": ("H",),
    "%": ("8", "96"),
    "*": ("", "+"),
}
SPECKS = (".", ",", "'", "`", "-", "_", "|", "~", ":", ";", "=", "^", "*")


def confuse(source: Source, text: str, rate: float) -> str:
    """The text with about `rate` of its characters disturbed; line breaks stay where they are."""
    out: list[str] = []
    place = 0
    while place < len(text):
        character = text[place]
        if character == "\n" or source.random.random() >= rate:
            out.append(character)
            place += 1
            continue
        pair = text[place : place + 2]
        if len(pair) == 2 and pair in CONFUSIONS:
            out.append(source.pick(CONFUSIONS[pair]))
            place += 2
            continue
        out.append(disturbed(source, character))
        place += 1
    return "".join(out)


def disturbed(source: Source, character: str) -> str:
    """What one character may be read as: mostly a look-alike, or lost, or with a speck or space."""
    draw = source.random.random()
    if character == " ":
        return (
            ""
            if draw < 0.6
            else "  "
            if draw < 0.7
            else f" {source.pick(SPECKS)} "
            if draw < 0.85
            else " "
        )
    if draw < 0.78 and character in CONFUSIONS:
        return source.pick(CONFUSIONS[character])
    if draw < 0.86:
        return ""
    if draw < 0.93:
        return f"{character} "
    return character + source.pick(SPECKS)


def noisy_line(source: Source, text: str, rate: float) -> str:
    """One line with confusions, and now and then specks at its ends, as at the edge of a scan."""
    text = confuse(source, text, rate)
    if source.chance(rate):
        text = f"{source.pick(SPECKS)} {text}"
    if source.chance(rate):
        text = f"{text} {source.pick(SPECKS)}"
    return text


def rate(source: Source) -> float:
    """A noise rate per character: clean scans are common, bad ones rare."""
    return source.pick((0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12))
