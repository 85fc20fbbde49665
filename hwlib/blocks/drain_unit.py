"""The drain of the array: sums through bias and rescalers into the activation memory."""

from collections.abc import Callable
from typing import get_args

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.banked_memory import ADDRESS_BITS, MemoryPort
from hwlib.blocks.cells import Cells
from hwlib.blocks.fields import field
from hwlib.commands import MatmulOutput, ScaleBy
from hwlib.core_config import CoreConfig

ENTRY_BITS = 64
"""One entry of a channel table: bias 32, multiplier 16, shift 6, and 10 bits that are ignored."""

RESCALER_LATENCY = 4
"""Enabled cycles from a sum at the rescaler to its result."""

MAC_LATENCY = 2
"""Cycles from operands at the array to their effect on what `capture` takes."""


class DrainUnit(wiring.Component):
    """Takes the sums of one tile after another, column by column.

    `start` in the cycle of a tile's last operands brings its command; the drain then is busy until
    the last word is written, and `done` is high in that cycle. The whole path (bias adder,
    rescalers) advances together or stands still while the memory port is not served.

    Args:
        config: The core's knobs.
        command_bits: Bits of a matmul command.
        cells: Makes the rescalers.
    """

    def __init__(self, config: CoreConfig, command_bits: int, cells: Cells) -> None:
        self.rows = config.rows
        self.columns = config.columns
        self.command_bits = command_bits
        self.cells = cells
        super().__init__(
            {
                "start": In(1),
                "command": In(command_bits),
                "free": Out(1),
                "done": Out(1),
                "capture": Out(1),
                "shift": Out(1),
                "sums": In(32 * config.rows),
                "port": Out(MemoryPort(16 * config.rows)),
                "entry_read": Out(1),
                "entry_address": Out(ADDRESS_BITS),
                "entry": In(ENTRY_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tile = Signal(self.command_bits)
        waiting = Signal(MAC_LATENCY)
        m.d.sync += waiting.eq(Cat(self.start, waiting[:-1]))
        m.d.comb += self.capture.eq(waiting[-1])
        with m.If(self.start):
            m.d.sync += tile.eq(self.command)

        def of(name: str) -> Value:
            return field(tile, "matmul", name)

        outputs = {name: Signal(name=f"is_{name}") for name in get_args(MatmulOutput)}
        m.d.comb += [signal.eq(of("output") == at) for at, signal in enumerate(outputs.values())]
        by_lane = of("scale_by") == get_args(ScaleBy).index("lane")
        by_column = of("scale_by") == get_args(ScaleBy).index("column")
        columns = of("columns")

        running = Signal()
        entering = Signal(6)  # column at the array's end
        leaving = Signal(6)  # column at the rescalers' end
        valid = Signal(1 + RESCALER_LATENCY)
        advance, enters, taken, last = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            advance.eq(~valid[-1] | taken),
            enters.eq(running & (entering != columns) & advance),
            self.shift.eq(enters),
            last.eq(leaving + 1 == columns),
        ]
        with m.If(advance):
            m.d.sync += valid.eq(Cat(enters, valid[:-1]))
        with m.If(enters):
            m.d.sync += entering.eq(entering + 1)
        with m.If(taken):
            m.d.sync += leaving.eq(leaving + 1)

        scaled = self._path(m, of, outputs["accumulate"], by_lane, advance)
        alpha = Signal(5 * self.rows)
        self._write(m, of, outputs, scaled, valid[-1], leaving, last, alpha, taken)

        # The entry of the column that enters is at the table's output; the next is asked for.
        lane_index = Signal(6)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.free.eq(~waiting.any())
                m.d.sync += [entering.eq(0), leaving.eq(0), lane_index.eq(0)]
                with m.If(waiting[-1]):
                    m.next = "ENTRY"
            with m.State("ENTRY"):
                m.d.comb += [self.entry_read.eq(1), self.entry_address.eq(of("channel"))]
                with m.If(outputs["accumulate"] & ~of("first")):
                    m.next = "ALPHA"
                with m.Elif(by_lane & ~outputs["accumulate"]):
                    m.next = "LANES"
                with m.Else():
                    m.next = "RUN"
            with m.State("LANES"):
                m.d.comb += [
                    self.entry_read.eq(1),
                    self.entry_address.eq(of("channel") + lane_index + 1),
                ]
                m.d.sync += lane_index.eq(lane_index + 1)
                with m.Switch(lane_index):
                    for lane, kept in enumerate(self._lane_entries):
                        with m.Case(lane):
                            m.d.sync += kept.eq(self.entry)
                with m.If(lane_index == self.rows - 1):
                    m.next = "RUN"
            with m.State("ALPHA"):
                m.d.comb += [
                    self.port.valid.eq(1),
                    self.port.address.eq(of("alpha_address")),
                ]
                with m.If(self.port.ready):
                    m.next = "ALPHA_WORD"
            with m.State("ALPHA_WORD"):
                for row in range(self.rows):
                    word = self.port.read_data.word_select(row, 16)
                    m.d.sync += alpha.word_select(row, 5).eq(word[:5])
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [
                    running.eq(1),
                    self.entry_read.eq(enters & by_column),
                    self.entry_address.eq(of("channel") + entering + 1),
                ]
                with m.If(self.done):
                    m.next = "IDLE"
        return m

    def _path(
        self, m: Module, of: Callable[[str], Value], raw: Signal, by_lane: Value, advance: Signal
    ) -> list[Signal]:
        """Bias adders and rescalers, one a lane; what they give, int32 each."""
        self._lane_entries = [
            Signal(ENTRY_BITS, name=f"lane_entry_{row}") for row in range(self.rows)
        ]
        nothing = Const(2 << 32 | 1 << 48, ENTRY_BITS)  # (2 sum + 1) >> 1 is the sum itself
        scaled = []
        for row, kept in enumerate(self._lane_entries):
            entry = Mux(raw, nothing, Mux(by_lane, kept, self.entry))
            biased = Signal(signed(32), name=f"biased_{row}")
            factor = Signal(22, name=f"factor_{row}")
            result = Signal(signed(32), name=f"scaled_{row}")
            with m.If(advance):
                m.d.sync += [
                    biased.eq(self.sums.word_select(row, 32) + entry[:32]),
                    factor.eq(entry[32:54]),
                ]
            m.submodules[f"rescaler_{row}"] = self.cells(
                "rescaler",
                {
                    "enable": advance,
                    "acc": biased,
                    "multiplier": factor[:16],
                    "shift": factor[16:],
                },
                {"y": result},
            )
            scaled.append(result)
        return scaled

    def _write(
        self,
        m: Module,
        of: Callable[[str], Value],
        outputs: dict[str, Signal],
        scaled: list[Signal],
        valid: Signal,
        column: Signal,
        last: Signal,
        alpha: Signal,
        taken: Signal,
    ) -> None:
        """The memory port: each result is one, two or five accesses, or none."""
        zero = of("zero_point").as_signed()
        chosen = [~of("masked") | (of("lane") == row) for row in range(self.rows)]
        old = Signal(32 * self.rows)
        low_bytes = Signal(8 * self.rows)
        phase = Signal(range(6))
        place = Signal(7)
        m.d.comb += place.eq(of("first_half") + column)

        bytes_, shorts, sums, totals = [], [], [], []
        for row, value in enumerate(scaled):
            moved = Signal(signed(33), name=f"moved_{row}")
            m.d.comb += moved.eq(value + zero)
            bytes_.append(_saturated(m, moved, 8, f"byte_{row}"))
            shorts.append(_saturated(m, moved, 16, f"short_{row}"))
            before = old.word_select(row, 32)
            added = Signal(signed(18), name=f"added_{row}")
            alone = _saturated(m, value, 16, f"alone_{row}")
            m.d.comb += added.eq(before[:16].as_signed() + alone.as_signed())
            sums.append(_saturated(m, added, 16, f"sum_{row}"))
            total = Signal(32, name=f"total_{row}")
            kept = before.as_signed() >> alpha.word_select(row, 5)
            m.d.comb += total.eq(Mux(of("first"), value, kept + value))
            totals.append(total)

        port = self.port
        wide = Signal()  # both halves of an int32
        m.d.comb += wide.eq(outputs["int32"] | outputs["accumulate"])
        reads = Signal()  # the word that is there comes into the result
        m.d.comb += reads.eq(outputs["residual"] | (outputs["accumulate"] & ~of("first")))
        halves = [
            Mux(outputs["accumulate"], total, value.as_unsigned())
            for total, value in zip(totals, scaled, strict=True)
        ]
        odd = place[0]
        word8 = Cat(
            *(
                Cat(Mux(odd, low_bytes.word_select(row, 8), byte), byte)
                for row, byte in enumerate(bytes_)
            )
        )
        first_byte = (column == 0) & odd
        mask8 = Cat(*(Cat(mine & ~first_byte, mine & odd) for mine in chosen))
        mask16 = Cat(*(Cat(mine, mine) for mine in chosen))
        m.d.comb += port.mask.eq(Mux(outputs["int8"], mask8, mask16))

        def written(then: Value | int) -> None:
            with m.If(port.ready):
                m.d.sync += phase.eq(then)

        with m.If(valid):
            with m.If(outputs["argmax"]):
                self._argmax(m, of, scaled, column, last, phase, taken)
            with m.Elif(reads & (phase == 0)):
                m.d.comb += [
                    port.valid.eq(1),
                    port.address.eq(of("out") + Mux(wide, column << 1, column)),
                ]
                written(1)
            with m.Elif(reads & (phase == 1)), m.If(port.read_valid):
                # The word arrives in this cycle, and in no other.
                for row in range(self.rows):
                    m.d.sync += old.word_select(row, 32)[:16].eq(
                        port.read_data.word_select(row, 16)
                    )
                m.d.sync += phase.eq(Mux(wide, 2, 4))
            with m.Elif(reads & (phase == 2)):
                m.d.comb += [
                    port.valid.eq(1),
                    port.address.eq(of("out") + (column << 1) + 1),
                ]
                written(3)
            with m.Elif(reads & (phase == 3)), m.If(port.read_valid):
                for row in range(self.rows):
                    m.d.sync += old.word_select(row, 32)[16:].eq(
                        port.read_data.word_select(row, 16)
                    )
                m.d.sync += phase.eq(4)
            with m.Elif(wide):
                high = phase == 5
                m.d.comb += [
                    port.valid.eq(1),
                    port.write.eq(1),
                    port.address.eq(of("out") + (column << 1) + high),
                    port.write_data.eq(
                        Cat(*(Mux(high, value[16:], value[:16]) for value in halves))
                    ),
                    taken.eq(high & port.ready),
                ]
                written(Mux(high, 0, 5))
            with m.Elif(outputs["int8"]):
                pairs = odd | last
                m.d.comb += [
                    port.valid.eq(pairs),
                    port.write.eq(1),
                    port.address.eq(of("out") + place[1:]),
                    port.write_data.eq(word8),
                    taken.eq(~pairs | port.ready),
                ]
                with m.If(~odd):
                    m.d.sync += low_bytes.eq(Cat(*bytes_))
            with m.Else():
                values = zip(sums, shorts, strict=True)
                m.d.comb += [
                    port.valid.eq(1),
                    port.write.eq(1),
                    port.address.eq(of("out") + column),
                    port.write_data.eq(
                        Cat(*(Mux(outputs["residual"], s, short) for s, short in values))
                    ),
                    taken.eq(port.ready),
                ]
                written(0)
        m.d.comb += self.done.eq(taken & last)

    def _argmax(
        self,
        m: Module,
        of: Callable[[str], Value],
        scaled: list[Signal],
        column: Signal,
        last: Signal,
        phase: Signal,
        taken: Signal,
    ) -> None:
        """Keeps the first greatest value of each lane; the index is written with the last one."""
        port = self.port
        indices = []
        for row, value in enumerate(scaled):
            best = Signal(signed(32), name=f"best_{row}")
            index = Signal(16, name=f"best_index_{row}")
            indices.append(index)
            fresh = of("first") & (column == 0)
            with m.If((phase == 0) & (fresh | (value > best))):
                m.d.sync += [best.eq(value), index.eq(of("index_base") + column)]
        with m.If(phase == 0):
            m.d.comb += taken.eq(~last)
            with m.If(last):
                m.d.sync += phase.eq(1)
        with m.Else():
            m.d.comb += [
                port.valid.eq(1),
                port.write.eq(1),
                port.address.eq(of("out")),
                port.write_data.eq(Cat(*indices)),
                taken.eq(port.ready),
            ]
            with m.If(port.ready):
                m.d.sync += phase.eq(0)


def _saturated(m: Module, value: Signal, bits: int, name: str) -> Signal:
    """`value` clipped to two's complement of `bits` bits, as an unsigned signal of that width."""
    result = Signal(bits, name=name)
    sign = value[-1]
    fits = (value[bits - 1 :] == 0) | value[bits - 1 :].all()
    m.d.comb += result.eq(Mux(fits, value[:bits], Cat((~sign).replicate(bits - 1), sign)))
    return result
