"""tag: an item gets one or several labels of a given set, with probabilities over the set.

Worked example, labels invoice, letter, receipt:

    system  Choose the label that fits:
            invoice
            letter
            receipt
    user    ACME TRADING\\nTOTAL 12.50\\nTHANK YOU
    model   receipt
"""

from __future__ import annotations

from collections.abc import Sequence

PROMPT_VERSION = "tag-1"


def instruction(labels: Sequence[str]) -> str:
    """The system turn."""
    return "\n".join(["Choose the label that fits:", *labels])
