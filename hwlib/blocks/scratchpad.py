"""The scratchpad: two operand banks and the channel table."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.cells import Cells, sram_name
from hwlib.blocks.drain import CHANNEL_BITS
from hwlib.config import AcceleratorConfig
from hwlib.isa import OPCODES, PACKINGS


class Scratchpad(wiring.Component):
    """Banks that are either written from the load path or read by the array.

    A word with `write` goes to the place that `opcode` names, at `write_address`; low-bit weights
    are sign-extended to int8 on their way. With `read` both operand banks give the words at their
    read addresses in the next cycle. The channel table is registers, always readable.

    Args:
        config: The core's knobs.
        word_bits: Width of a word on the load path.
        cells: Makes the SRAMs.
    """

    def __init__(self, config: AcceleratorConfig, word_bits: int, cells: Cells) -> None:
        self.config = config
        self.columns = config.array.columns
        self.cells = cells
        self.activation_address_bits = (config.activation_words - 1).bit_length()
        self.weight_address_bits = (config.weight_words - 1).bit_length()
        super().__init__(
            {
                "opcode": In(2),
                "packing": In(2),
                "word": In(word_bits),
                "write": In(1),
                "write_address": In(14),
                "read": In(1),
                "activation_address": In(14),
                "weight_address": In(14),
                "activations": Out(8 * config.array.rows),
                "weights": Out(8 * self.columns),
                "channels": Out(CHANNEL_BITS * self.columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for bank, words, read_address, write_data, read_data in (
            (
                "activations",
                self.config.activation_words,
                self.activation_address,
                self.word[: 8 * self.config.array.rows],
                self.activations,
            ),
            (
                "weights",
                self.config.weight_words,
                self.weight_address,
                self._unpacked(m),
                self.weights,
            ),
        ):
            write = Signal(name=f"write_{bank}")
            bits = (words - 1).bit_length()
            m.d.comb += write.eq(self.write & (self.opcode == OPCODES[bank]))
            m.submodules[bank] = self.cells(
                sram_name(words, len(read_data)),
                {
                    "enable": self.read | write,
                    "write": write,
                    "address": Mux(write, self.write_address[:bits], read_address[:bits]),
                    "write_data": write_data,
                },
                {"read_data": read_data},
            )
        write_channel = Signal()
        m.d.comb += write_channel.eq(self.write & (self.opcode == OPCODES["channels"]))
        channels = [Signal(CHANNEL_BITS, name=f"channel_{c}") for c in range(self.columns)]
        for column, channel in enumerate(channels):
            with m.If(write_channel & (self.write_address[:4] == column)):
                m.d.sync += channel.eq(self.word)
        m.d.comb += self.channels.eq(Cat(channels))
        return m

    def _unpacked(self, m: Module) -> Value:
        """The word's weights as int8, one a column."""
        unpacked = Signal(8 * self.columns)
        with m.Switch(self.packing):
            for bits, code in PACKINGS.items():
                weights = [
                    self.word.word_select(column, bits).as_signed()
                    for column in range(self.columns)
                ]
                extended = [Signal(8, name=f"w{bits}_{c}") for c in range(self.columns)]
                m.d.comb += [
                    wide.eq(weight) for wide, weight in zip(extended, weights, strict=True)
                ]
                with m.Case(code):
                    m.d.comb += unpacked.eq(Cat(*extended))
        return unpacked
