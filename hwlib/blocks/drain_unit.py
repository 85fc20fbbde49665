"""The drain of the array: sums through bias and rescalers into the activation memory."""

from collections.abc import Callable
from typing import get_args

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.banked_memory import ADDRESS_BITS, MemoryPort
from hwlib.blocks.cells import Cells, shared
from hwlib.blocks.drain_lane import DRAIN_LANE, FORM_BITS, Form
from hwlib.blocks.fields import field, lanes_chosen
from hwlib.commands import MatmulOutput, ScaleBy
from hwlib.config import ENTRY_BITS, CoreConfig
from hwlib.unit_latencies import UnitLatencies


class DrainUnit(wiring.Component):
    """Takes the sums of one tile after another, column by column.

    `start` in the cycle of a tile's last operands brings its command; the drain then is busy until
    the last word is written, and `done` is high in that cycle. It reads the first entry while the
    array finishes its sums. The whole path (bias adder, rescalers) advances together or stands
    still while the memory port is not served.

    Args:
        config: The core's knobs.
        command_bits: Bits of a matmul command.
        cells: Makes the lanes.
        latencies: Of the rescaler.
    """

    def __init__(
        self, config: CoreConfig, command_bits: int, cells: Cells, latencies: UnitLatencies
    ) -> None:
        self.latencies = latencies
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
                "sums": In(32 * config.rows),
                "sums_valid": In(1),
                "sums_ready": Out(1),
                "port": Out(MemoryPort(16 * config.rows)),
                "entry_read": Out(1),
                "entry_address": Out(ADDRESS_BITS),
                "entry": In(ENTRY_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tile = Signal(self.command_bits)
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
        valid = Signal(1 + self.latencies.rescaler)
        advance, enters, taken, last = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            advance.eq(~valid[-1] | taken),
            self.sums_ready.eq(running & (entering != columns) & advance),
            enters.eq(self.sums_ready & self.sums_valid),
            last.eq(leaving + 1 == columns),
        ]
        with m.If(advance):
            m.d.sync += valid.eq(Cat(enters, valid[:-1]))
        with m.If(enters):
            m.d.sync += entering.eq(entering + 1)
        with m.If(taken):
            m.d.sync += leaving.eq(leaving + 1)

        lane_index = Signal(6)
        self._lanes(m, of, advance, by_lane, outputs["accumulate"], lane_index)
        self._write(m, of, outputs, valid[-1], leaving, last, taken)

        # The entry of the column that enters is at the table's output; the next is asked for.
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.free.eq(1)
                m.d.sync += [entering.eq(0), leaving.eq(0), lane_index.eq(0)]
                with m.If(self.start):
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
                    self.keeping.eq(1),
                    self.entry_read.eq(1),
                    self.entry_address.eq(of("channel") + lane_index + 1),
                ]
                m.d.sync += lane_index.eq(lane_index + 1)
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
                m.d.comb += self.set_alpha.eq(1)
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

    def _lanes(
        self,
        m: Module,
        of: Callable[[str], Value],
        advance: Signal,
        by_lane: Value,
        accumulate: Signal,
        lane_index: Signal,
    ) -> None:
        """The lanes, which all do the same but for the entry that each keeps."""
        self.keeping = Signal()  # the table gives the entry of lane `lane_index`
        self.set_alpha, self.set_low, self.set_high = Signal(), Signal(), Signal()
        self.set_byte, self.compare, self.restart = Signal(), Signal(), Signal()
        self.index, self.odd, self.form = Signal(16), Signal(), Signal(FORM_BITS)
        inputs = shared(
            m,
            {
                "advance": advance,
                "by_lane": by_lane,
                "accumulate": accumulate,
                "zero": of("zero_point"),
                "first": of("first"),
                "set_alpha": self.set_alpha,
                "set_low": self.set_low,
                "set_high": self.set_high,
                "set_byte": self.set_byte,
                "compare": self.compare,
                "restart": self.restart,
                "index": self.index,
                "odd": self.odd,
                "form": self.form,
            },
        )
        for row in range(self.rows):
            m.submodules[f"lane_{row}"] = self.cells(
                DRAIN_LANE,
                {
                    **inputs,
                    "sum": self.sums.word_select(row, 32),
                    "entry": self.entry,
                    "keep": self.keeping & (lane_index == row),
                    "word": self.port.read_data.word_select(row, 16),
                },
                {"data": self.port.write_data.word_select(row, 16)},
            )

    def _write(
        self,
        m: Module,
        of: Callable[[str], Value],
        outputs: dict[str, Signal],
        valid: Signal,
        column: Signal,
        last: Signal,
        taken: Signal,
    ) -> None:
        """The memory port: each result is one, two or five accesses, or none."""
        phase = Signal(range(6))
        place = Signal(7)
        m.d.comb += place.eq(of("first_half") + column)

        port = self.port
        wide = Signal()  # both halves of an int32
        m.d.comb += wide.eq(outputs["int32"] | outputs["accumulate"])
        reads = Signal()  # the word that is there comes into the result
        m.d.comb += reads.eq(outputs["residual"] | (outputs["accumulate"] & ~of("first")))
        odd = place[0]
        m.d.comb += self.odd.eq(odd)
        bytes_written = Signal(2)  # of each lane that is written
        first_byte = (column == 0) & odd
        m.d.comb += bytes_written.eq(Mux(outputs["int8"], Cat(~first_byte, odd), 3))
        chosen = lanes_chosen(m, of("masked"), of("lane"), self.rows)
        m.d.comb += port.mask.eq(Cat(*(Mux(mine, bytes_written, 0) for mine in chosen)))

        def written(then: Value | int) -> None:
            with m.If(port.ready):
                m.d.sync += phase.eq(then)

        with m.If(valid):
            with m.If(outputs["argmax"]):
                self._argmax(m, of, column, last, phase, taken)
            with m.Elif(reads & (phase == 0)):
                m.d.comb += [
                    port.valid.eq(1),
                    port.address.eq(of("out") + Mux(wide, column << 1, column)),
                ]
                written(1)
            with m.Elif(reads & (phase == 1)), m.If(port.read_valid):
                # The word arrives in this cycle, and in no other.
                m.d.comb += self.set_low.eq(1)
                m.d.sync += phase.eq(Mux(wide, 2, 4))
            with m.Elif(reads & (phase == 2)):
                m.d.comb += [
                    port.valid.eq(1),
                    port.address.eq(of("out") + (column << 1) + 1),
                ]
                written(3)
            with m.Elif(reads & (phase == 3)), m.If(port.read_valid):
                m.d.comb += self.set_high.eq(1)
                m.d.sync += phase.eq(4)
            with m.Elif(wide):
                high = phase == 5
                m.d.comb += [
                    port.valid.eq(1),
                    port.write.eq(1),
                    port.address.eq(of("out") + (column << 1) + high),
                    self.form.eq(Mux(high, Form.HIGH, Form.LOW)),
                    taken.eq(high & port.ready),
                ]
                written(Mux(high, 0, 5))
            with m.Elif(outputs["int8"]):
                pairs = odd | last
                m.d.comb += [
                    port.valid.eq(pairs),
                    port.write.eq(1),
                    port.address.eq(of("out") + place[1:]),
                    self.form.eq(Form.BYTES),
                    self.set_byte.eq(~odd),
                    taken.eq(~pairs | port.ready),
                ]
            with m.Else():
                m.d.comb += [
                    port.valid.eq(1),
                    port.write.eq(1),
                    port.address.eq(of("out") + column),
                    self.form.eq(Mux(outputs["residual"], Form.SUM, Form.SHORT)),
                    taken.eq(port.ready),
                ]
                written(0)
        m.d.comb += self.done.eq(taken & last)

    def _argmax(
        self,
        m: Module,
        of: Callable[[str], Value],
        column: Signal,
        last: Signal,
        phase: Signal,
        taken: Signal,
    ) -> None:
        """Keeps the first greatest value of each lane; the index is written with the last one."""
        port = self.port
        m.d.comb += [
            self.compare.eq(phase == 0),
            self.restart.eq(of("first") & (column == 0)),
            self.index.eq(of("index_base") + column),
        ]
        with m.If(phase == 0):
            m.d.comb += taken.eq(~last)
            with m.If(last):
                m.d.sync += phase.eq(1)
        with m.Else():
            m.d.comb += [
                port.valid.eq(1),
                port.write.eq(1),
                port.address.eq(of("out")),
                self.form.eq(Form.INDEX),
                taken.eq(port.ready),
            ]
            with m.If(port.ready):
                m.d.sync += phase.eq(0)
