"""A dot product of int8; no core has it."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class DotProduct(wiring.Component):
    """The sum of the products of pairs of operands. Latency 2, one sum a cycle.

    Args:
        lanes: Pairs.
    """

    def __init__(self, lanes):
        self.lanes = lanes
        operands = {f"{side}_{lane}": In(signed(8)) for side in "ab" for lane in range(lanes)}
        super().__init__({**operands, "y": Out(signed(15 + lanes.bit_length()))})

    def elaborate(self, platform):
        m = Module()
        products = []
        for lane in range(self.lanes):
            product = Signal(signed(16), name=f"product_{lane}")
            m.d.sync += product.eq(getattr(self, f"a_{lane}") * getattr(self, f"b_{lane}"))
            products.append(product)
        m.d.sync += self.y.eq(sum(products))
        return m
