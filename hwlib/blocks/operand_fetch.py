"""Operand fetch: words of two memories in, one pair of operands a cycle to the array."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.banked_memory import MemoryPort
from hwlib.blocks.fields import field
from hwlib.blocks.queue import RegisterQueue
from hwlib.core_config import CoreConfig

AHEAD = 2
"""Words of each operand that are read ahead, and commands that are fetched ahead."""


class OperandFetch(wiring.Component):
    """Reads both operands of each tile, and feeds the array word by word.

    A word feeds two cycles, its low bytes and then its high bytes. Where an operand is late the
    array is fed zeros, which leave every sum as it is. With the last pair of a tile `last` is high
    and the tile's command is at `tile`; that pair waits until `drain_free`.

    Args:
        config: The core's knobs.
        command_bits: Bits of a matmul command.
    """

    def __init__(self, config: CoreConfig, command_bits: int) -> None:
        self.rows, self.columns = config.rows, config.columns
        self.command_bits = command_bits
        activation, weight = MemoryPort(16 * config.rows), MemoryPort(16 * config.columns)
        super().__init__(
            {
                "command": In(stream.Signature(command_bits)),
                "activation_port": Out(activation),
                "weight_port": Out(weight),
                "second_port": Out(activation),
                "activations": Out(9 * config.rows),
                "weights": Out(8 * config.columns),
                "last": Out(1),
                "tile": Out(command_bits),
                "drain_free": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.tiles = tiles = RegisterQueue(width=self.command_bits, depth=AHEAD)
        m.submodules.a_words = a_words = RegisterQueue(width=16 * self.rows, depth=AHEAD)
        m.submodules.w_words = w_words = RegisterQueue(width=16 * self.columns, depth=AHEAD)

        # What is read: the command that was taken last.
        active = Signal()
        from_activations = Signal()
        lane = Signal(5)
        command = self.command.payload
        taken = Signal()
        a_left, a_ready = self._reader(m, "a", taken, "activation_address", a_words)
        w_left, w_ready = self._reader(m, "w", taken, "weight_address", w_words)
        m.d.comb += [
            active.eq((a_left != 0) | (w_left != 0)),
            self.command.ready.eq(~active & tiles.w_rdy),
            taken.eq(self.command.valid & self.command.ready),
            tiles.w_data.eq(command),
            tiles.w_en.eq(taken),
        ]
        with m.If(taken):
            m.d.sync += [
                from_activations.eq(field(command, "matmul", "weight_source")),
                lane.eq(field(command, "matmul", "weight_lane")),
            ]

        # Answers. The second operand's lanes of an activation word are chosen on the way in.
        arriving = Signal(16 * self.columns)
        m.d.comb += [
            self.activation_port.valid.eq(a_ready),
            self.weight_port.valid.eq(w_ready & ~from_activations),
            self.second_port.valid.eq(w_ready & from_activations),
            a_words.w_data.eq(self.activation_port.read_data),
            a_words.w_en.eq(self.activation_port.read_valid),
            arriving.eq(self._lanes(self.second_port.read_data, lane)),
            w_words.w_data.eq(
                Mux(self.second_port.read_valid, arriving, self.weight_port.read_data)
            ),
            w_words.w_en.eq(self.second_port.read_valid | self.weight_port.read_valid),
        ]

        # What the array is fed: the oldest command of `tiles`.
        m.d.comb += self.tile.eq(tiles.r_data)
        depth = field(tiles.r_data, "matmul", "depth")
        unsigned = field(tiles.r_data, "matmul", "unsigned")
        half = Signal()
        words_fed = Signal(16)
        fed = Signal()
        ends = Signal()
        m.d.comb += [
            ends.eq(half & (words_fed + 1 == depth)),
            fed.eq(tiles.r_rdy & a_words.r_rdy & w_words.r_rdy & (~ends | self.drain_free)),
            a_words.r_en.eq(fed & half),
            w_words.r_en.eq(fed & half),
            tiles.r_en.eq(fed & ends),
            self.last.eq(fed & ends),
        ]
        with m.If(fed):
            m.d.sync += half.eq(~half)
            with m.If(half):
                m.d.sync += words_fed.eq(Mux(ends, 0, words_fed + 1))
        for row in range(self.rows):
            byte = self._byte(a_words.r_data, row, half)
            extended = Cat(byte, byte[-1] & ~unsigned)
            m.d.comb += self.activations.word_select(row, 9).eq(Mux(fed, extended, 0))
        for column in range(self.columns):
            byte = self._byte(w_words.r_data, column, half)
            m.d.comb += self.weights.word_select(column, 8).eq(byte)
        return m

    def _reader(
        self, m: Module, name: str, taken: Signal, address_field: str, words: RegisterQueue
    ) -> tuple[Signal, Signal]:
        """Counts one operand's reads; (words left, whether the next may be asked for)."""
        left = Signal(16, name=f"{name}_left")
        address = Signal(16, name=f"{name}_address")
        asked = Signal(name=f"{name}_asked")  # a read whose word is under way
        ready = Signal(name=f"{name}_ready")
        ports = [self.activation_port] if name == "a" else [self.weight_port, self.second_port]
        served = Signal(name=f"{name}_served")
        m.d.comb += [
            ready.eq((left != 0) & (words.level + asked < AHEAD)),
            served.eq(Cat(*(port.valid & port.ready for port in ports)).any()),
        ]
        m.d.comb += [port.address.eq(address) for port in ports]
        m.d.sync += asked.eq(served)
        with m.If(taken):
            m.d.sync += [
                left.eq(field(self.command.payload, "matmul", "depth")),
                address.eq(field(self.command.payload, "matmul", address_field)),
            ]
        with m.Elif(served):
            m.d.sync += [left.eq(left - 1), address.eq(address + 1)]
        return left, ready

    def _lanes(self, word: Signal, lane: Signal) -> Value:
        """Lanes from `lane` on as columns; columns beyond the last lane are 0."""
        if self.columns >= self.rows:
            return word
        parts = self.rows // self.columns
        index = lane[(self.columns - 1).bit_length() :][: (parts - 1).bit_length()]
        return word.word_select(index, 16 * self.columns)

    def _byte(self, words: Signal, lane: int, half: Signal) -> Value:
        word = words.word_select(lane, 16)
        return Mux(half, word[8:], word[:8])
