"""The accelerator: commands and data in, results out, over three streams."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.array import SystolicArray
from hwlib.blocks.cells import Cells
from hwlib.blocks.drain import Drain
from hwlib.blocks.gearbox import Gearbox
from hwlib.blocks.scratchpad import Scratchpad
from hwlib.blocks.sequencer import Sequencer
from hwlib.config import AcceleratorConfig
from hwlib.cycles import Timings
from hwlib.isa import COMMAND_BITS, FIELDS


class Accelerator(wiring.Component):
    """The core: an output-stationary array with its scratchpad, sequencer and streams.

    Ports: `command` (64 bits), `load` and `store` (one DMA beat), each valid/ready; `busy` is low
    when nothing is under way. Commands run in order and do not overlap; `cycles.py` has their
    schedule. Every stream may stall at any time. Synchronous reset in any cycle empties the array
    and drops the command under way; the banks keep their contents.

    Args:
        config: The core's knobs.
        timings: Latencies of the units.
        cells: Makes units and memories.
    """

    def __init__(self, config: AcceleratorConfig, timings: Timings, cells: Cells) -> None:
        self.config = config
        self.timings = timings
        self.cells = cells
        beat_bits = 8 * config.dma.bytes_per_cycle
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND_BITS)),
                "load": In(stream.Signature(beat_bits)),
                "store": Out(stream.Signature(beat_bits)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, cells = self.config, self.cells
        m.submodules.sequencer = sequencer = Sequencer(config, self.timings)
        m.submodules.gearbox = gearbox = Gearbox(config)
        m.submodules.scratchpad = scratchpad = Scratchpad(config, gearbox.width, cells)
        m.submodules.array = array = SystolicArray(config, cells)
        m.submodules.drain = drain = Drain(config, self.timings, cells)

        wiring.connect(m, wiring.flipped(self.command), sequencer.command)
        wiring.connect(m, wiring.flipped(self.load), gearbox.load)
        wiring.connect(m, drain.store, wiring.flipped(self.store))
        m.d.comb += self.busy.eq(sequencer.busy | drain.busy)

        def arriving(field: str) -> object:
            low, width = FIELDS[field]
            return self.command.payload[low : low + width]

        m.d.comb += [
            gearbox.start.eq(sequencer.load_start),
            gearbox.opcode.eq(arriving("opcode")),
            gearbox.packing.eq(arriving("packing")),
            gearbox.words.eq(arriving("count")),
            sequencer.load_write.eq(gearbox.write),
            sequencer.load_done.eq(gearbox.done),
            scratchpad.opcode.eq(sequencer.opcode),
            scratchpad.packing.eq(sequencer.packing),
            scratchpad.word.eq(gearbox.word),
            scratchpad.write.eq(gearbox.write),
            scratchpad.write_address.eq(sequencer.address),
            scratchpad.read.eq(sequencer.read),
            scratchpad.activation_address.eq(sequencer.address),
            scratchpad.weight_address.eq(sequencer.weight_address),
        ]

        read_data_valid = Signal()
        m.d.sync += read_data_valid.eq(sequencer.read)
        m.d.comb += [
            array.valid.eq(read_data_valid),
            array.activations.eq(scratchpad.activations),
            array.weights.eq(scratchpad.weights),
            array.shift.eq(drain.shift),
            drain.start.eq(sequencer.drain_start),
            sequencer.drain_done.eq(drain.done),
            drain.rows.eq(sequencer.rows),
            drain.int32.eq(sequencer.int32),
            drain.zero_point.eq(sequencer.zero_point),
            drain.channels.eq(scratchpad.channels),
            drain.sums.eq(array.sums),
        ]
        return m
