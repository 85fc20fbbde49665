"""GGUF files, version 3, as far as a small language model needs them: metadata and four types.

The layout is that of llama.cpp's `ggml/docs/gguf.md`: little-endian, a header, key-value pairs, a
table of tensors, and their data at offsets from the next multiple of `general.alignment` (32 where
none is given). A tensor's dimensions are listed innermost first.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
"""Of the data, where the file gives none."""

GROUP = 32
"""Weights that share a scale in Q4_1 and Q8_0."""

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_DIMENSIONS_MAX = 4


@dataclass(frozen=True)
class TensorType:
    """How a tensor's numbers lie in the file.

    Attributes:
        name: As llama.cpp calls it.
        weights: Numbers of one group.
        group_bytes: Bytes of one group.
    """

    name: str
    weights: int
    group_bytes: int


TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    3: TensorType("Q4_1", GROUP, 2 + 2 + GROUP // 2),
    8: TensorType("Q8_0", GROUP, 2 + GROUP),
}
"""The types that are read, by their number."""


@dataclass(frozen=True)
class Tensor:
    """One tensor as the file lists it.

    Attributes:
        shape: Outermost dimension first, as in numpy.
        type: How it is stored.
        offset: Of its first byte in the file.
    """

    shape: tuple[int, ...]
    type: TensorType
    offset: int

    @property
    def size(self) -> int:
        """Numbers in it."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def stored_bytes(self) -> int:
        """Bytes that it takes in the file."""
        return self.size // self.type.weights * self.type.group_bytes


@dataclass(frozen=True)
class GgufFile:
    """A file whose header was read; numbers are read when they are asked for.

    Attributes:
        path: The file.
        metadata: Values by key: numbers, texts, or lists of them.
        tensors: By name.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]

    def read(self, name: str) -> NDArray[np.float32]:
        """The numbers of a tensor, float32.

        Raises:
            ValueError: The file has no such tensor.
        """
        if name not in self.tensors:
            raise ValueError(f"{self.path} has no tensor {name}")
        tensor = self.tensors[name]
        with self.path.open("rb") as file:
            file.seek(tensor.offset)
            content = file.read(tensor.stored_bytes)
        return _DECODERS[tensor.type.name](content).reshape(tensor.shape)


def read(path: Path) -> GgufFile:
    """Reads the header of a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no GGUF file of version 3, ends too early, or has a tensor of another type
            than those of `TYPES`.
    """
    with path.open("rb") as file:
        cursor = _Cursor(path, file.read())
    if cursor.bytes(4) != MAGIC:
        raise ValueError(f"{path} is no GGUF file: it does not begin with {MAGIC.decode()}")
    version, tensors, pairs = cursor.unpack("<IQQ")
    if version != VERSION:
        raise ValueError(f"{path} is GGUF of version {version}; version {VERSION} is read")
    metadata = {cursor.text(): cursor.value(*cursor.unpack("<I")) for _ in range(pairs)}
    listed = [cursor.tensor() for _ in range(tensors)]
    alignment = int(metadata.get("general.alignment", ALIGNMENT))
    if alignment < 1:
        raise ValueError(f"{path}: an alignment is at least 1 byte, not {alignment}")
    data = -(-cursor.at // alignment) * alignment
    found = {name: Tensor(shape, kind, data + offset) for name, shape, kind, offset in listed}
    for name, tensor in found.items():
        if tensor.offset + tensor.stored_bytes > len(cursor.content):
            raise ValueError(f"{path} ends before its tensor {name}")
    return GgufFile(path, metadata, found)


@dataclass
class _Cursor:
    """Reads a file's header from its start on."""

    path: Path
    content: bytes
    at: int = 0

    def bytes(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.content):
            raise ValueError(f"{self.path} ends inside its header")
        taken, self.at = self.content[self.at : end], end
        return taken

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.bytes(struct.calcsize(form)))

    def text(self) -> str:
        return self.bytes(*self.unpack("<Q")).decode()

    def value(self, kind: int) -> Any:
        """A value of the metadata: a list for an array, which holds no arrays itself."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            element, count = self.unpack("<IQ")
            if count > len(self.content):  # an element takes a byte at least
                raise ValueError(f"{self.path} ends inside its header")
            if element == _STRING:
                return [self.text() for _ in range(count)]
            form = self._form(element)
            return list(self.unpack(f"<{count}{form[1:]}"))
        return self.unpack(self._form(kind))[0]

    def tensor(self) -> tuple[str, tuple[int, ...], TensorType, int]:
        """Name, shape, type and offset of the next tensor in the table."""
        name = self.text()
        (dimensions,) = self.unpack("<I")
        if not 1 <= dimensions <= _DIMENSIONS_MAX:
            raise ValueError(f"{self.path}: {name} has {dimensions} dimensions, not 1 to 4")
        shape = self.unpack(f"<{dimensions}Q")[::-1]
        number, offset = self.unpack("<IQ")
        if number not in TYPES:
            known = ", ".join(kind.name for kind in TYPES.values())
            raise ValueError(
                f"{self.path}: {name} is stored as type {number} of GGUF; {known} are read"
            )
        kind = TYPES[number]
        if shape[-1] % kind.weights:
            raise ValueError(
                f"{self.path}: a row of {name} has {shape[-1]} numbers, which is no multiple of "
                f"the {kind.weights} that share a scale in {kind.name}"
            )
        return name, shape, kind, offset

    def _form(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise ValueError(f"{self.path}: a value of its metadata has type {kind}, which is none")
        return _SCALARS[kind]


def _f32(content: bytes) -> NDArray[np.float32]:
    return np.frombuffer(content, "<f4").astype(np.float32)


def _f16(content: bytes) -> NDArray[np.float32]:
    return np.frombuffer(content, "<f2").astype(np.float32)


def _q8_0(content: bytes) -> NDArray[np.float32]:
    """Groups of a float16 scale and 32 int8: weight = scale * integer."""
    groups = np.frombuffer(content, np.dtype([("scale", "<f2"), ("integers", "i1", GROUP)]))
    return groups["integers"] * groups["scale"].astype(np.float32)[:, None]


def _q4_1(content: bytes) -> NDArray[np.float32]:
    """Groups of a float16 scale, a float16 minimum and 16 bytes: weight = scale * nibble + minimum.

    The low nibbles are the first 16 weights of a group, the high ones the others.
    """
    layout = [("scale", "<f2"), ("minimum", "<f2"), ("nibbles", "u1", GROUP // 2)]
    groups = np.frombuffer(content, np.dtype(layout))
    nibbles = np.concatenate((groups["nibbles"] & 15, groups["nibbles"] >> 4), axis=1)
    scale, minimum = (groups[each].astype(np.float32)[:, None] for each in ("scale", "minimum"))
    return nibbles * scale + minimum


_DECODERS = {"F32": _f32, "F16": _f16, "Q4_1": _q4_1, "Q8_0": _q8_0}
