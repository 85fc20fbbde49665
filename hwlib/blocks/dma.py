"""DMA: DRAM to the memories and back."""

from typing import get_args

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.banked_memory import ADDRESS_BITS, MemoryPort
from hwlib.blocks.fields import field
from hwlib.blocks.queue import RegisterQueue
from hwlib.commands import CHANNEL_BYTES, FACTOR_BITS, GroupWords, LoadTarget
from hwlib.config import LANE_BYTES, CoreConfig

DRAM_ADDRESS_BITS = 32

BEATS_BITS = 24
"""Width of a request's count of beats."""

REQUESTS_AHEAD = 2
"""Load commands whose beats may be on their way."""

STORE_WORDS_AHEAD = 3
"""Words that a store has read and not sent: one that is sent, one that arrives, one that is asked
for."""

PACKED_BITS = (8, 4, 2)
"""Bits of a packed weight, in the order of their code."""

MEMORY_BITS = (8, 4)
"""Bits of a weight in the weight memory, in the order of their code; 4 on composable cores."""


class LoadUnit(wiring.Component):
    """Asks DRAM for a command's beats, cuts or joins them to words, and writes the words.

    A request names the first byte and the beats; they come back in order. The next command's
    request goes out while the beats of this one arrive. Where its memory is free, a command takes a
    beat a cycle, or writes a word a cycle where a beat holds several: the first beat of a word
    comes in the cycle in which the word before is written. Between commands there is a cycle more.

    The header of a group of weights takes the time of a word and is not written: what it says holds
    for the words behind it, until the next header or the command's end.

    Args:
        config: The core's knobs.
        command_bits: Bits of a load command.
    """

    def __init__(self, config: CoreConfig, command_bits: int) -> None:
        self.config = config
        self.command_bits = command_bits
        self.beat_bits = 8 * config.dma_bytes
        self.lane_bits = 8 * LANE_BYTES
        # Of each column's weights, one less than what they are multiplied by.
        self._factors = [Signal(FACTOR_BITS, name=f"factor_{c}") for c in range(config.columns)]
        super().__init__(
            {
                "command": In(stream.Signature(command_bits)),
                "done": Out(1),
                "request": Out(stream.Signature(DRAM_ADDRESS_BITS + BEATS_BITS)),
                "beats": In(stream.Signature(self.beat_bits)),
                "activation_port": Out(MemoryPort(self.lane_bits * config.rows)),
                "weight_port": Out(MemoryPort(self.lane_bits * config.columns)),
                "entry_write": Out(2),
                "entry_ready": In(2),
                "entry_address": Out(ADDRESS_BITS),
                "entry": Out(8 * CHANNEL_BYTES),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.coming = coming = RegisterQueue(width=self.command_bits, depth=REQUESTS_AHEAD)
        command = self.command.payload
        m.d.comb += [
            self.request.valid.eq(self.command.valid & coming.w_rdy),
            self.request.payload.eq(
                Cat(field(command, "load", "dram_address"), self._beats(m, command))
            ),
            self.command.ready.eq(self.request.ready & coming.w_rdy),
            coming.w_data.eq(command),
            coming.w_en.eq(self.command.valid & self.command.ready),
        ]
        self._words(m, coming)
        return m

    def _widenings(self) -> list[tuple[int, int, int]]:
        """Code of packing and memory bits, bits of a weight in DRAM, bits in the memory."""
        return [
            (memory_code << 2 | code, packed, kept)
            for memory_code, kept in enumerate(MEMORY_BITS[: 1 + self.config.composable])
            for code, packed in enumerate(PACKED_BITS)
            if packed <= kept
        ]

    def _formats(self) -> list[tuple[str, int, int]]:
        """Target, code of packing and memory bits, bits of a word in DRAM."""
        rows, columns = self.config.rows, self.config.columns
        formats = [("activations", 0, self.lane_bits * rows)]
        formats += [
            ("weights", code, self.lane_bits * columns * packed // kept)
            for code, packed, kept in self._widenings()
        ]
        for table in ("matmul_channels", "vector_channels"):
            formats.append((table, 0, 8 * CHANNEL_BYTES))
        return formats

    def _format(self, m: Module, command: Signal, name: str) -> Signal:
        """Number of the format of a command in `_formats`."""
        chosen = Signal(3, name=name)
        target = field(command, "load", "target")
        with m.Switch(Cat(self._widening(command), target)):
            for number, (where, code, _) in enumerate(self._formats()):
                with m.Case(get_args(LoadTarget).index(where) << 3 | code):
                    m.d.comb += chosen.eq(number)
        return chosen

    def _widening(self, command: Signal) -> Value:
        return Cat(*(field(command, "load", name) for name in ("packed_bits", "memory_bits")))

    def _beats(self, m: Module, command: Signal) -> Signal:
        """Beats of a command: its bits over those of a beat, rounded up."""
        beats = Signal(BEATS_BITS, name="beats_asked")
        words = field(command, "load", "words")
        with m.Switch(self._format(m, command, "format_asked")):
            for number, (_, _, bits) in enumerate(self._formats()):
                with m.Case(number):
                    if bits >= self.beat_bits:
                        m.d.comb += beats.eq(words * (bits // self.beat_bits))
                    else:
                        ratio = self.beat_bits // bits
                        m.d.comb += beats.eq((words + ratio - 1) >> (ratio.bit_length() - 1))
        return beats

    def _words(self, m: Module, coming: RegisterQueue) -> None:
        """From beats to words of the oldest command under way."""
        command = coming.r_data
        formats = self._formats()
        width = max(self.beat_bits, *(bits for _, _, bits in formats))
        chosen = self._format(m, command, "format_now")
        held, full = Signal(width), Signal()
        part = Signal(8)  # beats that the word has, or words that the beat has given
        written = Signal(ADDRESS_BITS)
        word_ready = Signal()
        last_word, taken, given = Signal(), Signal(), Signal()
        grouped = self.config.grouped_weights
        placed, header = written, Signal()
        if grouped:
            placed = self._groups(m, command, held, header, given, last_word)
        m.d.comb += [
            last_word.eq(written + 1 == field(command, "load", "words")),
            taken.eq(self.beats.valid & self.beats.ready),
            given.eq(full & (word_ready | header if grouped else word_ready)),
            self.done.eq(given & last_word),
            coming.r_en.eq(given & last_word),
        ]
        with m.If(given):
            m.d.sync += written.eq(Mux(last_word, 0, written + 1))
        with m.Switch(chosen):
            for number, (_, _, bits) in enumerate(formats):
                with m.Case(number):
                    state = (held, full, part, given, last_word)
                    if bits >= self.beat_bits:
                        self._join(m, coming, bits // self.beat_bits, *state)
                    else:
                        self._cut(m, coming, bits, self.beat_bits // bits, *state)

        # Sinks.
        address = field(command, "load", "address") + placed
        targets = [
            field(command, "load", "target") == at for at in range(len(get_args(LoadTarget)))
        ]
        ports = (self.activation_port, self.weight_port)
        sources = (held[: self.lane_bits * self.config.rows], self._unpacked(m, command, held))
        for port, target, data in zip(ports, targets, sources, strict=False):
            m.d.comb += [
                port.valid.eq(full & target & ~header if grouped else full & target),
                port.write.eq(1),
                port.address.eq(address),
                port.write_data.eq(data),
                port.mask.eq(Const(-1, len(port.mask))),
            ]
        tables = Cat(*targets[2:])
        m.d.comb += [
            self.entry_write.eq(Mux(full, tables, 0)),
            self.entry_address.eq(address),
            self.entry.eq(held[: 8 * CHANNEL_BYTES]),
            word_ready.eq(
                Mux(
                    targets[0],
                    ports[0].ready,
                    Mux(targets[1], ports[1].ready, (tables & self.entry_ready).any()),
                )
            ),
        ]

    def _groups(
        self,
        m: Module,
        command: Signal,
        held: Signal,
        header: Signal,
        given: Signal,
        last_word: Signal,
    ) -> Signal:
        """Takes the factors out of headers; how many words that are none were written."""
        sizes = get_args(GroupWords)  # 0, and powers of two that double
        placed, code = Signal(ADDRESS_BITS), field(command, "load", "group_words")
        at = Signal(range(sizes[-1] + 1))  # in the group, whose header is word 0
        ends = Signal()
        bit = (code + (sizes[1].bit_length() - 2))[:3]  # of its size
        m.d.comb += [
            header.eq((code != 0) & (at == 0)),
            ends.eq(last_word | at.bit_select(bit, 1)),
        ]
        with m.If(given):
            m.d.sync += [
                at.eq(Mux(ends | (code == 0), 0, at + 1)),
                placed.eq(Mux(last_word, 0, placed + ~header)),
            ]
            with m.If(last_word):
                m.d.sync += [factor.eq(0) for factor in self._factors]
            with m.Elif(header), m.Switch(self._widening(command)):
                for widening, packed, kept in self._widenings():
                    with m.Case(widening):
                        part = 8 * LANE_BYTES * packed // kept
                        m.d.sync += [
                            factor.eq(held.word_select(column, part))
                            for column, factor in enumerate(self._factors)
                        ]
        return placed

    def _join(
        self,
        m: Module,
        coming: RegisterQueue,
        ratio: int,
        held: Signal,
        full: Signal,
        part: Signal,
        given: Signal,
        last_word: Signal,
    ) -> None:
        """Words of `ratio` beats each."""
        bits = ratio * self.beat_bits
        taken = self.beats.valid & self.beats.ready
        m.d.comb += self.beats.ready.eq(coming.r_rdy & (~full | (given & ~last_word)))
        with m.If(taken):
            m.d.sync += [
                held[:bits].eq(Cat(held[self.beat_bits : bits], self.beats.payload)),
                part.eq(Mux(part == ratio - 1, 0, part + 1)),
                full.eq(part == ratio - 1),
            ]
        with m.Elif(given):
            m.d.sync += full.eq(0)

    def _cut(
        self,
        m: Module,
        coming: RegisterQueue,
        bits: int,
        ratio: int,
        held: Signal,
        full: Signal,
        part: Signal,
        given: Signal,
        last_word: Signal,
    ) -> None:
        """`ratio` words from each beat; what is left after the last word is dropped."""
        ends = (part == ratio - 1) | last_word
        m.d.comb += self.beats.ready.eq(coming.r_rdy & (~full | (given & ends & ~last_word)))
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += [held[: self.beat_bits].eq(self.beats.payload), part.eq(0), full.eq(1)]
        with m.Elif(given):
            m.d.sync += [
                held.eq(held >> bits),
                part.eq(Mux(ends, 0, part + 1)),
                full.eq(~ends),
            ]

    def _unpacked(self, m: Module, command: Signal, held: Signal) -> Signal:
        """Packed weights widened to those of the memory, in the same order."""
        word_bits = self.lane_bits * self.config.columns
        unpacked = Signal(word_bits)
        with m.Switch(self._widening(command)):
            for code, packed, kept in self._widenings():
                wide = [
                    Signal(kept, name=f"w{packed}_{kept}_{i}") for i in range(word_bits // kept)
                ]
                m.d.comb += [
                    value.eq(held.word_select(i, packed).as_signed())
                    for i, value in enumerate(wide)
                ]
                with m.Case(code):
                    m.d.comb += unpacked.eq(Cat(*wide))
        return self._scaled(m, command, unpacked) if self.config.grouped_weights else unpacked

    def _scaled(self, m: Module, command: Signal, words: Signal) -> Signal:
        """Each weight times its column's factor."""
        scaled = Signal(len(words))
        with m.Switch(field(command, "load", "memory_bits")):
            for code, kept in enumerate(MEMORY_BITS[: 1 + self.config.composable]):
                most = kept // 2  # bits of a weight that has a factor other than 1
                a_column = self.lane_bits // kept
                with m.Case(code):
                    for i in range(len(words) // kept):
                        weight, factor = words.word_select(i, kept), self._factors[i // a_column]
                        product = weight[:most].as_signed() * (factor + 1)
                        m.d.comb += scaled.word_select(i, kept).eq(
                            Mux(factor == 0, weight, product[:kept])
                        )
        return scaled


class StoreUnit(wiring.Component):
    """Reads words of the activation memory and sends them to DRAM, beat by beat.

    A beat goes with its address (low bits of the payload). What is left of the last one is zeros.
    Words are read ahead, so that where neither side stalls a command sends a beat a cycle, or reads
    a word a cycle where a beat holds several. The next command is taken after the last beat.

    Args:
        config: The core's knobs.
        command_bits: Bits of a store command.
    """

    def __init__(self, config: CoreConfig, command_bits: int) -> None:
        self.command_bits = command_bits
        self.beat_bits = 8 * config.dma_bytes
        self.word_bits = 8 * LANE_BYTES * config.rows
        super().__init__(
            {
                "command": In(stream.Signature(command_bits)),
                "done": Out(1),
                "port": Out(MemoryPort(self.word_bits)),
                "beats": Out(stream.Signature(DRAM_ADDRESS_BITS + self.beat_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.words = words = RegisterQueue(self.word_bits, STORE_WORDS_AHEAD)
        address, left = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)  # of the reads
        unsent = Signal(ADDRESS_BITS)  # words in no beat yet
        dram_address = Signal(DRAM_ADDRESS_BITS)
        asked, served, sent = Signal(), Signal(), Signal()
        beat = Signal(self.beat_bits)
        m.d.comb += [
            self.port.valid.eq((left != 0) & (words.level + asked < STORE_WORDS_AHEAD)),
            self.port.address.eq(address),
            served.eq(self.port.valid & self.port.ready),
            words.w_data.eq(self.port.read_data),
            words.w_en.eq(self.port.read_valid),
            self.beats.payload.eq(Cat(dram_address, beat)),
            sent.eq(self.beats.valid & self.beats.ready),
        ]
        m.d.sync += [asked.eq(served), unsent.eq(unsent - words.r_en)]
        with m.If(served):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
        with m.If(sent):
            m.d.sync += dram_address.eq(dram_address + self.beat_bits // 8)
        if self.word_bits >= self.beat_bits:
            self._split(m, words, unsent, sent, beat)
        else:
            self._gather(m, words, unsent, sent, beat)

        command = self.command.payload
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += [
                address.eq(field(command, "store", "address")),
                left.eq(field(command, "store", "words")),
                unsent.eq(field(command, "store", "words")),
                dram_address.eq(field(command, "store", "dram_address")),
            ]
        return m

    def _split(
        self, m: Module, words: RegisterQueue, unsent: Signal, sent: Signal, beat: Signal
    ) -> None:
        """One beat or several of each word."""
        count = self.word_bits // self.beat_bits
        part = Signal(range(count))
        ends = Signal()
        m.d.comb += [
            ends.eq(part == count - 1),
            self.beats.valid.eq(words.r_rdy),
            beat.eq(words.r_data.word_select(part, self.beat_bits)),
            words.r_en.eq(sent & ends),
            self.done.eq(sent & ends & (unsent == 1)),
            self.command.ready.eq(unsent == 0),
        ]
        with m.If(sent):
            m.d.sync += part.eq(Mux(ends, 0, part + 1))

    def _gather(
        self, m: Module, words: RegisterQueue, unsent: Signal, sent: Signal, beat: Signal
    ) -> None:
        """Several words in each beat; the first of the next comes as the beat before leaves."""
        count = self.beat_bits // self.word_bits
        buffer = Signal(self.beat_bits)
        part = Signal(range(count))
        full = Signal()
        m.d.comb += [
            self.beats.valid.eq(full),
            beat.eq(buffer),
            words.r_en.eq(words.r_rdy & (~full | self.beats.ready)),
            self.done.eq(sent & (unsent == 0)),
            self.command.ready.eq((unsent == 0) & ~full),
        ]
        with m.If(words.r_en):
            ends = (part == count - 1) | (unsent == 1)
            m.d.sync += [part.eq(Mux(ends, 0, part + 1)), full.eq(ends)]
            with m.If(part == 0):
                m.d.sync += buffer.eq(words.r_data)
            with m.Else():
                m.d.sync += buffer.word_select(part, self.word_bits).eq(words.r_data)
        with m.Elif(sent):
            m.d.sync += full.eq(0)
