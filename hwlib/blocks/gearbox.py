"""The load path: beats of the DMA stream in, words of a bank out."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwlib.config import AcceleratorConfig
from hwlib.isa import CHANNEL_BYTES, OPCODES, PACKINGS


class Gearbox(wiring.Component):
    """Cuts beats into words, or joins beats to words, whichever is wider.

    After `start` it takes beats as they come and gives `words` words, one a cycle at most, in
    `word` with `write` high; a word is written one cycle after its last beat was taken. The sink
    cannot stall. Low-bit weights come out as the load stream packs them. What is left of the last
    beat is dropped, so every load starts on a fresh beat. `done` is high with the last word.

    Args:
        config: The core's knobs.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.beat_bits = 8 * config.dma.bytes_per_cycle
        columns = config.array.columns
        self.word_bits = {
            ("activations", 8): 8 * config.array.rows,
            ("channels", 8): 8 * CHANNEL_BYTES,
            **{("weights", bits): columns * bits for bits in PACKINGS},
        }
        self.width = max(*self.word_bits.values(), self.beat_bits)
        self.count_bits = max(config.activation_words, config.weight_words).bit_length()
        super().__init__(
            {
                "load": In(stream.Signature(self.beat_bits)),
                "start": In(1),
                "opcode": In(2),
                "packing": In(2),
                "words": In(self.count_bits),
                "word": Out(self.width),
                "write": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(self.width)
        full = Signal()
        phase = Signal(range(16))
        words_left = Signal(self.count_bits)
        opcode = Signal(2)
        packing = Signal(2)
        active = Signal()

        last = Signal()
        after = Signal(self.width)  # the held word once it has been given, or a beat has joined it
        first_phase = Signal(4)
        joins = Signal()  # words are wider than beats
        taken = Signal()
        m.d.comb += [
            self.word.eq(held),
            self.write.eq(full),
            last.eq(words_left == 1),
            self.done.eq(full & last),
            taken.eq(self.load.valid & self.load.ready),
            self.load.ready.eq(
                active & ~(full & last) & (joins | ~full | (phase == 0)),
            ),
        ]
        self._formats(m, opcode, packing, held, after, first_phase, joins)

        with m.If(self.start):
            m.d.sync += [
                active.eq(1),
                words_left.eq(self.words),
                opcode.eq(self.opcode),
                packing.eq(self.packing),
                full.eq(0),
                phase.eq(0),
            ]
        with m.If(full):
            m.d.sync += words_left.eq(words_left - 1)
            with m.If(last):
                m.d.sync += active.eq(0)
        with m.If(joins):
            # `phase` counts the beats that the word under way already has.
            complete = phase == first_phase
            with m.If(taken):
                m.d.sync += [held.eq(after), phase.eq(Mux(complete, 0, phase + 1))]
            m.d.sync += full.eq(taken & complete)
        with m.Else():
            # `phase` counts the words that follow the one on offer.
            with m.If(taken):
                m.d.sync += [held.eq(self.load.payload), phase.eq(first_phase), full.eq(1)]
            with m.Elif(full):
                m.d.sync += [held.eq(after), phase.eq(phase - 1)]
                with m.If((phase == 0) | last):
                    m.d.sync += full.eq(0)
        return m

    def _formats(
        self,
        m: Module,
        opcode: Signal,
        packing: Signal,
        held: Signal,
        after: Signal,
        first_phase: Signal,
        joins: Signal,
    ) -> None:
        """Chooses shift and ratio by the kind of load; equal word widths share one case."""
        beat = self.beat_bits
        by_width: dict[int, list[str]] = {}
        for (kind, bits), width in self.word_bits.items():
            code = f"{PACKINGS[bits]:02b}{OPCODES[kind]:02b}"
            by_width.setdefault(width, []).append(code)
        with m.Switch(Cat(opcode, packing)):
            for width, codes in by_width.items():
                with m.Case(*codes):
                    if width > beat:
                        m.d.comb += [
                            after.eq(Cat(held[beat:width], self.load.payload)),
                            first_phase.eq(width // beat - 1),
                            joins.eq(1),
                        ]
                    else:
                        m.d.comb += [
                            after.eq(held[width:beat]),
                            first_phase.eq(beat // width - 1),
                        ]
