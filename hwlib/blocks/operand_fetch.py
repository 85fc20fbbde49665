"""Operand fetch: words of two memories in, one pair of operands a cycle to the array."""

from typing import get_args

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.banked_memory import MemoryPort
from hwlib.blocks.fields import field
from hwlib.blocks.outer_product import MODE_BITS, operand_bits
from hwlib.blocks.queue import RegisterQueue
from hwlib.commands import Precision
from hwlib.config import CoreConfig

TILES_AHEAD = 2
"""Commands whose operands are read before their tile ends."""

WORDS_AHEAD = 2
"""Words of each operand that are read ahead where a word feeds two cycles."""

WORDS_AHEAD_COMPOSABLE = 3
"""The same where a word may feed one cycle: one that is fed, one that arrives, one that is asked
for."""


class OperandFetch(wiring.Component):
    """Reads both operands of each tile, and feeds the array word by word.

    At 8x8 a word feeds two cycles, its low bytes and then its high bytes. At 8x4 a word of the
    activations feeds one cycle and a word of the weights two; at 4x4 both feed one. Words are read
    at that pace, of one tile after the other. A pair is `valid` where both words are there, and
    stays until the array is `ready`. With the last pair of a tile `last` is high and the tile's
    command is at `tile`; that pair waits until `drain_free`, and `start` is high when it is taken.

    Composable elements get their operands as `hwlib.units.composable_mac` takes them, with `mode`.

    Args:
        config: The core's knobs.
        command_bits: Bits of a matmul command.
    """

    def __init__(self, config: CoreConfig, command_bits: int) -> None:
        self.rows, self.columns = config.rows, config.columns
        self.composable = config.composable
        self.words_ahead = WORDS_AHEAD_COMPOSABLE if config.composable else WORDS_AHEAD
        self.command_bits = command_bits
        self.activation_bits, self.weight_bits = operand_bits(config.composable)
        activation, weight = MemoryPort(16 * config.rows), MemoryPort(16 * config.columns)
        super().__init__(
            {
                "command": In(stream.Signature(command_bits)),
                "activation_port": Out(activation),
                "weight_port": Out(weight),
                "second_port": Out(activation),
                "activations": Out(self.activation_bits * config.rows),
                "weights": Out(self.weight_bits * config.columns),
                **({"mode": Out(MODE_BITS)} if config.composable else {}),
                "valid": Out(1),
                "last": Out(1),
                "ready": In(1),
                "start": Out(1),
                "tile": Out(command_bits),
                "drain_free": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.tiles = tiles = RegisterQueue(width=self.command_bits, depth=TILES_AHEAD)
        m.submodules.a_words = a_words = RegisterQueue(16 * self.rows, self.words_ahead)
        m.submodules.w_words = w_words = RegisterQueue(16 * self.columns, self.words_ahead)

        # What is read: the command that was taken last, and from its last reads on the next one.
        from_activations = Signal()
        lane, lane_asked = Signal(5), Signal(5)
        command = self.command.payload
        taken = Signal()
        depth = field(command, "matmul", "depth")
        w_depth = depth
        if self.composable:
            halved = self._is(command, "8x4")
            w_depth = Mux(halved, (depth + 1) >> 1, depth)[:16]
        a_ready, a_ends = self._reader(m, "a", taken, "activation_address", depth, a_words)
        w_ready, w_ends = self._reader(m, "w", taken, "weight_address", w_depth, w_words)
        m.d.comb += [
            self.command.ready.eq(a_ends & w_ends & tiles.w_rdy),
            taken.eq(self.command.valid & self.command.ready),
            tiles.w_data.eq(command),
            tiles.w_en.eq(taken),
        ]
        with m.If(taken):
            m.d.sync += [
                from_activations.eq(field(command, "matmul", "weight_source")),
                lane.eq(field(command, "matmul", "weight_lane")),
            ]
        # A word arrives in the cycle after its read, when the next command may be there already.
        m.d.sync += lane_asked.eq(lane)

        # Answers. The second operand's lanes of an activation word are chosen on the way in.
        arriving = Signal(16 * self.columns)
        m.d.comb += [
            self.activation_port.valid.eq(a_ready),
            self.weight_port.valid.eq(w_ready & ~from_activations),
            self.second_port.valid.eq(w_ready & from_activations),
            a_words.w_data.eq(self.activation_port.read_data),
            a_words.w_en.eq(self.activation_port.read_valid),
            arriving.eq(self._lanes(self.second_port.read_data, lane_asked)),
            w_words.w_data.eq(
                Mux(self.second_port.read_valid, arriving, self.weight_port.read_data)
            ),
            w_words.w_en.eq(self.second_port.read_valid | self.weight_port.read_valid),
        ]

        self._feed(m, tiles, a_words, w_words)
        return m

    def _feed(
        self, m: Module, tiles: RegisterQueue, a_words: RegisterQueue, w_words: RegisterQueue
    ) -> None:
        """What the array is fed: the oldest command of `tiles`."""
        tile = tiles.r_data
        m.d.comb += self.tile.eq(tile)
        half = Signal()  # byte of the words at 8x8, of the weights at 8x4
        words_fed = Signal(16)
        fed, ends = Signal(), Signal()
        a_ends, w_ends = Signal(), Signal()  # the last that is fed of a word
        m.d.comb += [
            a_ends.eq(half),
            w_ends.eq(half | ends),
            ends.eq(a_ends & (words_fed + 1 == field(tile, "matmul", "depth"))),
            self.valid.eq(tiles.r_rdy & a_words.r_rdy & w_words.r_rdy & (~ends | self.drain_free)),
            self.last.eq(ends),
            fed.eq(self.valid & self.ready),
            a_words.r_en.eq(fed & a_ends),
            w_words.r_en.eq(fed & w_ends),
            tiles.r_en.eq(fed & ends),
            self.start.eq(fed & ends),
        ]
        if self.composable:
            m.d.comb += [
                a_ends.eq(half | ~self._is(tile, "8x8")),
                w_ends.eq(half | ends | self._is(tile, "4x4")),
            ]
        with m.If(fed):
            m.d.sync += half.eq(~w_ends)
            with m.If(a_ends):
                m.d.sync += words_fed.eq(Mux(ends, 0, words_fed + 1))
        if self.composable:
            self._composed(m, tile, a_words.r_data, w_words.r_data, half)
            return
        unsigned = field(tile, "matmul", "unsigned")
        for row in range(self.rows):
            byte = self._byte(a_words.r_data, row, half)
            extended = Cat(byte, byte[-1] & ~unsigned)
            m.d.comb += self.activations.word_select(row, 9).eq(extended)
        for column in range(self.columns):
            byte = self._byte(w_words.r_data, column, half)
            m.d.comb += self.weights.word_select(column, 8).eq(byte)

    def _composed(
        self, m: Module, tile: Value, a_words: Value, w_words: Value, half: Signal
    ) -> None:
        """Operands nibble by nibble, so that each brick of an element finds its own in place."""
        wide, narrow = self._is(tile, "8x8"), self._is(tile, "4x4")
        m.d.comb += self.mode.eq(Mux(wide, field(tile, "matmul", "unsigned"), Mux(narrow, 3, 2)))
        for row in range(self.rows):
            byte = self._byte(a_words, row, half)
            operand = Mux(wide, Cat(byte, byte), a_words.word_select(row, 16))
            m.d.comb += self.activations.word_select(row, 16).eq(operand)
        for column in range(self.columns):
            byte = self._byte(w_words, column, half)
            twice = Cat(byte[:4], byte[:4], byte[4:], byte[4:])
            operand = Mux(narrow, w_words.word_select(column, 16), twice)
            m.d.comb += self.weights.word_select(column, 16).eq(operand)

    def _is(self, command: Value, precision: Precision) -> Value:
        code = get_args(Precision).index(precision)
        return field(command, "matmul", "precision") == code

    def _reader(
        self,
        m: Module,
        name: str,
        taken: Signal,
        address_field: str,
        depth: Value,
        words: RegisterQueue,
    ) -> tuple[Signal, Signal]:
        """Counts one operand's reads; whether one may be asked for, and whether none is left."""
        left = Signal(16, name=f"{name}_left")
        address = Signal(16, name=f"{name}_address")
        asked = Signal(name=f"{name}_asked")  # a read whose word is under way
        ready = Signal(name=f"{name}_ready")
        ends = Signal(name=f"{name}_reads_end")
        ports = [self.activation_port] if name == "a" else [self.weight_port, self.second_port]
        served = Signal(name=f"{name}_served")
        m.d.comb += [
            ready.eq((left != 0) & (words.level + asked < self.words_ahead)),
            served.eq(Cat(*(port.valid & port.ready for port in ports)).any()),
            ends.eq((left == 0) | ((left == 1) & served)),
        ]
        m.d.comb += [port.address.eq(address) for port in ports]
        m.d.sync += asked.eq(served)
        with m.If(taken):
            m.d.sync += [
                left.eq(depth),
                address.eq(field(self.command.payload, "matmul", address_field)),
            ]
        with m.Elif(served):
            m.d.sync += [left.eq(left - 1), address.eq(address + 1)]
        return ready, ends

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
