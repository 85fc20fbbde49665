"""The drain: sums out of the array, through bias and requantizers, to the store stream."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.cells import Cells
from hwlib.config import AcceleratorConfig
from hwlib.cycles import Timings
from hwlib.isa import row_beats

CHANNEL_BITS = 54
"""One column of the channel table: bias 32, multiplier 16, shift 6."""


class Drain(wiring.Component):
    """Empties the array row by row, the bottom one first; sends the lowest `rows` of them.

    `start` in one cycle, from the next on rows move whenever the one on offer has been sent: the
    whole path (array, bias adder, requantizers) advances together or stands still, so nothing is
    buffered a second time. `done` is high in the cycle in which the last beat leaves. Two beats of
    output buffer cut the path from `store.ready`.

    Args:
        config: The core's knobs.
        timings: Latency of the requantizer.
        cells: Makes the requantizers.
    """

    def __init__(self, config: AcceleratorConfig, timings: Timings, cells: Cells) -> None:
        self.rows_max = config.array.rows
        self.columns = config.array.columns
        self.beat_bits = 8 * config.dma.bytes_per_cycle
        self.beats = {"int8": row_beats("int8", config), "int32": row_beats("int32", config)}
        self.latency = timings["requantizer"].latency
        self.cells = cells
        super().__init__(
            {
                "start": In(1),
                "rows": In(range(self.rows_max + 1)),
                "int32": In(1),
                "zero_point": In(signed(8)),
                "channels": In(CHANNEL_BITS * self.columns),
                "sums": In(32 * self.columns),
                "shift": Out(1),
                "done": Out(1),
                "busy": Out(1),
                "store": Out(stream.Signature(self.beat_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.buffer = buffer = StoreBuffer(self.beat_bits)
        advance = Signal()
        biased = [Signal(32, name=f"biased_{column}") for column in range(self.columns)]
        results = [Signal(8, name=f"result_{column}") for column in range(self.columns)]
        m.d.comb += self.busy.eq(self.store.valid)
        wiring.connect(m, buffer.store, wiring.flipped(self.store))

        # Which rows are under way.
        shifts_left = Signal(range(self.rows_max + 1))
        unsent = Signal(range(self.rows_max + 1))  # rows that still have to go out
        shipped = Signal()  # the row that enters is one of those that are sent
        m.d.comb += [
            self.shift.eq((shifts_left != 0) & advance),
            shipped.eq(shifts_left <= unsent),
        ]
        valid = Signal(1 + self.latency)  # bit 0: `biased`; bit i: after i requantizer stages
        with m.If(advance):
            m.d.sync += valid.eq(
                Cat(self.shift & shipped, Mux(self.int32, 0, valid[: self.latency]))
            )
        with m.If(self.shift):
            m.d.sync += shifts_left.eq(shifts_left - 1)

        # Columns.
        for column in range(self.columns):
            channel = self.channels.word_select(column, CHANNEL_BITS)
            total = self.sums.word_select(column, 32) + channel[:32]
            with m.If(self.shift):
                m.d.sync += biased[column].eq(total)
            m.submodules[f"requantizer_{column}"] = self.cells(
                "requantizer",
                {
                    "enable": advance,
                    "acc": biased[column].as_signed(),
                    "multiplier": channel[32:48],
                    "shift": channel[48:54],
                    "zero_point": self.zero_point,
                },
                {"y": results[column]},
            )

        # Beats.
        beat = Signal(range(max(2, *self.beats.values())))
        last_beat = Signal()
        on_offer = Signal()
        finished = Signal()
        m.d.comb += [
            on_offer.eq(Mux(self.int32, valid[0], valid[self.latency])),
            last_beat.eq(beat == Mux(self.int32, self.beats["int32"] - 1, self.beats["int8"] - 1)),
            finished.eq(on_offer & last_beat & buffer.ready),
            advance.eq(~on_offer | (last_beat & buffer.ready)),
            buffer.valid.eq(on_offer),
            buffer.payload.eq(
                Mux(self.int32, self._beat(Cat(biased), beat), self._beat(Cat(results), beat))
            ),
            self.done.eq(finished & (unsent == 1)),
        ]
        with m.If(on_offer & buffer.ready):
            m.d.sync += beat.eq(Mux(last_beat, 0, beat + 1))
        with m.If(finished):
            m.d.sync += unsent.eq(unsent - 1)
        with m.If(self.start):
            m.d.sync += [shifts_left.eq(self.rows_max), unsent.eq(self.rows)]
        return m

    def _beat(self, row: Value, beat: Signal) -> Value:
        """Beat number `beat` of a row, padded with zeros."""
        beats = -(-len(row) // self.beat_bits)
        padded = Cat(row, Const(0, beats * self.beat_bits - len(row)))
        index = beat[: (beats - 1).bit_length()]
        return padded if beats == 1 else padded.word_select(index, self.beat_bits)


class StoreBuffer(wiring.Component):
    """Two beats of buffer; `ready` depends on its own registers alone. Latency 1, one a cycle.

    Args:
        width: Bits of a beat.
    """

    def __init__(self, width: int) -> None:
        super().__init__(
            {
                "valid": In(1),
                "ready": Out(1),
                "payload": In(width),
                "store": Out(stream.Signature(width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spare = Signal.like(self.payload)
        spare_full = Signal()
        free = ~self.store.valid | self.store.ready
        m.d.comb += self.ready.eq(~spare_full)
        with m.If(free):
            m.d.sync += [
                self.store.valid.eq(spare_full | self.valid),
                self.store.payload.eq(Mux(spare_full, spare, self.payload)),
                spare_full.eq(0),
            ]
        with m.Elif(self.valid & ~spare_full):
            m.d.sync += [spare.eq(self.payload), spare_full.eq(1)]
        return m
