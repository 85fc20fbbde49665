"""Where one block of a pass works: its token groups, its tensors, and the words beside them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from hwlib.commands import Span
from hwlib.config import CoreConfig
from swopt.compiler import network as net
from swopt.compiler.emitter import Atom, Emitter
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import Tensor


@dataclass(frozen=True)
class Site:
    """One step of a pass on one block.

    Attributes:
        e: Takes the commands.
        groups: Token groups of the block.
        tensors: Every tensor that the step touches.
        scratch: First word that the step has for itself.
        spill: Takes (name, word of the tensor, address, words) when words of a tensor are made that
            nobody may find there later.
    """

    e: Emitter
    groups: range
    tensors: Mapping[str, Tensor]
    scratch: int
    spill: Callable[[str, int, int, int], None]

    def take(self, name: str, kind: str) -> Tensor:
        """A tensor that has to be of a kind.

        Raises:
            LoweringError: It is not.
        """
        tensor = self.tensors[name]
        if tensor.layout.kind != kind:
            raise LoweringError(f"{name} must lie as {kind} here, not as {tensor.layout.kind}")
        return tensor

    def operand(self, layer: net.Linear) -> Tensor:
        """What a linear layer reads.

        Raises:
            LoweringError: It has not the bits that the layer takes.
        """
        return self.take(layer.x, f"int{layer.activation_bits}")

    def spans(self, tensor: Tensor) -> list[Span]:
        """The block's words of a tensor that lies by token groups."""
        words = tensor.layout.group_words
        return [("activations", tensor.group(group), words) for group in self.groups]

    def each_group(
        self, read: Mapping[str, Tensor], y: Tensor, emit: Callable[[int], None]
    ) -> Iterator[Atom]:
        """One atom of the vector engine a group, which reads and writes whole groups."""
        for group in self.groups:
            spans: list[Span] = [
                ("activations", x.group(group), x.layout.group_words) for x in read.values()
            ]
            written: Span = ("activations", y.group(group), y.layout.group_words)
            yield Atom("vector", spans, [written], partial(emit, group))


def lanes(start: int, count: int, config: CoreConfig) -> Iterator[tuple[int, int]]:
    """Lanes start .. start + count - 1, counted through the words, in tiles of the array.

    Yields:
        (first lane, lanes). A tile begins where the array can begin to read: the first may begin
        before `start`, by lanes that are not wanted.
    """
    width = min(config.rows, config.columns)
    for first in range(start - start % width, start + count, width):
        yield first, min(width, start + count - first)
