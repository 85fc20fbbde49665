"""The core that runs a whole model: commands in, DRAM on the other side."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.banked_memory import BankedMemory
from hwlib.blocks.cells import Cells, sram_name
from hwlib.blocks.dispatcher import Dispatcher
from hwlib.blocks.dma import BEATS_BITS, DRAM_ADDRESS_BITS, LoadUnit, StoreUnit
from hwlib.blocks.drain_unit import DrainUnit
from hwlib.blocks.fields import field
from hwlib.blocks.operand_fetch import OperandFetch
from hwlib.blocks.outer_product import ARRAY, operand_bits
from hwlib.blocks.vector_engine import VectorEngine
from hwlib.commands import COMMAND_BITS, QUEUES
from hwlib.config import ENTRY_BITS, LANE_BYTES, WEIGHT_BANKS, CoreConfig
from hwlib.unit_latencies import UnitLatencies


class Core(wiring.Component):
    """Four engines over two memories.

    Ports, all valid/ready streams that may stall at any time: `command` (256 bits); `read_request`
    (32 bits of DRAM address, 24 bits of beats) and `read_beats`, which answers requests in order;
    `write_beats` (32 bits of DRAM address, one beat). `busy` is low when every command taken is
    complete. Synchronous reset in any cycle drops everything under way; memories keep their
    contents.

    Args:
        config: The core's knobs.
        cells: Makes units, memories and what is elaborated once.
        latencies: Of the units.
    """

    def __init__(self, config: CoreConfig, cells: Cells, latencies: UnitLatencies) -> None:
        self.config = config
        self.cells = cells
        self.latencies = latencies
        beat_bits = 8 * config.dma_bytes
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND_BITS)),
                "read_request": Out(stream.Signature(DRAM_ADDRESS_BITS + BEATS_BITS)),
                "read_beats": In(stream.Signature(beat_bits)),
                "write_beats": Out(stream.Signature(DRAM_ADDRESS_BITS + beat_bits)),
                "busy": Out(1),
                "completed": Out(len(QUEUES)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, cells = self.config, self.cells
        m.submodules.dispatcher = dispatcher = Dispatcher(config)
        widths = {queue: len(getattr(dispatcher, queue).payload) for queue in QUEUES}
        m.submodules.load = load = LoadUnit(config, widths["load"])
        m.submodules.store = store = StoreUnit(config, widths["store"])
        m.submodules.fetch = fetch = OperandFetch(config, widths["matmul"])
        m.submodules.drain = drain = DrainUnit(config, widths["matmul"], cells, self.latencies)
        m.submodules.vector = vector = VectorEngine(config, widths["vector"], cells, self.latencies)

        wiring.connect(m, wiring.flipped(self.command), dispatcher.command)
        wiring.connect(m, dispatcher.load, load.command)
        wiring.connect(m, dispatcher.matmul, fetch.command)
        wiring.connect(m, dispatcher.vector, vector.command)
        wiring.connect(m, dispatcher.store, store.command)
        wiring.connect(m, load.request, wiring.flipped(self.read_request))
        wiring.connect(m, wiring.flipped(self.read_beats), load.beats)
        wiring.connect(m, store.beats, wiring.flipped(self.write_beats))
        m.d.comb += [
            self.busy.eq(dispatcher.busy),
            self.completed.eq(Cat(load.done, drain.done, vector.done, store.done)),
            dispatcher.load_done.eq(load.done),
            dispatcher.matmul_done.eq(drain.done),
            dispatcher.vector_done.eq(vector.done),
            dispatcher.store_done.eq(store.done),
            drain.start.eq(fetch.start),
            drain.command.eq(fetch.tile),
            fetch.drain_free.eq(drain.free),
        ]
        self._array(m, fetch, drain)
        self._memories(m, load, store, fetch, drain, vector)
        return m

    def _array(self, m: Module, fetch: OperandFetch, drain: DrainUnit) -> None:
        config = self.config
        activation_bits, weight_bits = operand_bits(config.composable)
        activations = [
            fetch.activations.word_select(row, activation_bits) for row in range(config.rows)
        ]
        weights = [
            fetch.weights.word_select(column, weight_bits) for column in range(config.columns)
        ]
        sums = [drain.sums.word_select(row, 32) for row in range(config.rows)]
        m.submodules.array = self.cells(
            ARRAY,
            {
                **{f"a_{row}": activation for row, activation in enumerate(activations)},
                **{f"w_{column}": weight for column, weight in enumerate(weights)},
                **({"mode": fetch.mode} if config.composable else {}),
                "valid": fetch.valid,
                "last": fetch.last,
                "wanted": field(fetch.tile, "matmul", "columns"),
                "sums_ready": drain.sums_ready,
            },
            {
                "ready": fetch.ready,
                **{f"sum_{row}": each for row, each in enumerate(sums)},
                "sums_valid": drain.sums_valid,
            },
        )

    def _memories(
        self,
        m: Module,
        load: LoadUnit,
        store: StoreUnit,
        fetch: OperandFetch,
        drain: DrainUnit,
        vector: VectorEngine,
    ) -> None:
        config, cells = self.config, self.cells
        # In the order of priority: what the array waits for first.
        users = [
            drain.port,
            fetch.activation_port,
            fetch.second_port,
            vector.port,
            load.activation_port,
            store.port,
        ]
        m.submodules.activations = activations = BankedMemory(
            config.activation_words,
            8 * LANE_BYTES * config.rows,
            config.activation_banks,
            len(users),
            cells,
        )
        m.submodules.weights = weights = BankedMemory(
            config.weight_words, 8 * LANE_BYTES * config.columns, WEIGHT_BANKS, 2, cells
        )
        for index, user in enumerate(users):
            wiring.connect(m, user, getattr(activations, f"port_{index}"))
        wiring.connect(m, fetch.weight_port, weights.port_0)
        wiring.connect(m, load.weight_port, weights.port_1)
        self._channels(m, 0, load, drain.entry_read, drain.entry_address, drain.entry)
        self._channels(m, 1, load, vector.entry_read, vector.entry_address, vector.entry)

    def _channels(
        self,
        m: Module,
        number: int,
        load: LoadUnit,
        read: Signal,
        read_address: Signal,
        entry: Signal,
    ) -> None:
        """A channel table: read when asked, and written by loads in the cycles between."""
        bits = (self.config.channel_entries - 1).bit_length()
        write = load.entry_write[number] & ~read
        m.d.comb += load.entry_ready[number].eq(~read)
        m.submodules[f"channels_{number}"] = self.cells(
            sram_name(self.config.channel_entries, ENTRY_BITS),
            {
                "enable": write | read,
                "write": write,
                "address": Mux(write, load.entry_address[:bits], read_address[:bits]),
                "write_data": load.entry,
                "mask": Signal(ENTRY_BITS // 8, init=-1),
            },
            {"read_data": entry},
        )
