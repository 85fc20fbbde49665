"""The scratchpad's memory: a single-port synchronous SRAM."""

from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out


class Sram(wiring.Component):
    """One port that writes or reads one word a cycle.

    `read_data` follows a read by one cycle and holds until the next one. The contents are unknown
    until written. Trusted: for synthesis this module is a macro out of a memory compiler.

    Args:
        words: Capacity in words.
        bits: Width of a word.
    """

    def __init__(self, words: int, bits: int) -> None:
        self.words = words
        self.bits = bits
        super().__init__(
            {
                "enable": In(1),
                "write": In(1),
                "address": In(range(words)),
                "write_data": In(bits),
                "read_data": Out(bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.array = array = memory.Memory(shape=self.bits, depth=self.words, init=[])
        write = array.write_port()
        read = array.read_port()
        m.d.comb += [
            write.addr.eq(self.address),
            write.data.eq(self.write_data),
            write.en.eq(self.enable & self.write),
            read.addr.eq(self.address),
            read.en.eq(self.enable & ~self.write),
            self.read_data.eq(read.data),
        ]
        return m
