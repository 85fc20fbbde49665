"""Reads the images of visual question answering: plain PNG without another library, JPEG by pillow.

pillow (MIT-CMU) comes with `dovetail[vqa]` and is imported when the first image needs it. What an
image claims to be is checked before its pixels are unpacked, since a small file can claim any size.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from swopt.workloads import png

JPEG = b"\xff\xd8\xff"
"""How a JPEG file begins."""

EXTRA = "pip install 'dovetail[vqa]'"
"""What to type where pillow or pyarrow is missing."""

_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
"""Pillow's modes of 8 bits a channel or fewer; of others it would lose the range."""

_TOO_LARGE = f"the image has more than {png.PIXELS} pixels"


def read(content: bytes) -> NDArray[np.uint8]:
    """The pixels of a plain PNG, or of a JPEG, uint8 `[height, width, 3]`; alpha is left out.

    Raises:
        ValueError: It is neither, not whole, too large, or of a form that is not read.
        ModuleNotFoundError: It is a JPEG, and pillow is not installed.
    """
    if content.startswith(png.SIGNATURE):
        return png.read(content)
    if not content.startswith(JPEG):
        raise ValueError("the image is no PNG and no JPEG; convert it to one")
    return read_any(content)


def read_any(content: bytes) -> NDArray[np.uint8]:
    """The pixels of a JPEG or of any PNG, by pillow, uint8 `[height, width, 3]`.

    Grey is repeated, CMYK is turned into colours as pillow does, alpha is left out.

    Raises:
        ValueError: It is neither, not whole, too large, or of more than 8 bits a channel.
        ModuleNotFoundError: pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ModuleNotFoundError(f"this image needs pillow; type: {EXTRA}") from None
    with _told():
        image = Image.open(BytesIO(content), formats=("JPEG", "PNG"))
    if image.width * image.height > png.PIXELS:
        raise ValueError(_TOO_LARGE)
    if image.mode not in _MODES:
        raise ValueError("the image has more than 8 bits a channel; save it with 8")
    with _told():
        return np.array(image.convert("RGB"))


@contextmanager
def _told() -> Iterator[None]:
    """What pillow raises, as a sentence."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(_TOO_LARGE) from None
    except UnidentifiedImageError:
        raise ValueError("the image is no PNG and no JPEG, or its head is damaged") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error):
        raise ValueError("the image is cut off or damaged") from None
