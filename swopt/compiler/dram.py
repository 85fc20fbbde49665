"""The DRAM image that programs share: constants, inputs, results, and the keys and values kept."""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


class DramImage:
    """Bytes of DRAM, handed out in whole beats; equal constants are there once.

    Args:
        beat: Bytes of a beat.
    """

    def __init__(self, beat: int) -> None:
        self.beat = beat
        self._bytes = bytearray()
        self._constants: dict[bytes, int] = {}

    def reserve(self, size: int) -> int:
        """First byte of so many that no one else has; they are 0."""
        at = len(self._bytes)
        self._bytes += bytes(-(-size // self.beat) * self.beat)
        return at

    def put(self, content: bytes) -> int:
        """First byte of some content that has these bytes for itself, so that it can be changed."""
        at = self.reserve(len(content))
        self._bytes[at : at + len(content)] = content
        return at

    def write(self, at: int, content: bytes) -> None:
        """Puts content into bytes that were reserved."""
        self._bytes[at : at + len(content)] = content

    def constant(self, content: bytes) -> int:
        """First byte of some content that no program changes."""
        at = self._constants.get(content)
        if at is None:
            at = self._constants[content] = self.put(content)
        return at

    def bytes(self, before: Bytes | None = None) -> Bytes:
        """The image; where `before` reaches, as an earlier program left it."""
        image = np.frombuffer(bytes(self._bytes), np.uint8)
        return image if before is None else np.concatenate([before, image[len(before) :]])
