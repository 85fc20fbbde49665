"""The dispatcher: commands in program order to four queues, and the counts they wait for."""

from collections.abc import Mapping

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.fields import field
from hwlib.blocks.queue import RegisterQueue
from hwlib.commands import (
    COMMAND_BITS,
    KINDS,
    QUEUES,
    WAIT_BITS,
    Queue,
    command_bits,
    layout,
    queue_of_kind,
)
from hwlib.config import CoreConfig


class Dispatcher(wiring.Component):
    """Holds up to `queue_depth` commands a queue; a full queue holds up those behind.

    A queue offers its head in `<queue>` (valid/ready stream) once the counts that it waits for are
    reached; `<queue>_done` is high for one cycle when a command of the queue is complete. `busy` is
    low when every command taken is complete.

    Args:
        config: The core's knobs.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.depth = config.queue_depth
        self.bits = {queue: command_bits(queue, config) for queue in QUEUES}
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND_BITS)),
                "busy": Out(1),
                **{queue: Out(stream.Signature(bits)) for queue, bits in self.bits.items()},
                **{f"{queue}_done": In(1) for queue in QUEUES},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        done = {queue: Signal(WAIT_BITS, name=f"done_{queue}") for queue in QUEUES}
        under_way = {queue: Signal(8, name=f"under_way_{queue}") for queue in QUEUES}
        opcode = self.command.payload[: layout("load")["opcode"][1]]
        for queue in QUEUES:
            mine = Signal(name=f"is_{queue}")
            opcodes = [at for at, kind in enumerate(KINDS) if queue_of_kind(kind) == queue]
            with m.Switch(opcode), m.Case(*opcodes):
                m.d.comb += mine.eq(1)
            fifo = RegisterQueue(width=self.bits[queue], depth=self.depth)
            m.submodules[f"queue_{queue}"] = fifo
            head = getattr(self, queue)
            m.d.comb += [
                fifo.w_data.eq(self.command.payload[: self.bits[queue]]),
                fifo.w_en.eq(mine & self.command.valid),
                head.payload.eq(fifo.r_data),
                head.valid.eq(fifo.r_rdy & self._reached(m, queue, fifo.r_data, done)),
                fifo.r_en.eq(head.valid & head.ready),
            ]
            with m.If(mine):
                m.d.comb += self.command.ready.eq(fifo.w_rdy)
            finished = Signal(name=f"finished_{queue}")
            m.d.sync += finished.eq(getattr(self, f"{queue}_done"))
            taken = fifo.w_en & fifo.w_rdy
            m.d.sync += [
                done[queue].eq(done[queue] + finished),
                under_way[queue].eq(under_way[queue] + taken - finished),
            ]
        m.d.comb += self.busy.eq(sum(count.any() for count in under_way.values()) != 0)
        return m

    def _reached(self, m: Module, queue: str, head: Signal, done: Mapping[Queue, Signal]) -> Signal:
        """Whether every count that the head of `queue` waits for is reached, modulo 2^16."""
        reached = Signal(name=f"reached_{queue}")
        missing = []
        for other in QUEUES:
            waits = field(head, queue, f"waits_{other}")
            ahead = Signal(WAIT_BITS, name=f"ahead_{queue}_{other}")
            m.d.comb += ahead.eq(done[other] - field(head, queue, f"wait_{other}"))
            missing.append(waits & ahead[-1])
        m.d.comb += reached.eq(~(missing[0] | missing[1] | missing[2] | missing[3]))
        return reached
