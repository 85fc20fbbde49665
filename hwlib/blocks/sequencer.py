"""The sequencer: takes commands in order and schedules the blocks."""

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwlib.config import AcceleratorConfig
from hwlib.cycles import Timings
from hwlib.isa import COMMAND_BITS, FIELDS, OPCODES


class Sequencer(wiring.Component):
    """Runs one command at a time; `command.ready` is high while it is idle.

    A load starts the gearbox and counts the address up with every word. A matmul reads one pair of
    words a cycle, waits until the last product is in the array's sums, and starts the drain.
    There is no hazard to check: the next command begins after the last access of the one before.

    Args:
        config: The core's knobs.
        timings: Latency of the element.
    """

    def __init__(self, config: AcceleratorConfig, timings: Timings) -> None:
        # From the last read to the first cycle with every sum complete: one cycle of SRAM, one of
        # skew register, the way to the far corner, the element; less the one the drain begins in.
        self.settle = config.array.rows + config.array.columns - 1 + timings["element"].latency
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND_BITS)),
                "busy": Out(1),
                # Fields of the command under way.
                "opcode": Out(2),
                "packing": Out(2),
                "rows": Out(5),
                "int32": Out(1),
                "zero_point": Out(signed(8)),
                "address": Out(14),
                "weight_address": Out(14),
                # Load path.
                "load_start": Out(1),
                "load_write": In(1),
                "load_done": In(1),
                # Array and drain.
                "read": Out(1),
                "drain_start": Out(1),
                "drain_done": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = Signal(FIELDS["count"][1])
        settle = Signal(range(self.settle + 1))
        drain = Signal()
        idle = Signal()
        m.d.comb += [self.command.ready.eq(idle), self.busy.eq(~idle)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                m.d.sync += [
                    self.opcode.eq(self._field("opcode")),
                    self.packing.eq(self._field("packing")),
                    self.rows.eq(self._field("rows")),
                    drain.eq(self._field("drain")),
                    self.int32.eq(self._field("int32")),
                    self.zero_point.eq(self._field("zero_point")),
                    self.address.eq(self._field("address")),
                    self.weight_address.eq(self._field("weight_address")),
                    count.eq(self._field("count")),
                    settle.eq(self.settle - 1),
                ]
                with m.If(self.command.valid):
                    with m.If(self._field("opcode") == OPCODES["matmul"]):
                        m.next = "STREAM"
                    with m.Else():
                        m.d.comb += self.load_start.eq(1)
                        m.next = "LOAD"
            with m.State("LOAD"):
                with m.If(self.load_write):
                    m.d.sync += self.address.eq(self.address + 1)
                with m.If(self.load_done):
                    m.next = "IDLE"
            with m.State("STREAM"):
                m.d.comb += self.read.eq(1)
                m.d.sync += [
                    self.address.eq(self.address + 1),
                    self.weight_address.eq(self.weight_address + 1),
                    count.eq(count - 1),
                ]
                with m.If(count == 1):
                    with m.If(drain):
                        m.next = "SETTLE"
                    with m.Else():
                        m.next = "IDLE"
            with m.State("SETTLE"):
                m.d.sync += settle.eq(settle - 1)
                with m.If(settle == 0):
                    m.d.comb += self.drain_start.eq(1)
                    m.next = "DRAIN"
            with m.State("DRAIN"), m.If(self.drain_done):
                m.next = "IDLE"
        return m

    def _field(self, name: str) -> Value:
        low, width = FIELDS[name]
        return self.command.payload[low : low + width]
