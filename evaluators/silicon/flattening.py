"""A mapped design as one module, for what is evaluated gate by gate as a whole."""

from collections.abc import Mapping, Sequence

import numpy as np

from evaluators.silicon.assembly import Assembly
from evaluators.silicon.synthesis import Bit, MappedModule, Synthesis, grouped
from evaluators.silicon.tables import Ints


def flattened(synthesis: Synthesis, assembly: Assembly) -> tuple[MappedModule, Ints]:
    """The library cells of every instance in one module, with the ports of the top one.

    A design that is mapped module by module keeps what makes its modules equal; flattened first, it
    would be another one, and take the time of a flat synthesis.

    Args:
        synthesis: A mapped design.
        assembly: The same, laid out.

    Returns:
        The module, and for each of its nets the one of `assembly`.

    Raises:
        ValueError: The design has macros, which are no gates.
    """
    if synthesis.macros:
        raise ValueError(f"{synthesis.top} has macros, which are no gates")
    flat = _Flat(synthesis, assembly)
    top = synthesis.modules[synthesis.top]
    own = flat.place(top, {})
    module = MappedModule(
        name=synthesis.top,
        ports=tuple(
            port.model_copy(update={"bits": tuple(flat.joined(own[bit]) for bit in port.bits)})
            for port in top.ports
        ),
        cell_names=tuple(map(str, range(len(flat.cells)))),
        groups=grouped(
            (kind, {pin: [flat.joined(bit)] for pin, bit in pins.items()})
            for kind, pins in flat.cells
        ),
        instances=(),
        area_um2=synthesis.cell_area_um2,
        leakage_w=synthesis.leakage_w,
    )
    return module, np.array(flat.laid_out, dtype=np.int64)


class _Flat:
    """The cells of a design so far, placed in the order in which `assemble` places them."""

    def __init__(self, synthesis: Synthesis, assembly: Assembly) -> None:
        self.modules = synthesis.modules
        self.instance_nets = assembly.instance_nets
        self.placed = 0
        self.laid_out: list[int] = []
        self.cells: list[tuple[str, dict[str, Bit]]] = []
        self._same: dict[Bit, Bit] = {}

    def place(self, module: MappedModule, outer: Mapping[str, Sequence[Bit]]) -> dict[Bit, Bit]:
        """Places an instance with `outer` at its ports; the nets here of those in the module."""
        nets = self.instance_nets[self.placed]
        self.placed += 1
        own: dict[Bit, Bit] = {constant: constant for constant in ("0", "1", "x")}
        for port in module.ports:
            for bit, given in zip(port.bits, outer.get(port.name, ()), strict=False):
                if own.setdefault(bit, given) != given:
                    # Two port bits on one net inside, or a constant: outside they are one.
                    self._join(given, own[bit])

        def here(bit: Bit) -> Bit:
            if bit not in own:
                assert isinstance(bit, int)
                own[bit] = len(self.laid_out)
                self.laid_out.append(int(nets[bit]))
            return own[bit]

        for port in module.ports:
            for bit in port.bits:
                here(bit)
        for cell in module.cells:
            self.cells.append(
                (cell.type, {pin: here(bits[0]) for pin, bits in cell.connections.items()})
            )
        for cell in module.instances:
            connections = {pin: [here(b) for b in bits] for pin, bits in cell.connections.items()}
            self.place(self.modules[cell.type], connections)
        return own

    def joined(self, bit: Bit) -> Bit:
        """The net that stands for all that are one with `bit`."""
        while bit in self._same:
            bit = self._same[bit]
        return bit

    def _join(self, one: Bit, other: Bit) -> None:
        one, other = self.joined(one), self.joined(other)
        if one == other:
            return
        if isinstance(one, str):
            one, other = other, one
        self._same[one] = other
