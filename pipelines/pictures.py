"""Picture files through Pillow: PNG, JPEG, WebP, TIFF of several pages -> arrays.

Knows no OCR and no model. Sizes are checked before a pixel is decoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from model_onnx.errors import InputError

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
_ORIENTATION = 0x0112  # EXIF and TIFF tag
_BAD = (
    *(UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError, OSError),
    *(EOFError, KeyError, TypeError),
)
_UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image.swapaxes(0, 1)[::-1, ::-1],
    8: lambda image: np.rot90(image),
}


class Picture:
    """An open picture file. Raises InputError: `damaged`."""

    def __init__(self, path: str, most_pages: int) -> None:
        try:
            with _quiet():
                self._image = Image.open(path, formats=_FORMATS)
                self.pages = _count_frames(self._image, most_pages)
        except _BAD as error:
            raise _problem(error) from None

    def close(self) -> None:
        self._image.close()

    def read(self, number: int, *, pixels: int, source_pixels: int) -> NDArray[np.uint8]:
        """Page (1-based) as uint8 [H, W] or [H, W, 3], EXIF applied, scaled down to `pixels`.

        Raises InputError: `damaged`; `too_large` above `source_pixels`.
        """
        try:
            with _quiet():
                self._image.seek(number - 1)
                return _decode(self._image, pixels, source_pixels)
        except _BAD as error:
            raise _problem(error) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of broken metadata and of sizes, which are checked here by our own limit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decode(image: Image.Image, pixels: int, source_pixels: int) -> NDArray[np.uint8]:
    size = image.width * image.height
    if size > source_pixels:
        raise _too_many_pixels(
            f"{size / 1e6:.0f} megapixels above the limit of {source_pixels / 1e6:.0f}"
        )
    scale = min(1.0, (pixels / size) ** 0.5)
    small = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    if scale < 1.0:
        image.draft(None, small)  # JPEG decodes at a half, a quarter or an eighth
    orientation = image.getexif().get(_ORIENTATION, 1)
    plain = isinstance(image, TiffImageFile) and image.tile[0].codec_name != "libtiff"
    if plain and orientation in (5, 6, 7, 8):
        image._size = image.size[::-1]  # Pillow 13 decodes unpacked pixels at the turned size
    image.load()
    orientation = image.getexif().get(_ORIENTATION, 1)  # TIFF is turned by Pillow, and says so
    flat = _flatten(image)
    if scale < 1.0:
        flat = flat.resize(small, Image.Resampling.LANCZOS, reducing_gap=2.0)
    upright = np.asarray(flat)
    if turn := _UPRIGHT.get(orientation):
        upright = turn(upright)
    return grey_if_grey(np.ascontiguousarray(upright))


def _flatten(image: Image.Image) -> Image.Image:
    """Mode L or RGB; what is transparent becomes white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float32))
        low, high = float(values.min()), float(values.max())
        return Image.fromarray(np.uint8((values - low) * (255 / max(high - low, 1e-6))))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def grey_if_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W, 3] without colour as [H, W]: a third of the bytes to pass on."""
    if image.ndim == 2:
        return image
    red, green, blue = (image[:, :, channel].astype(np.int16) for channel in range(3))
    if max(np.abs(red - green).max(), np.abs(blue - green).max()) > 8:
        return image
    return np.ascontiguousarray(image[:, :, 1])


def _count_frames(image: Image.Image, most: int) -> int:
    """Pillow's own count walks all pages of a TIFF; this one stops behind `most`."""
    if image.format != "TIFF":
        return 1
    frames = 1
    try:
        while frames <= most:
            image.seek(frames)
            frames += 1
    except EOFError:
        pass
    return frames


def _problem(error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno is not None:  # the disk's error, not the file's
        return error
    if isinstance(error, Image.DecompressionBombError):
        return _too_many_pixels("far too many pixels")
    return InputError(
        f"got a picture that cannot be read ({type(error).__name__}), expected an intact one; "
        "save it again",
        reason="damaged",
    )


def _too_many_pixels(got: str) -> InputError:
    return InputError(f"got {got}, expected fewer; scale the picture down", reason="too_large")
