"""A short first-in-first-out queue of registers."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class RegisterQueue(wiring.Component):
    """Up to `depth` words; the oldest stands at `r_data` while `r_rdy` is high.

    A write with `w_en` and `w_rdy` is at the other end from the next cycle on; a read with `r_en`
    and `r_rdy` takes the oldest away.

    Args:
        width: Bits of a word.
        depth: Words.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width = width
        self.depth = depth
        super().__init__(
            {
                "w_data": In(width),
                "w_en": In(1),
                "w_rdy": Out(1),
                "r_data": Out(width),
                "r_en": In(1),
                "r_rdy": Out(1),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = [Signal(self.width, name=f"word_{i}") for i in range(self.depth)]
        write_at, read_at = Signal(range(self.depth)), Signal(range(self.depth))
        written, taken = Signal(), Signal()
        m.d.comb += [
            self.w_rdy.eq(self.level != self.depth),
            self.r_rdy.eq(self.level != 0),
            written.eq(self.w_en & self.w_rdy),
            taken.eq(self.r_en & self.r_rdy),
            self.r_data.eq(Array(words)[read_at]),
        ]
        m.d.sync += self.level.eq(self.level + written - taken)
        last = self.depth - 1
        with m.If(written):
            m.d.sync += [
                Array(words)[write_at].eq(self.w_data),
                write_at.eq(write_at + 1),
            ]
            with m.If(write_at == last):
                m.d.sync += write_at.eq(0)
        with m.If(taken):
            m.d.sync += read_at.eq(read_at + 1)
            with m.If(read_at == last):
                m.d.sync += read_at.eq(0)
        return m
