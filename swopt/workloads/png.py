"""Reads PNG images (ISO/IEC 15948) of 8 bits a channel, without another library.

Grey, grey with alpha, colour, colour with alpha, and palettes; not interlaced. Each checksum is
held, so a file that is cut off or changed is refused.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"

PIXELS = 1 << 26
"""Most pixels of an image; a small file can claim any number."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels of each colour type: grey, colour, palette, grey and alpha, colour and alpha."""


def read(content: bytes) -> NDArray[np.uint8]:
    """The pixels of a PNG file, uint8 `[height, width, 3]`; alpha is left out.

    Raises:
        ValueError: It is no PNG, not whole, or of a form that is not read.
    """
    if not content.startswith(SIGNATURE):
        raise ValueError("the image is no PNG; convert it to one")
    chunks = _chunks(content)
    try:
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
        packed = chunks[b"IDAT"]
    except (KeyError, struct.error):
        raise ValueError("the image is a PNG without a header or pixels") from None
    if depth != 8 or colour not in _CHANNELS or interlaced:
        raise ValueError(
            f"the image is a PNG of {depth} bits a channel{', interlaced' if interlaced else ''}; "
            "save it with 8 bits a channel and not interlaced"
        )
    if not 0 < width * height <= PIXELS:
        raise ValueError(f"the image has {width} x {height} pixels, not 1 to {PIXELS} in all")
    channels = _CHANNELS[colour]
    size = height * (1 + width * channels)
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(packed, size)
    except zlib.error:
        raise ValueError("the image is a PNG whose pixels cannot be unpacked") from None
    if len(raw) != size:
        raise ValueError("the image is a PNG that has fewer pixels than it says")
    pixels = _unfiltered(raw, height, width * channels, channels)
    pixels = pixels.reshape(height, width, channels)
    if colour == 3:
        return _coloured(pixels[..., 0], chunks.get(b"PLTE", b""))
    return np.ascontiguousarray(pixels[..., :3] if channels >= 3 else pixels[..., [0, 0, 0]])


def _chunks(content: bytes) -> dict[bytes, bytes]:
    """The chunks by name, those of one name joined."""
    found: dict[bytes, bytes] = {}
    at = len(SIGNATURE)
    while b"IEND" not in found:
        head = content[at : at + 8]
        if len(head) < 8:
            raise ValueError("the image is a PNG that is cut off")
        length, name = struct.unpack(">I4s", head)
        data, check = content[at + 8 : at + 8 + length], content[at + 8 + length : at + 12 + length]
        if len(check) < 4 or struct.unpack(">I", check)[0] != zlib.crc32(name + data):
            raise ValueError("the image is a PNG that is cut off or changed")
        found[name] = found.get(name, b"") + data
        at += 12 + length
    return found


def _unfiltered(raw: bytes, height: int, stride: int, step: int) -> NDArray[np.uint8]:
    """Takes back what each line was predicted by (section 9 of the standard)."""
    lines = np.frombuffer(raw, np.uint8).reshape(height, 1 + stride)
    done = np.zeros((height + 1, stride), np.uint8)
    for y, line in enumerate(lines, 1):
        kind, coded, above = int(line[0]), line[1:], done[y - 1]
        if kind == 0:
            done[y] = coded
        elif kind == 1:
            done[y] = coded.reshape(-1, step).cumsum(0, dtype=np.uint8).reshape(-1)
        elif kind == 2:
            done[y] = coded + above
        elif kind in (3, 4):
            done[y] = _predicted(kind, coded.tolist(), above.tolist(), step)
        else:
            raise ValueError("the image is a PNG with a filter that the standard does not have")
    return done[1:]


def _predicted(kind: int, coded: list[int], above: list[int], step: int) -> list[int]:
    """A line by the mean of left and above (3), or by Paeth's choice (4)."""
    done: list[int] = []
    for x, value in enumerate(coded):
        left, corner = (done[x - step], above[x - step]) if x >= step else (0, 0)
        up = above[x]
        if kind == 3:
            guess = (left + up) // 2
        else:
            distances = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
            guess = (left, up, corner)[distances.index(min(distances))]
        done.append((value + guess) & 255)
    return done


def _coloured(indices: NDArray[np.uint8], palette: bytes) -> NDArray[np.uint8]:
    if len(palette) % 3 or len(palette) <= 3 * int(indices.max()):
        raise ValueError("the image is a PNG whose palette has not all of its colours")
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    return np.ascontiguousarray(colours[indices])
