"""Rewrites of the units that keep their contracts: what the gate must accept.

Each is another way to build the unit: another cut into cycles, another multiplier, another table,
another order of adding, rounding and choosing. Of each only the methods of its class stand here;
`source` puts them behind the head of the shipped file.
"""

import re
from typing import NamedTuple

from hwlib.edit import UnitName
from hwlib.unit_source import shipped_source

_HDL = "from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned\n"
_METHODS = "    def elaborate(self, platform):\n"


class TrueRewrite(NamedTuple):
    """One rewrite."""

    unit: UnitName
    """The unit that it replaces."""

    latency: int
    """Its latency, in cycles."""

    methods: str
    """Methods of the unit's class, indented as in the file."""

    @property
    def source(self) -> str:
        """The whole file."""
        head, _, _ = shipped_source(self.unit).partition(_METHODS)
        return re.sub(r"from amaranth\.hdl import .*\n", _HDL, head, count=1) + self.methods


ACTIVATION = {
    "one table for both signs of an operand that is not negated": TrueRewrite(
        "activation",
        1,
        """\
    def elaborate(self, platform):
        m = Module()
        # Without its sign bit a negative operand turned over is |x| - 1.
        sign, index = self.x[15], Signal(15)
        m.d.comb += index.eq(self.x[:15] ^ self.x[15].replicate(15))
        curve = Signal(7)
        with m.Switch(Cat(index[:9], sign, self.silu)):
            for function, name in enumerate(("gelu", "silu")):
                table = [int(value) for value in tables.activation(name)] + [0]
                for at in range(512):
                    for negative in range(2):
                        with m.Case(at | negative << 9 | function << 10):
                            m.d.comb += curve.eq(table[at + negative])
        value = Signal(signed(18))
        inside = index[9:] == 0
        m.d.comb += value.eq((Mux(sign, 0, self.x) << 2) - Mux(inside, curve, 0))
        m.d.sync += self.y.eq(Mux(value > 32767, 32767, value))
        return m
""",
    ),
    "operand, table and difference in cycles of their own": TrueRewrite(
        "activation",
        3,
        """\
    def elaborate(self, platform):
        m = Module()
        x, late = Signal(signed(16)), Signal(signed(16))
        silu, magnitude = Signal(), Signal(16)
        curve = Signal(7)
        m.d.sync += [
            x.eq(self.x),
            magnitude.eq(Mux(self.x[15], -self.x, self.x)),
            silu.eq(self.silu),
            late.eq(x),
            curve.eq(0),
        ]
        with m.If(magnitude < tables.ACTIVATION_ENTRIES):
            with m.Switch(Cat(magnitude[:9], silu)):
                for function, name in enumerate(("gelu", "silu")):
                    for at, value in enumerate(tables.activation(name)):
                        with m.Case(at | function << 9):
                            m.d.sync += curve.eq(int(value))
        value = Signal(signed(18))
        m.d.comb += value.eq((Mux(late < 0, 0, late) << 2) - curve)
        m.d.sync += self.y.eq(Mux(value > 32767, 32767, value))
        return m
""",
    ),
    "a table of groups of eight and one of what is above each group's least": TrueRewrite(
        "activation",
        1,
        """\
    def elaborate(self, platform):
        m = Module()
        magnitude = Signal(16)
        m.d.comb += magnitude.eq(Mux(self.x < 0, -self.x, self.x))
        curves = []
        for name in ("gelu", "silu"):
            table = [int(value) for value in tables.activation(name)]
            least = [min(table[at : at + 8]) for at in range(0, 512, 8)]
            base, above = Signal(7, name=f"{name}_base"), Signal(5, name=f"{name}_above")
            m.d.comb += [
                base.eq(Array(least)[magnitude[3:9]]),
                above.eq(Array([v - least[at >> 3] for at, v in enumerate(table)])[magnitude[:9]]),
            ]
            curves.append(base + above)
        inside = ~magnitude[9:].any()
        value = Signal(signed(18))
        curve = Mux(self.silu, curves[1], curves[0])
        positive = Mux(self.x < 0, 0, self.x) << 2
        m.d.comb += value.eq(positive - Mux(inside, curve, 0))
        m.d.sync += self.y.eq(Mux(value > 32767, 32767, value))
        return m
""",
    ),
    "saturation by the operand's upper bits, beside the difference": TrueRewrite(
        "activation",
        1,
        """\
    def elaborate(self, platform):
        m = Module()
        y = Signal(signed(16), reset_less=True)
        magnitude, curve = Signal(15), Signal(7)
        m.d.comb += magnitude.eq((self.x[:15] ^ self.x[15].replicate(15)) + self.x[15])
        with m.If((magnitude[9:] == 0) & (self.x != -32768)):
            with m.Switch(Cat(magnitude[:9], self.silu)):
                for function, name in enumerate(("gelu", "silu")):
                    for at, value in enumerate(tables.activation(name)):
                        with m.Case(at | function << 9):
                            m.d.comb += curve.eq(int(value))
        # From 8192 on four times the operand is more than 32767, and the table is 0.
        over = ~self.x[15] & self.x[13:15].any()
        rectified = Cat(Const(0, 2), self.x[:14] & (~self.x[15]).replicate(14))
        difference = Signal(16)
        m.d.comb += [difference.eq(rectified - curve), self.y.eq(y)]
        m.d.sync += y.eq(Mux(over, 32767, difference.as_signed()))
        return m
""",
    ),
    "one function's table as what it is above the other's": TrueRewrite(
        "activation",
        2,
        """\
    def elaborate(self, platform):
        m = Module()
        magnitude, gelu, more = Signal(16), Signal(7), Signal(7)
        gelu_table, silu_table = (tables.activation(name) for name in ("gelu", "silu"))
        m.d.comb += magnitude.eq(Mux(self.x < 0, -self.x, self.x))
        base, above, positive = Signal(7), Signal(7), Signal(17)
        with m.Switch(magnitude):
            for at in range(tables.ACTIVATION_ENTRIES):
                with m.Case(at):
                    m.d.comb += [
                        gelu.eq(int(gelu_table[at])),
                        more.eq(int(silu_table[at] - gelu_table[at])),
                    ]
        m.d.sync += [
            base.eq(gelu),
            above.eq(more & self.silu.replicate(7)),
            positive.eq(Mux(self.x < 0, 0, self.x) << 2),
        ]
        value = Signal(signed(18))
        m.d.comb += value.eq(positive - base - above)
        m.d.sync += self.y.eq(Mux(value > 32767, 32767, value))
        return m
""",
    ),
}

EXPONENTIAL = {
    "rounding behind the shift": TrueRewrite(
        "exponential",
        1,
        """\
    def elaborate(self, platform):
        m = Module()
        value, shifted = Signal(7, reset_less=True), Signal(8)
        table = Array([int(entry) for entry in tables.exponential(self.entries)])
        index = self.fraction[5 - (self.entries - 1).bit_length() :]
        m.d.comb += [
            shifted.eq(Cat(Const(0, 1), table[index]) >> self.octave),
            self.value.eq(value),
        ]
        m.d.sync += value.eq((shifted + 1) >> 1)
        return m
""",
    ),
    "a table of every octave": TrueRewrite(
        "exponential",
        1,
        """\
    def elaborate(self, platform):
        m = Module()
        bits = (self.entries - 1).bit_length()
        value = Signal(7)
        with m.Switch(Cat(self.fraction[5 - bits :], self.octave)):
            for octave in range(8):
                for at, entry in enumerate(tables.exponential(self.entries)):
                    with m.Case(at | octave << bits):
                        m.d.comb += value.eq((int(entry) + (1 << octave >> 1)) >> octave)
        m.d.sync += self.value.eq(value)
        return m
""",
    ),
    "a shifter in two cycles": TrueRewrite(
        "exponential",
        2,
        """\
    def elaborate(self, platform):
        m = Module()
        entry, coarse, fine = Signal(8), Signal(8), Signal(2)
        shifted = Signal(8)
        index = self.fraction[5 - (self.entries - 1).bit_length() :]
        with m.Switch(index):
            for at, value in enumerate(tables.exponential(self.entries)):
                with m.Case(at):
                    m.d.comb += entry.eq(2 * int(value))
        with m.Switch(self.octave[2:]):
            with m.Case(0):
                m.d.sync += coarse.eq(entry)
            with m.Case(1):
                m.d.sync += coarse.eq(entry[4:])
            with m.Default():
                m.d.sync += coarse.eq(0)
        m.d.comb += shifted.eq(coarse >> fine)
        m.d.sync += [fine.eq(self.octave[:2]), self.value.eq(shifted[1:] + shifted[0])]
        return m
""",
    ),
    "a product with a power of two": TrueRewrite(
        "exponential",
        3,
        """\
    def elaborate(self, platform):
        m = Module()
        fraction, power = Signal(5), Signal(16)
        product = Signal(23)
        index = fraction[5 - (self.entries - 1).bit_length() :]
        table = Array([int(entry) for entry in tables.exponential(self.entries)])
        m.d.sync += [
            fraction.eq(self.fraction),
            power.eq(Const(1 << 15, 16) >> self.octave),
            product.eq(table[index] * power + (1 << 14)),
            self.value.eq(product >> 15),
        ]
        return m
""",
    ),
}


def _chords(unit: UnitName, table: str, low: int, bits: int, fall: int) -> dict[str, TrueRewrite]:
    """Rewrites of a unit that holds a curve as chords.

    Args:
        unit: Its name.
        table: Its function in `hwlib.reference.tables`.
        low: Smallest mantissa.
        bits: Of a mantissa within its segment.
        fall: Bits of a fall.
    """
    segment = f"""\
        starts, falls = tables.{table}()
        segments = list(enumerate(zip(starts, falls, strict=True), {low >> bits}))
"""
    return {
        "a curve from the end of its segment on": TrueRewrite(
            unit,
            2,
            f"""\
    def elaborate(self, platform):
        m = Module()
        end, fall, rest = Signal(16), Signal({fall}), Signal({bits})
        m.d.sync += rest.eq(~self.v[:{bits}])
{segment}\
        with m.Switch(self.v[{bits}:]):
            for at, (start, slope) in segments:
                with m.Case(at):
                    m.d.sync += [end.eq(int(start - slope)), fall.eq(int(slope))]
        climbed = (fall * rest + fall + {(1 << bits) - 1}) >> {bits}
        m.d.sync += self.r.eq(end + climbed)
        return m
""",
        ),
        "a product in a cycle of its own": TrueRewrite(
            unit,
            3,
            f"""\
    def elaborate(self, platform):
        m = Module()
        start, late = Signal(16), Signal(16)
        fall, fraction, product = Signal({fall}), Signal({bits}), Signal({fall + bits})
{segment}\
        with m.Switch(self.v[{bits}:]):
            for at, (begin, slope) in segments:
                with m.Case(at):
                    m.d.sync += [start.eq(int(begin)), fall.eq(int(slope))]
        m.d.sync += [
            fraction.eq(self.v[:{bits}]),
            product.eq(fall * fraction),
            late.eq(start),
            self.r.eq(late - product[{bits}:]),
        ]
        return m
""",
        ),
        "arrays behind a registered mantissa, and a product of rows in a tree": TrueRewrite(
            unit,
            2,
            f"""\
    def elaborate(self, platform):
        m = Module()
        v = Signal(16, reset_less=True)
        r = Signal(16, reset_less=True)
        starts, falls = tables.{table}()
        at = v[{bits}:] - {low >> bits}
        start, fall = Signal(16), Signal({fall})
        m.d.comb += [
            start.eq(Array([int(value) for value in starts])[at[:6]]),
            fall.eq(Array([int(value) for value in falls])[at[:6]]),
        ]
        rows = [(fall & v[k].replicate({fall})) << k for k in range({bits})]
        while len(rows) > 1:
            pairs = list(zip(rows[::2], rows[1::2]))
            rows = [a + b for a, b in pairs] + rows[2 * len(pairs) :]
        m.d.sync += [v.eq(self.v), r.eq(start - (rows[0] >> {bits}))]
        m.d.comb += self.r.eq(r)
        return m
""",
        ),
        "table and chord in one cycle, of the table anything where there is no result": TrueRewrite(
            unit,
            1,
            f"""\
    def elaborate(self, platform):
        m = Module()
        r = Signal(16, reset_less=True)
        starts, falls = tables.{table}()
        at = (self.v[{bits}:] - {low >> bits})[:6]
        start, fall = Signal(16), Signal({fall})
        m.d.comb += [
            start.eq(Array([int(value) for value in starts])[at]),
            fall.eq(Array([int(value) for value in falls])[at]),
            self.r.eq(r),
        ]
        m.d.sync += r.eq(start - ((fall * self.v[:{bits}]) >> {bits}))
        return m
""",
        ),
    }


RESCALER = {
    "the whole product in one cycle": TrueRewrite(
        "rescaler",
        3,
        """\
    def elaborate(self, platform):
        m = Module()
        product, shifted = Signal(signed(48)), Signal(signed(48))
        amount = Signal(6)
        rounded = Signal(signed(47))
        over = Signal()
        m.d.comb += [
            rounded.eq(shifted[1:].as_signed() + shifted[0]),
            over.eq((rounded[31:] != 0) & (rounded[31:] != 0xFFFF)),
        ]
        with m.If(self.enable):
            m.d.sync += [
                product.eq(self.acc * self.multiplier),
                amount.eq(self.shift - 1),
                shifted.eq(product >> amount),
                self.y.eq(rounded),
            ]
            with m.If(over):
                m.d.sync += self.y.eq(Mux(rounded[-1], -(1 << 31), (1 << 31) - 1))
        return m
""",
    ),
    "half a unit added before the shift": TrueRewrite(
        "rescaler",
        4,
        """\
    def elaborate(self, platform):
        m = Module()
        acc, multiplier = Signal(signed(32)), Signal(16)
        product, raised = Signal(signed(48)), Signal(signed(49))
        shifts = [Signal(6, name=f"shift_{stage}") for stage in range(3)]
        result = Signal(signed(49))
        m.d.comb += result.eq(raised >> shifts[2])
        with m.If(self.enable):
            m.d.sync += [
                acc.eq(self.acc),
                multiplier.eq(self.multiplier),
                shifts[0].eq(self.shift),
                product.eq(acc * multiplier),
                shifts[1].eq(shifts[0]),
                raised.eq(product + (Const(1, 48) << shifts[1] >> 1)[:48]),
                shifts[2].eq(shifts[1]),
            ]
            with m.If(result > (1 << 31) - 1):
                m.d.sync += self.y.eq((1 << 31) - 1)
            with m.Elif(result < -(1 << 31)):
                m.d.sync += self.y.eq(-(1 << 31))
            with m.Else():
                m.d.sync += self.y.eq(result)
        return m
""",
    ),
    "sign and magnitude": TrueRewrite(
        "rescaler",
        5,
        """\
    def elaborate(self, platform):
        m = Module()
        magnitude, multiplier = Signal(32), Signal(16)
        product, shifted, raised = Signal(48), Signal(49), Signal(49)
        signs = [Signal(name=f"sign_{stage}") for stage in range(4)]
        shifts = [Signal(6, name=f"shift_{stage}") for stage in range(3)]
        limit = Signal(32)
        result = Signal(32)
        # A half is rounded up, so the magnitude of a negative one is rounded down.
        half = (Const(1, 48) << shifts[1] >> 1)[:47]
        m.d.comb += [
            limit.eq(Mux(signs[3], 1 << 31, (1 << 31) - 1)),
            result.eq(Mux(shifted > limit, limit, shifted)),
        ]
        with m.If(self.enable):
            m.d.sync += [
                magnitude.eq(Mux(self.acc[31], -self.acc, self.acc)),
                multiplier.eq(self.multiplier),
                product.eq(magnitude * multiplier),
                raised.eq(product + half - signs[1]),
                shifted.eq(raised >> shifts[2]),
                shifts[0].eq(self.shift),
                signs[0].eq(self.acc[31] & (self.multiplier != 0)),
                self.y.eq(Mux(signs[3], -result, result)),
            ]
            m.d.sync += [later.eq(sooner) for sooner, later in zip(shifts, shifts[1:])]
            m.d.sync += [later.eq(sooner) for sooner, later in zip(signs, signs[1:])]
        return m
""",
    ),
    "a shifter in two cycles, coarse and fine": TrueRewrite(
        "rescaler",
        5,
        """\
    def elaborate(self, platform):
        m = Module()
        low, high = Signal(32), Signal(signed(32))
        product, coarse, fine = Signal(signed(48)), Signal(signed(48)), Signal(signed(48))
        counts = [Signal(6, name=f"count_{stage}") for stage in range(3)]
        rounded = Signal(signed(48))
        m.d.comb += rounded.eq((fine >> 1) + fine[0])
        top = rounded[31:]
        bound = Const((1 << 31) - 1, 32) ^ top[-1].replicate(32)
        with m.If(self.enable):
            m.d.sync += [
                low.eq(self.acc[:16] * self.multiplier),
                high.eq(self.acc[16:].as_signed() * self.multiplier),
                counts[0].eq(self.shift - 1),
                product.eq(low + Cat(Const(0, 16), high).as_signed()),
                counts[1].eq(counts[0]),
                coarse.eq(product >> (counts[1][3:] << 3)),
                counts[2].eq(counts[1]),
                fine.eq(coarse >> counts[2][:3]),
                self.y.eq(Mux(top.all() | ~top.any(), rounded, bound)),
            ]
        return m
""",
    ),
    "clipped to 33 bits before it is rounded": TrueRewrite(
        "rescaler",
        4,
        """\
    def elaborate(self, platform):
        m = Module()
        low, high = Signal(32, reset_less=True), Signal(signed(32), reset_less=True)
        product = Signal(signed(48), reset_less=True)
        clipped = Signal(signed(33), reset_less=True)
        amounts = [Signal(6, name=f"amount_{stage}", reset_less=True) for stage in range(2)]
        y = Signal(signed(32), reset_less=True)
        shifted, rounded = Signal(signed(48)), Signal(33)
        fits = ~shifted[32:].any() | shifted[32:].all()
        m.d.comb += [
            shifted.eq(product >> amounts[1]),
            rounded.eq((clipped + 1) >> 1),
            self.y.eq(y),
        ]
        with m.If(self.enable):
            m.d.sync += [
                low.eq(self.acc[:16] * self.multiplier),
                high.eq(self.acc[16:].as_signed() * self.multiplier),
                amounts[0].eq(self.shift - 1),
                product.eq(low + Cat(Const(0, 16), high).as_signed()),
                amounts[1].eq(amounts[0]),
                clipped.eq(
                    Mux(fits, shifted, Cat((~shifted[-1]).replicate(32), shifted[-1]).as_signed())
                ),
                # Of what fits 33 bits only 2^31 does not fit 32.
                y.eq(Mux(rounded[31] & ~rounded[32], (1 << 31) - 1, rounded.as_signed())),
            ]
        return m
""",
    ),
    "a product of four nibbles, added in pairs": TrueRewrite(
        "rescaler",
        5,
        """\
    def elaborate(self, platform):
        m = Module()
        parts = [Signal(signed(36), name=f"part_{k}") for k in range(4)]
        pairs = [Signal(signed(41), name=f"pair_{k}") for k in range(2)]
        product, shifted = Signal(signed(48)), Signal(signed(48))
        shifts = [Signal(6, name=f"shift_{stage}") for stage in range(3)]
        rounded = Signal(signed(47))
        m.d.comb += rounded.eq((shifted + 1) >> 1)
        fits = rounded == rounded[:32].as_signed()
        bound = Cat((~rounded[-1]).replicate(31), rounded[-1])
        with m.If(self.enable):
            m.d.sync += [
                *(parts[k].eq(self.acc * self.multiplier.word_select(k, 4)) for k in range(4)),
                *(pairs[k].eq(parts[2 * k] + (parts[2 * k + 1] << 4)) for k in range(2)),
                product.eq(pairs[0] + (pairs[1] << 8)),
                shifts[0].eq(self.shift),
                *(later.eq(sooner) for sooner, later in zip(shifts, shifts[1:])),
                shifted.eq(product >> (shifts[2] - 1)[:6]),
                self.y.eq(Mux(fits, rounded, bound.as_signed())),
            ]
        return m
""",
    ),
}

_DRAIN = """\
        m.d.comb += self.drain_out.eq(drained)
        with m.If(self.capture):
            m.d.sync += drained.eq(total)
        with m.Elif(self.shift):
            m.d.sync += drained.eq(self.drain_in)
        return m
"""
"""The end of an element whose sum and drain register are the shipped ones."""

_CARRY_SAVE = """\
        # The sum is the two words'; a chain moves it two cycles after a capture at the earliest,
        # so that it can be added up in the one between.
        word, carries = Signal(self.bits), Signal(self.bits)
        taken, taken_carries, late = Signal(self.bits), Signal(self.bits), Signal()
        drained = Signal(signed(self.bits))
        addend, x, y = Signal(signed(self.bits)), Signal(self.bits), Signal(self.bits)
        m.d.comb += [
            addend.eq(product),
            x.eq(word & (~self.capture).replicate(self.bits)),
            y.eq(carries & (~self.capture).replicate(self.bits)),
            self.drain_out.eq(drained),
        ]
        m.d.sync += [
            word.eq(x ^ y ^ addend),
            carries.eq(((x & y) | (x & addend) | (y & addend)) << 1),
            late.eq(self.capture),
        ]
        with m.If(self.capture):
            m.d.sync += [taken.eq(word), taken_carries.eq(carries)]
        with m.If(late):
            m.d.sync += drained.eq(taken + taken_carries)
        with m.Elif(self.shift):
            m.d.sync += drained.eq(self.drain_in)
        return m
"""
"""The end of an element whose sum is kept in carry-save."""

MAC = {
    "rows after Baugh and Wooley": TrueRewrite(
        "mac",
        2,
        """\
    def elaborate(self, platform):
        m = Module()
        a, w = Signal(9), Signal(8)
        total, drained = Signal(self.bits), Signal(signed(self.bits))
        rows = []
        for k in range(8):
            bits = [a[i] & w[k] for i in range(9)]
            # A bit with one sign in it has the weight -2^n: turned over, it takes 2^n less.
            turned = [~bit if (i == 8) != (k == 7) else bit for i, bit in enumerate(bits)]
            rows.append(Cat(Const(0, k), *turned))
        constant = -sum(1 << i + k for i in range(9) for k in range(8) if (i == 8) != (k == 7))
        product = Signal(signed(17))
        m.d.comb += product.eq((sum(rows[1:], rows[0]) + Const(constant % (1 << 17), 17))[:17])
        m.d.sync += [
            a.eq(self.a),
            w.eq(self.w),
            total.eq(Mux(self.capture, 0, total) + product),
        ]
"""
        + _DRAIN,
    ),
    "sign and magnitude": TrueRewrite(
        "mac",
        2,
        """\
    def elaborate(self, platform):
        m = Module()
        a, w, negative = Signal(9), Signal(8), Signal()
        total, drained = Signal(self.bits), Signal(signed(self.bits))
        product, kept = Signal(17), Signal(self.bits)
        m.d.comb += [product.eq(a * w), kept.eq(Mux(self.capture, 0, total))]
        m.d.sync += [
            a.eq(Mux(self.a < 0, -self.a, self.a)),
            w.eq(Mux(self.w < 0, -self.w, self.w)),
            negative.eq(self.a[8] ^ self.w[7]),
            total.eq(Mux(negative, kept - product, kept + product)),
        ]
"""
        + _DRAIN,
    ),
    "a sum in carry-save that is added up as it is drained": TrueRewrite(
        "mac",
        2,
        """\
    def elaborate(self, platform):
        m = Module()
        a, w, product = Signal(signed(9)), Signal(signed(8)), Signal(signed(17))
        m.d.sync += [a.eq(self.a), w.eq(self.w)]
        m.d.comb += product.eq(a * w)
"""
        + _CARRY_SAVE,
    ),
    "two halves of a weight in four stages": TrueRewrite(
        "mac",
        4,
        """\
    def elaborate(self, platform):
        m = Module()
        a, w = Signal(signed(9)), Signal(8)
        low, high, product = Signal(signed(13)), Signal(signed(13)), Signal(signed(17))
        total, drained = Signal(signed(self.bits)), Signal(signed(self.bits))
        m.d.sync += [
            a.eq(self.a),
            w.eq(self.w),
            low.eq(a * w[:4]),
            high.eq(a * w[4:].as_signed()),
            product.eq(low + (high << 4)),
            total.eq(Mux(self.capture, product, total + product)),
        ]
"""
        + _DRAIN,
    ),
    "operands straight from the wires": TrueRewrite(
        "mac",
        1,
        """\
    def elaborate(self, platform):
        m = Module()
        total, drained = Signal(signed(self.bits)), Signal(signed(self.bits), reset_less=True)
        addend = Signal(signed(self.bits))
        m.d.comb += addend.eq(total & (~self.capture).replicate(self.bits))
        m.d.sync += total.eq(self.a * self.w + addend)
"""
        + _DRAIN,
    ),
    "a sum that counts down": TrueRewrite(
        "mac",
        3,
        """\
    def elaborate(self, platform):
        m = Module()
        a, w = Signal(signed(9)), Signal(signed(8), reset_less=True)
        product = Signal(signed(17))
        # The register holds -1 - sum, and a chain moves it so.
        rest = Signal(signed(self.bits), init=-1)
        drained = Signal(signed(self.bits), reset_less=True)
        m.d.comb += self.drain_out.eq(~drained)
        m.d.sync += [
            a.eq(self.a),
            w.eq(self.w),
            product.eq(a * w),
            rest.eq(Mux(self.capture, -1, rest) - product),
        ]
        with m.If(self.shift):
            m.d.sync += drained.eq(~self.drain_in)
        with m.If(self.capture):
            m.d.sync += drained.eq(rest)
        return m
""",
    ),
}

COMPOSABLE_MAC = {
    "signs decided before the operands' registers": TrueRewrite(
        "composable_mac",
        2,
        """\
    def elaborate(self, platform):
        m = Module()
        narrow_a, narrow_w = Signal(), Signal()
        total, drained = Signal(signed(self.bits)), Signal(signed(self.bits))
        m.d.sync += [narrow_a.eq(self.mode == 3), narrow_w.eq(self.mode[1])]
        bricks = []
        for k in range(4):
            x, y = Signal(signed(5), name=f"x_{k}"), Signal(signed(5), name=f"y_{k}")
            nibble, weight = self.a.word_select(k, 4), self.w.word_select(k, 4)
            signed_a = self.mode != 1 if k % 2 else self.mode == 3
            signed_w = 1 if k > 1 else self.mode[1]
            m.d.sync += [
                x.eq(Cat(nibble, nibble[3] & signed_a).as_signed()),
                y.eq(Cat(weight, weight[3] & signed_w).as_signed()),
            ]
            bricks.append(x * y)
        low = bricks[0] + Mux(narrow_a, bricks[1], bricks[1] << 4)
        high = bricks[2] + Mux(narrow_a, bricks[3], bricks[3] << 4)
        product = Signal(signed(16))
        m.d.comb += product.eq(low + Mux(narrow_w, high, high << 4))
        m.d.sync += total.eq(Mux(self.capture, product, total + product))
"""
        + _DRAIN,
    ),
    "each mode's sum of its own, chosen at the end": TrueRewrite(
        "composable_mac",
        3,
        """\
    def elaborate(self, platform):
        m = Module()
        a, w, mode = Signal(16), Signal(16), Signal(2)
        total, drained = Signal(signed(self.bits)), Signal(signed(self.bits))
        m.d.sync += [a.eq(self.a), w.eq(self.w), mode.eq(self.mode)]
        weight = Cat(w[:4], w[8:12]).as_signed()
        nibbles = [
            a.word_select(k, 4).as_signed() * w.word_select(k, 4).as_signed() for k in range(4)
        ]
        product = Signal(signed(17))
        with m.Switch(mode):
            with m.Case(0):
                m.d.sync += product.eq(a[:8].as_signed() * weight)
            with m.Case(1):
                m.d.sync += product.eq(a[8:] * weight)
            with m.Case(2):
                m.d.sync += product.eq(
                    a[:8].as_signed() * w[4:8].as_signed()
                    + a[8:].as_signed() * w[8:12].as_signed()
                )
            with m.Case(3):
                m.d.sync += product.eq(sum(nibbles[1:], nibbles[0]))
        m.d.sync += total.eq(Mux(self.capture, product, total + product))
"""
        + _DRAIN,
    ),
    "products of unsigned nibbles and corrections for their signs": TrueRewrite(
        "composable_mac",
        3,
        """\
    def elaborate(self, platform):
        m = Module()
        total, drained = Signal(signed(self.bits)), Signal(signed(self.bits))
        narrow_a, narrow_w = Signal(), Signal()
        m.d.sync += [narrow_a.eq(self.mode == 3), narrow_w.eq(self.mode[1])]
        wide = []
        for k in range(4):
            x, y = self.a.word_select(k, 4), self.w.word_select(k, 4)
            minus_x = x[3] & (self.mode != 1 if k % 2 else self.mode == 3)
            minus_y = y[3] & (1 if k > 1 else self.mode[1])
            brick = Signal(signed(10), name=f"brick_{k}")
            taken = (y & minus_x.replicate(4)) + (x & minus_y.replicate(4))
            m.d.sync += brick.eq(x * y - (taken << 4) + ((minus_x & minus_y) << 8))
            wide.append(brick)
        low, high = Signal(signed(14)), Signal(signed(14))
        m.d.comb += [
            low.eq(Mux(narrow_a, wide[0] + wide[1], wide[0] + (wide[1] << 4))),
            high.eq(Mux(narrow_a, wide[2] + wide[3], wide[2] + (wide[3] << 4))),
        ]
        product = Signal(signed(16))
        m.d.sync += [
            product.eq(Mux(narrow_w, low + high, low + (high << 4))),
            total.eq(Mux(self.capture, 0, total) + product),
        ]
"""
        + _DRAIN,
    ),
    "operands straight from the wires, and two rows a brick": TrueRewrite(
        "composable_mac",
        1,
        """\
    def elaborate(self, platform):
        m = Module()
        total, drained = Signal(signed(self.bits)), Signal(signed(self.bits), reset_less=True)
        narrow_a = self.mode == 3
        bricks = []
        for k in range(4):
            x, y = self.a.word_select(k, 4), self.w.word_select(k, 4)
            operand = Signal(signed(5), name=f"operand_{k}")
            signed_a = self.mode != 1 if k % 2 else narrow_a
            signed_w = 1 if k > 1 else self.mode[1]
            m.d.comb += operand.eq(Cat(x, x[3] & signed_a).as_signed())
            # The upper half of a weight is -2..3: -2 and -1 where it has its sign.
            upper = Cat(y[2:], y[3] & signed_w).as_signed()
            bricks.append(operand * y[:2] + (operand * upper << 2))
        low = bricks[0] + (bricks[1] << Mux(narrow_a, 0, 4))
        high = bricks[2] + (bricks[3] << Mux(narrow_a, 0, 4))
        product = Signal(signed(16))
        m.d.comb += product.eq(low + (high << Mux(self.mode[1], 0, 4)))
        m.d.sync += total.eq(Mux(self.capture, product, total + product))
"""
        + _DRAIN,
    ),
    "operands straight from the wires, and the sum's upper half a cycle behind": TrueRewrite(
        "composable_mac",
        1,
        '''\
    def elaborate(self, platform):
        m = Module()
        low, raised, product = Signal(15), Signal(17), Signal(signed(16))
        m.d.comb += [
            product.eq(self.product(m)),
            # A sign bit of weight -2^15, turned over, is the product with 2^15 on top.
            raised.eq(Mux(self.capture, 0, low) + Cat(product[:15], ~product[15])),
        ]
        late, step = Signal(), Signal(2, init=1)
        high, width = Signal(self.bits - 15), self.bits - 15
        drained_low, drained_high = Signal(15), Signal(width)
        m.d.comb += self.drain_out.eq(Cat(drained_low, drained_high).as_signed())
        m.d.sync += [
            low.eq(raised[:15]),
            late.eq(self.capture),
            step.eq(raised[15:]),
            high.eq(Mux(late, 0, high) + step - 1),
        ]
        for taken, half, register, neighbour in (
            (self.capture, low, drained_low, self.drain_in[:15]),
            (late, high, drained_high, self.drain_in[15 : self.bits]),
        ):
            with m.If(taken):
                m.d.sync += register.eq(half)
            with m.Elif(self.shift):
                m.d.sync += register.eq(neighbour)
        return m

    def product(self, m):
        """The four bricks, each the sum of two rows, shifted up by the mode."""
        a_signed = [self.mode == 3, self.mode != 1] * 2
        w_signed = [self.mode[1], self.mode[1], 1, 1]
        bricks = []
        for k in range(4):
            x, y = self.a.word_select(k, 4), self.w.word_select(k, 4)
            operand = Cat(x, x[3] & a_signed[k]).as_signed()
            upper = Cat(y[2:], y[3] & w_signed[k]).as_signed()
            brick = Signal(signed(10), name=f"brick_{k}")
            m.d.comb += brick.eq(operand * y[:2] + (operand * upper << 2))
            bricks.append(brick)
        low, high = (
            bricks[k] + Mux(self.mode == 3, bricks[k + 1], bricks[k + 1] << 4) for k in (0, 2)
        )
        return low + Mux(self.mode[1], high, high << 4)
''',
    ),
    "a sum in carry-save that is added up as it is drained": TrueRewrite(
        "composable_mac",
        2,
        """\
    def elaborate(self, platform):
        m = Module()
        a, w, mode = Signal(16), Signal(16), Signal(2)
        m.d.sync += [a.eq(self.a), w.eq(self.w), mode.eq(self.mode)]
        a_signed = [mode == 3, mode != 1, mode == 3, mode != 1]
        w_signed = [mode[1], mode[1], Const(1), Const(1)]
        product = Signal(signed(16))
        parts = []
        for k in range(4):
            x, y = a.word_select(k, 4), w.word_select(k, 4)
            brick = Signal(signed(10), name=f"brick_{k}")
            m.d.comb += brick.eq(
                Cat(x, x[3] & a_signed[k]).as_signed() * Cat(y, y[3] & w_signed[k]).as_signed()
            )
            up = Mux(mode == 3, 0, 4 * (k % 2)) + Mux(mode[1], 0, 4 * (k // 2))
            parts.append(brick << up[:4])
        m.d.comb += product.eq(sum(parts[1:], parts[0]))
"""
        + _CARRY_SAVE,
    ),
}

REWRITES: dict[str, TrueRewrite] = {
    f"{rewrite.unit}: {claim}": rewrite
    for table in (
        ACTIVATION,
        EXPONENTIAL,
        _chords("inverse_sqrt", "inverse_sqrt", 1 << 14, 10, 14),
        _chords("reciprocal", "reciprocal", 1 << 15, 9, 11),
        RESCALER,
        MAC,
        COMPOSABLE_MAC,
    )
    for claim, rewrite in table.items()
}
"""All of them, by unit and what is different."""
