"""The vector engine: norms, softmax, activations, rotary embedding, sums and divisions."""

from collections.abc import Iterable

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.banked_memory import ADDRESS_BITS, MemoryPort
from hwlib.blocks.cells import Cells, shared
from hwlib.blocks.fields import field, lanes_chosen
from hwlib.blocks.lane_results import FORM_BITS, Form
from hwlib.blocks.lane_setup import LaneSetup, Setup
from hwlib.blocks.queue import RegisterQueue
from hwlib.blocks.vector_lane import (
    CHOICE_BITS,
    FOLD_BITS,
    LANE,
    SUM_DELAY,
    Fold,
    LaneDelays,
    Left,
    Right,
)
from hwlib.commands import (
    KINDS,
    Activate,
    Add,
    Command,
    Divide,
    Gate,
    Norm,
    Rotate,
    Softmax,
)
from hwlib.config import ENTRY_BITS, CoreConfig
from hwlib.reference.vector import ROTARY_BITS
from hwlib.unit_latencies import UnitLatencies

WRITES_AHEAD = 4
"""Words of results that may be under way between the first read for them and their write."""

DIVIDE_SHIFT = 20
"""Shift of a division's first product."""

SET_UP = ("mean", "factor", "own_shift", "maximum", "total", "alpha")
"""What the set-up gives to the lane whose turn it is."""

TO_SET_UP = ("x_sum", "x_squares", "best", "seen", "maximum_now", "total_now")
"""What it takes from it."""

STATE_WORDS = 4
"""Words of a softmax's state: maximum, low and high half of the total, alpha."""


class VectorEngine(wiring.Component):
    """Runs one vector command at a time over one memory port.

    A command is one or two passes over its operands. Reads go out one a cycle, in order; what comes
    back goes through the lanes without a stop, and results wait in a short queue for the port,
    which serves writes first. A read goes out only while there is room for its result.

    Args:
        config: The core's knobs.
        command_bits: Bits of a vector command.
        cells: Makes the lanes and the units between the passes.
        latencies: Of the units.
    """

    def __init__(
        self, config: CoreConfig, command_bits: int, cells: Cells, latencies: UnitLatencies
    ) -> None:
        self.latencies = latencies
        self.delays = LaneDelays.of(latencies)
        self.rows = config.rows
        self.composable = config.composable
        self.command_bits = command_bits
        self.cells = cells
        super().__init__(
            {
                "command": In(stream.Signature(command_bits)),
                "done": Out(1),
                "port": Out(MemoryPort(16 * config.rows)),
                "entry_read": Out(1),
                "entry_address": Out(ADDRESS_BITS),
                "entry": In(ENTRY_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.held = Signal(self.command_bits)
        self.kinds = {kind: Signal(name=f"is_{kind.__name__}") for kind in KINDS[3:]}
        for kind, signal in self.kinds.items():
            opcode = field(self.command.payload, "norm", "opcode")
            with m.If(self.command.ready):
                m.d.sync += signal.eq(opcode == KINDS.index(kind))
        self.reading = Signal()  # the pass over the operands goes on
        self.second_pass = Signal()
        self.index = Signal(17)  # channel, pair or key
        self.phase = Signal(2)  # operand of it
        self.under_way = Signal(5)  # reads whose results are not written or folded yet
        self.reserved = Signal(range(WRITES_AHEAD + 1))
        self.state_index = Signal(3)
        self.lane = Signal(6)
        self.result, self.result_second = Signal(), Signal()
        self.result_index = Signal(17)

        m.submodules.writes = self.writes = RegisterQueue(
            width=ADDRESS_BITS + 16 * self.rows + 2 * self.rows, depth=WRITES_AHEAD
        )
        m.submodules.setup = self.setup = LaneSetup(self.cells, self.latencies)
        self._control(m)
        self._reads(m)
        self._lanes(m)
        self._results(m)
        self._port(m)
        return m

    def _of(self, name: str) -> Value:
        return field(self.held, "norm", name)

    def _narrow(self) -> Value:
        """Whether results have 4 bits."""
        return self._of("out_bits") if self.composable else Const(0, 1)

    def _is(self, *kinds: type[Command]) -> Value:
        return Cat(*(self.kinds[kind] for kind in kinds)).any()

    def _control(self, m: Module) -> None:
        """The passes of a command, one after the other."""
        setup, count = self.setup, self._of("count")
        self.clear, self.read_state, self.write_state = Signal(), Signal(), Signal()
        settled = Signal()
        m.d.comb += settled.eq((self.under_way == 0) & (self.reserved == 0))
        two_passes = self._is(Norm, Softmax)
        stateful = self.kinds[Divide] | (self.kinds[Softmax] & ~self._of("flag"))

        m.d.comb += [
            setup.kind.eq(
                Mux(
                    self.kinds[Norm],
                    Setup.NORM,
                    Mux(self.kinds[Divide], Setup.DIVIDE, Setup.SOFTMAX),
                )
            ),
            setup.count.eq(count),
            setup.multiplier.eq(self._of("multiplier")),
            setup.mean_shift.eq(self._of("shift")),
            setup.epsilon.eq(self._of("extra")),
            setup.base.eq(self._of("small").as_signed()),
            setup.centred.eq(self._of("flag")),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.command.ready.eq(1), self.clear.eq(1)]
                m.d.sync += [
                    self.held.eq(self.command.payload),
                    self.second_pass.eq(0),
                    self.state_index.eq(0),
                    self.lane.eq(0),
                ]
                with m.If(self.command.valid):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += self.clear.eq(1)
                with m.If(stateful):
                    m.next = "STATE"
                with m.Else():
                    m.d.sync += self.reading.eq(1)
                    m.next = "PASS"
            with m.State("STATE"):
                m.d.comb += self.read_state.eq(1)
                with m.If((self.state_index == 3) & (self.under_way == 0)):
                    m.d.sync += self.state_index.eq(0)
                    with m.If(self.kinds[Divide]):
                        m.next = "SETUP"
                    with m.Else():
                        m.d.sync += self.reading.eq(1)
                        m.next = "PASS"
            with m.State("PASS"), m.If(~self.reading & settled):
                with m.If(two_passes & ~self.second_pass):
                    m.next = "SETUP"
                with m.Elif(self.kinds[Softmax]):
                    m.next = "SAVE"
                with m.Else():
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
            with m.State("SETUP"):
                m.d.comb += setup.start.eq(1)
                m.next = "LANE"
            with m.State("LANE"), m.If(setup.done):
                m.d.sync += self.lane.eq(self.lane + 1)
                m.next = "SETUP"
                with m.If(self.lane == self.rows - 1):
                    m.d.sync += [self.second_pass.eq(1), self.reading.eq(1)]
                    m.next = "PASS"
            with m.State("SAVE"):
                m.d.comb += self.write_state.eq(self.state_index != STATE_WORDS)
                with m.If((self.state_index == STATE_WORDS) & settled):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"

    def _reads(self, m: Module) -> None:
        """Which word comes next, and whether it may."""
        source, second, count = self._of("source"), self._of("second"), self._of("count")
        index, phase = self.index, self.phase
        pairs = self._is(Gate, Add, Divide)
        last_phase = Signal(2)
        m.d.comb += last_phase.eq(Mux(self.kinds[Rotate], 3, Mux(pairs, 1, 0)))

        self.read_address, self.wants = Signal(ADDRESS_BITS), Signal()
        with m.If(self.read_state):
            m.d.comb += self.read_address.eq(second + self.state_index)
        with m.Elif(self.kinds[Rotate]):
            table = second + (index << 1)
            m.d.comb += self.read_address.eq(
                Array([source + index, source + count + index, table, table + 1])[phase]
            )
        with m.Elif(self.kinds[Divide]):
            m.d.comb += self.read_address.eq(source + (index << 1) + phase)
        with m.Else():
            m.d.comb += self.read_address.eq(Mux(phase == 1, second, source) + index)

        # Two int8 or four int4 share a word: room is taken with the first read for a word.
        gives = Signal()  # this pass gives results
        m.d.comb += gives.eq(~self._is(Norm, Softmax) | self.second_pass)
        opens = Signal()
        m.d.comb += opens.eq(
            gives
            & (phase == 0)
            & (self.kinds[Add] | self.kinds[Rotate] | ~(index[0] | (self._narrow() & index[1])))
        )
        # A rotation fires four times for its four words: the next pair waits for that.
        calm = ~self.kinds[Rotate] | (phase != 0) | (self.under_way == 0)
        m.d.comb += self.wants.eq(
            (self.read_state & (self.state_index != 3))
            | (self.reading & calm & (~opens | (self.reserved < WRITES_AHEAD)))
        )
        self.served_read = Signal()
        self.opened = Signal()
        m.d.comb += self.opened.eq(self.served_read & ~self.read_state & opens)
        m.d.comb += [
            self.entry_read.eq(self.served_read & self.kinds[Norm]),
            self.entry_address.eq(self._of("channel") + index),
        ]
        with m.If(self.served_read):
            with m.If(self.read_state):
                m.d.sync += self.state_index.eq(self.state_index + 1)
            with m.Else():
                m.d.sync += phase.eq(Mux(phase == last_phase, 0, phase + 1))
                with m.If(phase == last_phase):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index + 1 == count):
                        m.d.sync += [self.reading.eq(0), index.eq(0)]

    def _lanes(self, m: Module) -> None:
        """From a word that arrives to what the lanes do with it."""
        # Of the read that was served in the cycle before, whose word arrives now.
        came_phase, came_index, came_state = Signal(2), Signal(17), Signal()
        came_word = Signal(2)
        with m.If(self.served_read):
            m.d.sync += [
                came_phase.eq(self.phase),
                came_index.eq(self.index),
                came_state.eq(self.read_state),
                came_word.eq(self.state_index),
            ]
        came = Signal()
        m.d.comb += came.eq(self.port.read_valid & ~came_state)
        entry = Signal(ENTRY_BITS)
        with m.If(came):
            m.d.sync += entry.eq(self.entry)

        # Complete: the latches hold every operand of `full_index`.
        full, full_index = Signal(), Signal(17)
        last_phase = Mux(self.kinds[Rotate], 3, Mux(self._is(Gate, Add, Divide), 1, 0))
        m.d.sync += full.eq(came & (came_phase == last_phase))
        with m.If(came):
            m.d.sync += full_index.eq(came_index)

        # Fires: at once, one cycle later for an activation, four times for a rotation.
        late = Signal()
        turns = Signal(3)
        m.d.sync += [
            late.eq(full & self.kinds[Activate]),
            turns.eq(Cat(full & self.kinds[Rotate], turns[:2])),
        ]
        turn = Cat(full & self.kinds[Rotate], turns)  # one-hot over four cycles
        fire = Signal()
        softmax, add = self.kinds[Softmax], self.kinds[Add]
        m.d.comb += fire.eq(
            (full & self._is(Norm, Gate, Divide)) | late | (self.kinds[Rotate] & turn.any())
        )
        left, right, fold = Signal(CHOICE_BITS), Signal(CHOICE_BITS), Signal(FOLD_BITS)
        first = self.kinds[Norm] & ~self.second_pass
        with m.If(first):
            m.d.comb += [left.eq(Left.X), right.eq(Right.X)]
        with m.Elif(self.kinds[Norm]):
            m.d.comb += [left.eq(Left.CENTRED), right.eq(Right.LANE)]
        with m.Elif(self.kinds[Activate]):
            m.d.comb += [left.eq(Left.ACTIVATED), right.eq(Right.TWO)]
        with m.Elif(self.kinds[Gate]):
            m.d.comb += [left.eq(Left.ACTIVATED), right.eq(Right.SECOND)]
        with m.Elif(self.kinds[Divide]):
            m.d.comb += [left.eq(Left.ALIGNED), right.eq(Right.LANE)]
        with m.Else():
            # x1 cos - x2 sin, then x2 cos + x1 sin.
            m.d.comb += [
                left.eq(Mux(turn[1] | turn[2], Left.SECOND, Left.X)),
                right.eq(Mux(turn[0] | turn[2], Right.COSINE, Right.SINE)),
                fold.eq(Mux(turn[1], Fold.SUBTRACT, Mux(turn[3], Fold.ADD, Fold.NOTHING))),
            ]

        # Parameters of the second product. A norm's come with the channel, everything else has one
        # for all.
        norm = self.kinds[Norm]
        multiplier, bias, out_shift = Signal(signed(17)), Signal(signed(32)), Signal(6)
        m.d.comb += [
            multiplier.eq(
                Mux(norm, Cat(entry[32:48], entry[47]), Cat(self._of("multiplier"), Const(0, 1)))
            ),
            bias.eq(Mux(norm, entry[:32], 0)),
            out_shift.eq(Mux(norm, entry[48:54], self._of("shift"))),
        ]
        delays = self.delays
        late_parameters = _delayed(m, Cat(multiplier, bias), delays.parameter, "parameters")
        out_shift_late = _delayed(m, out_shift, delays.out_shift, "out_shift")

        shift = Signal(6)
        m.d.sync += shift.eq(
            Mux(
                self.kinds[Divide],
                DIVIDE_SHIFT,
                Mux(self.kinds[Rotate], ROTARY_BITS, Mux(self.kinds[Gate], self._of("small"), 1)),
            )
        )
        sees = Signal(self.rows)
        ahead = Signal(signed(19))  # how far the key lies beyond what row 0 sees
        m.d.comb += ahead.eq(full_index - self._of("extra")[:17].as_signed())
        for row in range(self.rows):
            m.d.comb += sees[row].eq(ahead <= row)

        self._instances(
            m,
            {
                "latch_x": came & (came_phase == 0),
                "latch_second": came & (came_phase == 1),
                "latch_cosine": came & (came_phase == 2),
                "latch_sine": came & (came_phase == 3),
                "silu": self.kinds[Gate] | self._of("flag"),
                "fire": fire,
                "left": left,
                "right": right,
                "fold": fold,
                "lane_shift": norm,
                "shift": shift,
                "multiplier": late_parameters[:17],
                "bias": late_parameters[17:],
                "out_shift": out_shift_late,
                "statistics": first,
                "compare": softmax & ~self.second_pass & full,
                "score": softmax & self.second_pass & full,
                **{
                    load: came_state & self.port.read_valid & (came_word == at)
                    for at, load in enumerate(("load_maximum", "load_low", "load_high"))
                },
            },
            sees,
        )

        # Results.
        fired = (full & self._is(Norm, Gate, Divide)) | late | turn[1] | turn[3]
        given = fired & ~first
        index_at_fire = Signal(17)
        with m.If(full):
            m.d.sync += index_at_fire.eq(full_index)
        at_fire = Mux(self._is(Activate, Rotate), index_at_fire, full_index)
        slow = _delayed(m, Cat(given, turn[3], at_fire), delays.result, "slow")
        sums = _delayed(m, Cat(full & add, full_index), SUM_DELAY, "sums")
        scored = Cat(full & softmax & self.second_pass, full_index)
        probable = _delayed(m, scored, delays.probability, "probable")
        m.d.comb += [
            self.result.eq(Mux(add, sums[0], Mux(softmax, probable[0], slow[0]))),
            self.result_second.eq(slow[1]),
            self.result_index.eq(Mux(add, sums[1:], Mux(softmax, probable[1:], slow[2:]))),
        ]
        # Reads under way: for a first pass they end in the lanes.
        folded = _delayed(m, fired & first, delays.statistics, "folded")
        compared = _delayed(m, full & softmax & ~self.second_pass, 1, "compared")
        ended = Signal()
        m.d.comb += ended.eq(
            Mux(
                self.kinds[Rotate],
                self.result & self.result_second,
                self.result | folded | compared,
            )
        )
        begun = self.served_read & ~self.read_state & (self.phase == 0)
        state_begun = self.served_read & self.read_state
        state_ended = self.port.read_valid & came_state
        m.d.sync += self.under_way.eq(
            self.under_way + (begun | state_begun) - (ended | state_ended)
        )

    def _instances(self, m: Module, inputs: dict[str, Value], sees: Signal) -> None:
        """The lanes, which all get the same but for their word, what they see and their set-up."""
        setup = self.setup
        self.even, self.second, self.alone = Signal(), Signal(), Signal()
        self.form, self.data = Signal(FORM_BITS), Signal(16 * self.rows)
        common = shared(
            m,
            {
                **inputs,
                "zero": self._of("zero_point"),
                **({"narrow": self._narrow()} if self.composable else {}),
                "clear": self.clear,
                "softmax": self.kinds[Softmax],
                **{name: getattr(setup, name) for name in SET_UP},
                "result": self.result,
                "even": self.even,
                "second": self.second,
                "alone": self.alone,
                "form": self.form,
            },
        )
        given: dict[str, list[Signal]] = {name: [] for name in TO_SET_UP}
        for row in range(self.rows):
            signals = {
                name: Signal(len(getattr(setup, name)), name=f"{name}_{row}") for name in TO_SET_UP
            }
            m.submodules[f"lane_{row}"] = self.cells(
                LANE,
                {
                    **common,
                    "word": self.port.read_data.word_select(row, 16),
                    "sees": sees[row],
                    "set_up": setup.done & (self.lane == row),
                },
                {**signals, "data": self.data.word_select(row, 16)},
            )
            for name, signal in signals.items():
                given[name].append(signal)
        for name, values in given.items():
            m.d.comb += getattr(setup, name).eq(Array(values)[self.lane])

    def _results(self, m: Module) -> None:
        """Results to words: two int8 a word, four int4, or one int16."""
        add, softmax, rotate = self.kinds[Add], self.kinds[Softmax], self.kinds[Rotate]
        out, count, index = self._of("out"), self._of("count"), self.result_index
        narrow = self._narrow()
        complete = Mux(narrow, index[:2] == 3, index[0] | self.alone)
        place = Mux(narrow, index[2:], index[1:])
        base = out + Mux(self.second, count >> 1, 0)
        m.d.comb += [
            self.even.eq(~index[0]),
            self.second.eq(self.result_second & rotate),
            self.alone.eq(softmax & ~index[0] & (index + 1 == count)),
            self.form.eq(
                Mux(
                    self.write_state,
                    self.state_index[:2],
                    Mux(add, Form.SUM, Mux(narrow, Form.NIBBLES, Form.BYTES)),
                )
            ),
        ]
        chosen = lanes_chosen(m, self._of("masked") & rotate, self._of("lane"), self.rows)
        mask = Cat(*(mine.replicate(2) for mine in chosen))
        saving = self.write_state & self.writes.w_rdy & (self.reserved < WRITES_AHEAD)
        self.saved = Signal()
        address = Mux(
            self.write_state,
            self._of("second") + self.state_index,
            Mux(add, out + index, base + place),
        )
        m.d.comb += [
            self.saved.eq(saving),
            self.writes.w_en.eq(saving | (self.result & (add | complete))),
            self.writes.w_data.eq(
                Cat(
                    address[:ADDRESS_BITS],
                    self.data,
                    Mux(self.write_state, Const(-1, 2 * self.rows), mask),
                )
            ),
        ]
        with m.If(saving):
            m.d.sync += self.state_index.eq(self.state_index + 1)

    def _port(self, m: Module) -> None:
        """Writes first, then reads."""
        port, writes = self.port, self.writes
        word_end = ADDRESS_BITS + 16 * self.rows
        m.d.comb += [
            port.valid.eq(writes.r_rdy | self.wants),
            port.write.eq(writes.r_rdy),
            port.address.eq(Mux(writes.r_rdy, writes.r_data[:ADDRESS_BITS], self.read_address)),
            port.write_data.eq(writes.r_data[ADDRESS_BITS:word_end]),
            port.mask.eq(writes.r_data[word_end:]),
            writes.r_en.eq(writes.r_rdy & port.ready),
            self.served_read.eq(self.wants & ~writes.r_rdy & port.ready),
        ]
        # A rotation opens two words with each even pair.
        opened = Signal(2)
        m.d.comb += opened.eq(
            Mux(self.kinds[Rotate], Mux(self.index[0], 0, self.opened << 1), self.opened)
        )
        m.d.sync += self.reserved.eq(self.reserved + opened + self.saved - writes.r_en)


def _delayed(m: Module, value: Value, cycles: int, name: str) -> Signal:
    """`value` after so many cycles."""
    stages: Iterable[int] = range(cycles)
    current: Value = value
    for stage in stages:
        register = Signal(len(value), name=f"{name}_{stage}")
        m.d.sync += register.eq(current)
        current = register
    assert isinstance(current, Signal)
    return current
