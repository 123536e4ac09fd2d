from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model_onnx.errors import InputError
from pipelines.pictures import Picture, grey_if_grey

CORNERS = np.zeros((20, 30), np.uint8)
CORNERS[:10, :15] = 80  # the upper left quarter


def read(path: Path, pixels: int = 10_000_000, source: int = 80_000_000) -> NDArray[np.uint8]:
    picture = Picture(str(path), 5)
    try:
        return picture.read(1, pixels=pixels, source_pixels=source)
    finally:
        picture.close()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "lzw.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, name: str, orientation: int) -> None:
    """Each way that a camera may have stored it gives the same upright picture."""
    stored = {
        1: CORNERS,
        2: CORNERS[:, ::-1],
        3: CORNERS[::-1, ::-1],
        4: CORNERS[::-1],
        5: CORNERS.T,
        6: np.rot90(CORNERS),
        7: CORNERS[::-1, ::-1].T,
        8: np.rot90(CORNERS, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    packed = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name, exif=exif, **packed)
    found = read(tmp_path / name)
    assert found.shape == CORNERS.shape
    assert np.abs(found.astype(int) - CORNERS).mean() < 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_modes(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.where(CORNERS > 0, 0, 255).astype(np.uint8))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):  # black where opaque, and black but transparent elsewhere
        picture = Image.new(mode, grey.size, 0)
        picture.putalpha(Image.fromarray(255 - np.asarray(grey)))
    else:
        picture = grey.convert(mode)
    name = tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    picture.save(name)
    found = read(name)
    assert found.dtype == np.uint8 and found.ndim == 2
    assert (found[5, 5], found[15, 20]) == (0, 255)


def test_colour_stays() -> None:
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[0, 0] = (200, 20, 20)
    assert grey_if_grey(colour) is colour
    colour[0, 0] = (200, 203, 198)
    assert grey_if_grey(colour).shape == (4, 4)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_large_pictures_are_scaled_to_the_budget(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.tile(CORNERS, (40, 20))).save(tmp_path / name)
    found = read(tmp_path / name, pixels=30_000)
    assert 25_000 < found.size <= 30_000
    assert found.shape[1] / found.shape[0] == pytest.approx(600 / 800, rel=0.02)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    Image.new("1", (2000, 1000)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="2 megapixels") as caught:
        read(tmp_path / "a.png", source=1_000_000)
    assert caught.value.reason == "too_large"


def test_a_missing_file_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.png")
