"""Where the audio projection begins: a bank of filters over the two halves of a frame.

From random weights the helper head that hears characters (CTC) stayed at the entropy of the
letters (3.2 nats a character) for 90 minutes of joint training: the energy in a band is a product
of two filters in quadrature, which a network has to find before anything can be heard.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOWEST, HIGHEST = 80.0, 7000.0  # Hz
# Speech falls off above this frequency about as fast as the gain rises: all filters come out alike.
CORNER = 500.0
SCALE = 0.28  # outputs of deviation 1 on frames of unit power


def filter_bank(outputs: int, samples: int, rate: int = 16_000) -> Tensor:
    """float32 [outputs, samples]; outputs: 4 for each frequency, in two halves, cosine and sine.

    Frequencies are spaced on the mel scale (2595 log10(1 + f / 700)).
    """
    count, half = outputs // 4, samples // 2
    mels = torch.linspace(mel(LOWEST), mel(HIGHEST), count, dtype=torch.float64)
    frequency = 700 * (10 ** (mels / 2595) - 1)
    angle = 2 * math.pi * frequency[:, None] * torch.arange(half, dtype=torch.float64) / rate
    window = torch.hann_window(half + 2, periodic=False, dtype=torch.float64)[1:-1]
    bank = torch.zeros(2, 2, count, samples, dtype=torch.float64)
    for place in range(2):
        for phase, wave in enumerate((angle.cos(), angle.sin())):
            bank[place, phase, :, place * half : (place + 1) * half] = window * wave
    bank /= bank.norm(dim=-1, keepdim=True)
    bank *= SCALE * (1 + frequency / CORNER)[:, None]
    return bank.view(outputs, samples).float()


def mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
