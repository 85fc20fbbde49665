"""GGUF files written by hand, after `ggml/docs/gguf.md` of llama.cpp."""

import struct
from collections.abc import Sequence

F32, Q4_1, Q8_0 = 0, 3, 8


def text(content: str) -> bytes:
    """A text: its length in bytes, then UTF-8."""
    return struct.pack("<Q", len(content.encode())) + content.encode()


def uint32(value: int) -> bytes:
    """A value of 32 bits behind its type."""
    return struct.pack("<II", 4, value)


def file_of(
    pairs: Sequence[bytes],
    tensors: Sequence[tuple[str, tuple[int, ...], int, bytes]],
    alignment: int = 32,
) -> bytes:
    """A whole file.

    Args:
        pairs: Each key, type and value.
        tensors: Name, dimensions (innermost first), type and content of each.
        alignment: Of the data.
    """
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs)
    data = b""
    for name, shape, kind, content in tensors:
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data))
        data += content + bytes(-len(content) % alignment)
    return head + bytes(-len(head) % alignment) + data
