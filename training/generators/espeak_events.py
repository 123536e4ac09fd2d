"""Says one text with the library of espeak-ng: `espeak_events.py VOICE SPEED PITCH TEXT`.

On the standard output: a line of JSON, {"rate": Hz, "phonemes": [[first sample, name], ...]}, and
the samples, 16 bits each. Run as a program of its own for each clip: the library carries the state
of its random flutter from one text to the next and has no call that resets it.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

LIBRARY = "libespeak-ng.so.1"
# Numbers of speak_lib.h.
SYNCHRONOUS, PHONEME_EVENTS, CHARACTERS, UTF8 = 2, 1, 1, 1
SPEED, PITCH = 1, 3
LAST_EVENT, PHONEME_EVENT = 0, 7


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    )


CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event)
)


def main(voice: str, speed: str, pitch: str, text: str) -> int:
    samples: list[bytes] = []
    phonemes: list[tuple[int, str]] = []

    def receive(wave: Any, count: int, events: Any) -> int:
        if count:
            samples.append(ctypes.string_at(wave, 2 * count))
        place = 0
        while events[place].type != LAST_EVENT:
            if events[place].type == PHONEME_EVENT:
                phonemes.append((events[place].sample, events[place].string.decode()))
            place += 1
        return 0

    espeak = ctypes.CDLL(LIBRARY)
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS)
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        print(f"espeak-ng has no voice {voice!r}", file=sys.stderr)
        return 1
    callback = CALLBACK(receive)
    espeak.espeak_SetSynthCallback(callback)
    espeak.espeak_SetParameter(SPEED, int(speed), 0)
    espeak.espeak_SetParameter(PITCH, int(pitch), 0)
    said = text.encode()
    espeak.espeak_Synth(said, len(said) + 1, 0, CHARACTERS, 0, UTF8, None, None)
    header = json.dumps({"rate": rate, "phonemes": phonemes})
    sys.stdout.buffer.write(header.encode() + b"\n" + b"".join(samples))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
