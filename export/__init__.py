"""Checkpoint -> bundle."""

from export.write import export_bundle

__all__ = ["export_bundle"]
