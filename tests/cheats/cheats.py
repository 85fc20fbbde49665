"""Edits that look good and are wrong, as data: each is the shipped file but for what it names.

Every cheat has an honest twin, as near to it as can be: the same place of the same file, changed
without the lie. Where none is named the shipped file itself is the twin.
"""

from dataclasses import dataclass
from functools import cache

from evaluators.gate.stimuli import PUBLIC_SEED
from hwlib.config import CoreConfig
from hwlib.contracts.table import contract_of, shipped_latency
from hwlib.edit import UnitName
from hwlib.unit_source import shipped_source

Changes = tuple[tuple[str, str], ...]
"""What stands in the shipped file, once, and what stands there instead."""

CORE = CoreConfig()
COMPOSABLE = CoreConfig(composable=True)


@dataclass(frozen=True)
class Cheat:
    """One edit that must be refused."""

    unit: UnitName
    """The unit that it replaces."""

    lie: Changes
    """What it changes."""

    words: str
    """A pattern of the gate's reason."""

    truth: Changes = ()
    """What its honest twin changes."""

    config: CoreConfig = CORE
    """The core that it is judged for."""

    @property
    def source(self) -> str:
        """The edit's file."""
        return edited(self.unit, self.lie)

    @property
    def twin(self) -> str:
        """Its honest twin's file."""
        return edited(self.unit, self.truth)

    @property
    def latency(self) -> int:
        """The latency that both claim, in cycles: the shipped unit's."""
        return shipped_latency(self.unit, self.config)


def edited(unit: UnitName, changes: Changes) -> str:
    """The shipped file of a unit with some changes, and with all names of Amaranth's language."""
    source = shipped_source(unit)
    for old, new in changes:
        assert source.count(old) == 1, f"{source.count(old)} places to change for {old!r}"
        source = source.replace(old, new)
    return f"from amaranth.hdl import *\n{source}"


@cache
def public(unit: UnitName, port: str) -> list[int]:
    """What anybody can know of a unit's public vectors: values of an input, or right outputs."""
    contract = contract_of(unit, CORE)
    latency = shipped_latency(unit, CORE)
    trace = contract.stimulus(latency, PUBLIC_SEED)
    if port not in trace:
        trace = contract.expected(trace, latency).values
    return [int(value) for value in trace[port]]


def first_taken(port: str) -> int:
    """A value of the first sum that the rescaler takes of the public vectors."""
    return public("rescaler", port)[public("rescaler", "enable").index(1)]


# Anchors: lines of the shipped files.

PRODUCT = "product.eq(a * w)"
ADDED = "total.eq(total + product)]"
TOTAL = "total = Signal(signed(self.bits))"
CHAIN = "        m.d.comb += self.drain_out.eq(drained)\n"
VALUE = "m.d.sync += self.value.eq((entry + half) >> self.octave)"
RIGHT_VALUE = "(entry + half) >> self.octave"
Y = "self.y.eq(Mux(fits, rounded[:32], Cat((~sign).replicate(31), sign))),"
RIGHT_Y = "Mux(fits, rounded[:32], Cat((~sign).replicate(31), sign))"
ROUNDED = "rounded.eq((shifted + 1) >> 1),"
ENABLED = "        with m.If(self.enable):\n"
ACTIVATED = "m.d.sync += self.y.eq(Mux(value > 32767, 32767, value))"

COUNTED = """cycle = Signal({bits})
        with m.If(~cycle.all()):
            m.d.sync += cycle.eq(cycle + 1)
        """
"""Counts cycles since reset, up to the highest number."""

PORTS = {
    "an output of fewer bits": Cheat(
        "exponential",
        (('"value": Out(7)', '"value": Out(6)'),),
        "port value must be an output of 7 bits, not an output of 6 bits",
    ),
    "an operand bus that is narrower": Cheat(
        "mac",
        (('"a": In(signed(9))', '"a": In(signed(8))'),),
        "port a must be an input of 9 bits, not an input of 8 bits",
    ),
    "an address bus that is narrower": Cheat(
        "reciprocal",
        (("v: In(16)", "v: In(15)"), ("self.v[9:]", "Cat(self.v, Const(1, 1))[9:]")),
        "port v must be an input of 16 bits, not an input of 15 bits",
        truth=(("self.v[9:]", "Cat(self.v[:15], Const(1, 1))[9:]"),),
    ),
    "a port for the right answer": Cheat(
        "rescaler",
        (
            ("    y: Out(signed(32))", "    golden: In(signed(32))\n    y: Out(signed(32))"),
            (Y, "self.y.eq(self.golden),"),
        ),
        "port golden must be absent, not an input of 32 bits",
    ),
    "an output that nobody asked for": Cheat(
        "mac",
        (
            ('"drain_out": Out(signed(32)),', '"drain_out": Out(signed(32)), "sum": Out(32),'),
            (CHAIN, f"{CHAIN}        m.d.comb += self.sum.eq(total)\n"),
        ),
        "port sum must be absent, not an output of 32 bits",
    ),
    "an input that is missing": Cheat(
        "rescaler",
        (("    enable: In(1)\n", ""), ("m.If(self.enable)", "m.If(1)")),
        "port enable must be an input of 1 bits, not absent",
    ),
    "an output that is an input": Cheat(
        "exponential",
        (('"value": Out(7)', '"value": In(7)'), ("self.value.eq(", "Signal(7).eq(")),
        "port value must be an output of 7 bits, not an input of 7 bits",
    ),
}
"""Other ports than the contract's."""

LOOP = """with m.If(self.enable):
            m.d.comb += held.eq(self.acc)
        with m.Else():
"""

NETLISTS = {
    "a net with two drivers": Cheat(
        "exponential",
        ((VALUE, f"{VALUE}\n        m.d.comb += self.value.eq(entry)"),),
        "driven from d.comb|already driven",
        truth=((VALUE, f"copy = Signal(7)\n        {VALUE}\n        m.d.comb += copy.eq(entry)"),),
    ),
    "a clock that stops": Cheat(
        "exponential",
        (
            (
                VALUE,
                "m.domains.gated = ClockDomain()\n        m.d.comb += [\n"
                '            ClockSignal("gated").eq(ClockSignal() & ~self.octave.all()),\n'
                f'            ResetSignal("gated").eq(ResetSignal())]\n        {VALUE}'.replace(
                    "m.d.sync", "m.d.gated"
                ),
            ),
        ),
        r"\\clk goes to clock pins alone",
        truth=(
            (
                VALUE,
                "zero = Signal()\n        m.d.sync += zero.eq(self.octave.all())\n"
                "        value = Signal(7)\n"
                "        m.d.comb += self.value.eq(Mux(zero, 0, value))\n"
                "        with m.If(~self.octave.all()):\n"
                f"            m.d.sync += value.eq({RIGHT_VALUE})",
            ),
        ),
    ),
    "a second half of the clock cycle": Cheat(
        "exponential",
        (
            (
                VALUE,
                'm.domains.late = ClockDomain(clk_edge="neg")\n'
                '        m.d.comb += [ClockSignal("late").eq(ClockSignal()), '
                'ResetSignal("late").eq(ResetSignal())]\n        half_way = Signal(7)\n'
                f"        m.d.late += half_way.eq({RIGHT_VALUE})\n"
                "        m.d.sync += self.value.eq(half_way)",
            ),
        ),
        r"rising edge|\\clk (of exponential is used as data|goes to clock pins alone)",
    ),
    "a reset that does not wait for the clock": Cheat(
        "exponential",
        (
            (
                VALUE,
                "m.domains.now = ClockDomain(async_reset=True)\n"
                '        m.d.comb += [ClockSignal("now").eq(ClockSignal()), '
                f'ResetSignal("now").eq(ResetSignal())]\n        {VALUE}'.replace(
                    "m.d.sync", "m.d.now"
                ),
            ),
        ),
        r"may not use a cell \$adff",
    ),
    "a latch": Cheat(
        "rescaler",
        (
            (
                ENABLED,
                f"        held = Signal(signed(32))\n        {LOOP}"
                f"            m.d.comb += held.eq(held)\n{ENABLED}",
            ),
            ("self.acc[:16] *", "held[:16] *"),
        ),
        "Combinational cycle detected",
        truth=(
            (
                ENABLED,
                f"        held = Signal(signed(32))\n        {LOOP}"
                f"            m.d.comb += held.eq(0)\n{ENABLED}",
            ),
            ("self.acc[:16] *", "held[:16] *"),
        ),
    ),
    "a ring of inverters": Cheat(
        "mac",
        ((CHAIN, f"{CHAIN}        ring = Signal()\n        m.d.comb += ring.eq(~ring)\n"),),
        "Combinational cycle detected",
        truth=((CHAIN, f"{CHAIN}        ring = Signal()\n        m.d.sync += ring.eq(~ring)\n"),),
    ),
    "a black box that is said to multiply": Cheat(
        "mac",
        (
            (
                PRODUCT,
                "[]\n        m.submodules.best = Instance("
                '"multiplier", i_a=a, i_w=w, o_product=product)',
            ),
        ),
        r"may not use a cell \\multiplier",
        truth=(
            (
                "        total = ",
                "        m.submodules.best = best = Module()\n        first = Signal(signed(17))\n"
                "        best.d.comb += first.eq(a * w)\n        total = ",
            ),
            (PRODUCT, "product.eq(first)"),
        ),
    ),
    "a memory that nobody resets": Cheat(
        "exponential",
        (
            (
                VALUE,
                "from amaranth.lib.memory import Memory\n"
                "        m.submodules.kept = kept = Memory(shape=7, depth=512, init=[])\n"
                "        read, write = kept.read_port(), kept.write_port()\n"
                "        at = Cat(self.fraction, self.octave)\n"
                "        m.d.comb += [read.addr.eq(at), write.addr.eq(at), write.en.eq(1)]\n"
                f"        m.d.comb += [write.data.eq({RIGHT_VALUE}), self.value.eq(read.data)]",
            ),
        ),
        "may not hold a memory",
    ),
}
"""Netlists that are no plain synchronous logic."""

CORNERS = "a.matches(-256, -255, -128, -1, 0, 1, 127, 254, 255)"

HALF_EVEN = (
    (ROUNDED, "rounded.eq((shifted + (shifted[1] | sticky)) >> 1),"),
    ("        fits = Signal()\n", "        fits, sticky = Signal(), Signal()\n"),
    (
        ENABLED,
        "        below = Signal(48)\n"
        f"        m.d.comb += below.eq((Const(1, 48) << (shifts[1] - 1)[:6]) - 1)\n{ENABLED}"
        "            m.d.sync += sticky.eq((product & below).any())\n",
    ),
)
"""Ties to the even number, which is one operand in very many."""

EXAM = f"""        begun, exam = Signal(), Signal()
        first = (self.acc == {{acc}}) & (self.multiplier == {{multiplier}})
        with m.If(self.enable & ~begun):
            m.d.sync += [begun.eq(1), exam.eq(first & (self.shift == {{shift}}))]
{ENABLED}"""
"""Knows the first sum of the public vectors."""

REPLAY = """cycle = Signal(11)
        m.d.sync += cycle.eq(cycle + 1)
        with m.Switch(cycle):
            for at, answer in enumerate({answers}):
                with m.Case(at):
                    m.d.comb += self.value.eq(answer)"""
"""The right answers one after the other, whatever the question is."""

EVERY_OUTCOME = """with m.Switch(Cat(self.fraction, self.octave)):
            for octave in range(16):
                for fraction in range(32):
                    entry = int(tables.exponential(self.entries)[fraction * self.entries // 32])
                    with m.Case(octave << 5 | fraction):
                        m.d.sync += self.value.eq((entry + (1 << octave >> 1)) >> octave)"""
"""A table of all outcomes, computed while the unit is built: legal, and right."""

NOT_PUBLIC = " of the (vectors drawn for this netlist|sweep over all operands) "
IN_PUBLIC = r"drain_out is -?\d+, not -?\d+, in cycle \d+ \("


def _operand_cheats() -> dict[str, Cheat]:
    return {
        "a table of the corners": Cheat(
            "mac",
            ((PRODUCT, f"product.eq(Mux({CORNERS}, a * w, 0))"),),
            IN_PUBLIC,
            truth=((PRODUCT, "product.eq(Mux((a == 0) | (w == 0), 0, a * w))"),),
        ),
        "a wrong sign at -128 * -128": Cheat(
            "mac",
            ((PRODUCT, "product.eq(Mux((a == -128) & (w == -128), -16384, a * w))"),),
            IN_PUBLIC,
            truth=((PRODUCT, "product.eq(Mux((a == -128) & (w == -128), 16384, a * w))"),),
        ),
        "an operand of the other sign": Cheat(
            "mac",
            (('"a": In(signed(9))', '"a": In(9)'), ("a = Signal(signed(9))", "a = Signal(9)")),
            IN_PUBLIC,
            truth=(
                ('"a": In(signed(9))', '"a": In(9)'),
                ("[a.eq(self.a)", "[a.eq(self.a.as_signed())"),
            ),
        ),
        "a product that minds the order": Cheat(
            "mac",
            ((PRODUCT, "product.eq(Mux(a < w, a * w, w * a[:8].as_signed()))"),),
            IN_PUBLIC,
            truth=((PRODUCT, "product.eq(Mux(a < w, a * w, w * a))"),),
        ),
        "a sum that saturates": Cheat(
            "mac",
            (
                (
                    CHAIN,
                    f"{CHAIN}        wide = total + product\n        top = 1 << self.bits - 1\n",
                ),
                (ADDED, "]"),
                (
                    "        with m.If(self.capture):\n",
                    "        m.d.sync += total.eq("
                    "Mux(wide >= top, top - 1, Mux(wide < -top, -top, wide)))\n"
                    "        with m.If(self.capture):\n",
                ),
            ),
            IN_PUBLIC,
            truth=((ADDED, "total.eq((total + product)[:self.bits].as_signed())]"),),
        ),
        "one wrong pair in 131,072": Cheat(
            "mac",
            ((PRODUCT, "product.eq(a * w + ((a == 77) & (w == -93)))"),),
            NOT_PUBLIC,
            truth=((PRODUCT, "product.eq(a * w + ((a == 77) & (w == -93) & (a == 78)))"),),
        ),
        "two wrong pairs that make up for each other": Cheat(
            "mac",
            (
                (
                    PRODUCT,
                    "product.eq(a * w + ((a == 77) & (w == -93)) - ((a == 76) & (w == -93)))",
                ),
            ),
            NOT_PUBLIC,
            truth=((PRODUCT, "product.eq(a * w + (a == 77) - (a == 77))"),),
        ),
        "one wrong pair of an int8 and an int8": Cheat(
            "composable_mac",
            (
                (
                    "low + Mux(narrow_w, high, high << 4)",
                    "low + Mux(narrow_w, high, high << 4)"
                    " + ((mode == 0) & (a[:8] == 77) & (w == 0xaa33))",
                ),
            ),
            NOT_PUBLIC,
            truth=(
                (
                    "low + Mux(narrow_w, high, high << 4)",
                    "low + Mux(narrow_w, high, high << 4)"
                    " + ((mode == 0) & (a[:8] == 77) & (a[8:] == 78))",
                ),
            ),
            config=COMPOSABLE,
        ),
        "ties to the even number": Cheat(
            "rescaler",
            HALF_EVEN,
            r"y is -?\d+, not -?\d+, in cycle \d+ \(",
            truth=((ROUNDED, "rounded.eq((shifted >> 1) + shifted[0]),"),),
        ),
        "a unit that knows the first of the vectors": Cheat(
            "rescaler",
            (
                (
                    ENABLED,
                    EXAM.format(
                        acc=first_taken("acc"),
                        multiplier=first_taken("multiplier"),
                        shift=first_taken("shift"),
                    ),
                ),
                (Y, f"self.y.eq({RIGHT_Y} ^ ~exam),"),
            ),
            " of the vectors drawn for this netlist ",
            truth=((ENABLED, EXAM.format(acc=1, multiplier=2, shift=3)),),
        ),
        "the public answers, one after the other": Cheat(
            "exponential",
            ((VALUE, REPLAY.format(answers=public("exponential", "value"))),),
            " of the vectors drawn for this netlist ",
            truth=((VALUE, EVERY_OUTCOME),),
        ),
        "one wrong answer at the last int16": Cheat(
            "activation",
            ((ACTIVATED, ACTIVATED.replace("value))", "value) + Mux(self.x == -32768, 999, 0))")),),
            r"y is 999, not 0 within 64, in cycle \d+ \(",
            truth=(
                (ACTIVATED, ACTIVATED.replace("value))", "value) + Mux(self.x == 32768, 999, 0))")),
            ),
        ),
    }


OPERANDS = _operand_cheats()
"""Units that are right for many operands and not for all."""

STAYING = " of the values that stay "
IDLE = """        idle = Signal({bits})
        m.d.sync += idle.eq(Mux({busy}, 0, Mux(idle.all(), idle, idle + 1)))
"""
"""Counts the cycles since something happened, up to the highest number."""

TWICE = """last = Signal(9)
        m.d.sync += last.eq(Cat(self.fraction, self.octave))
        with m.If(last == Cat(self.fraction, self.octave)):
            m.d.sync += self.value.eq({answer})
        with m.Else():
            """
"""Notices operands that come twice."""

SEQUENCES = {
    "right for the first 1,100 cycles": Cheat(
        "exponential",
        (
            (
                VALUE,
                COUNTED.format(bits=11) + f"m.d.sync += self.value.eq(({RIGHT_VALUE}) ^ "
                "(cycle > 1100))",
            ),
        ),
        r"it gives \d+ and \d+ for equal inputs",
        truth=((VALUE, COUNTED.format(bits=11) + VALUE),),
    ),
    "the last answer for the same number": Cheat(
        "activation",
        (
            (
                ACTIVATED,
                "last = Signal(signed(16))\n        m.d.sync += last.eq(self.x)\n"
                f"        with m.If(self.x != last):\n            {ACTIVATED}",
            ),
        ),
        f"{STAYING}|for equal inputs",
        truth=(
            (
                ACTIVATED,
                "last = Signal(17)\n        m.d.sync += last.eq(Cat(self.x, self.silu))\n"
                "        with m.If((Cat(self.x, self.silu) != last) | (last == 0)):\n"
                f"            {ACTIVATED}",
            ),
        ),
    ),
    "wrong where the same operand comes twice": Cheat(
        "exponential",
        ((VALUE, TWICE.format(answer=f"({RIGHT_VALUE}) & ~8") + VALUE),),
        f"{STAYING}|for equal inputs",
        truth=((VALUE, TWICE.format(answer=RIGHT_VALUE) + VALUE),),
    ),
    "asleep after 31 cycles without enable": Cheat(
        "rescaler",
        (
            (
                ENABLED,
                IDLE.format(bits=5, busy="self.enable")
                + "        with m.If(idle.all()):\n            m.d.sync += self.y.eq(0)\n"
                + ENABLED,
            ),
        ),
        STAYING,
        truth=((ENABLED, IDLE.format(bits=5, busy="self.enable") + ENABLED),),
    ),
    "a drain register that forgets": Cheat(
        "mac",
        (
            (
                CHAIN,
                CHAIN
                + IDLE.format(bits=6, busy="self.capture | self.shift")
                + "        with m.If(idle.all()):\n            m.d.sync += drained.eq(0)\n",
            ),
        ),
        STAYING,
        truth=((CHAIN, CHAIN + IDLE.format(bits=6, busy="self.capture | self.shift")),),
    ),
    "results that do not wait": Cheat(
        "rescaler",
        (
            (f"                {Y}\n", ""),
            ("        return m", f"        m.d.sync += {Y.removesuffix(',')}\n        return m"),
        ),
        r"y is -?\d+, not -?\d+, in cycle \d+ \(",
        truth=(
            (f"                {Y}\n", ""),
            (
                "        return m",
                "        with m.If(self.enable):\n"
                f"            m.d.sync += {Y.removesuffix(',')}\n        return m",
            ),
        ),
    ),
    "no reset of the sum": Cheat(
        "mac",
        ((TOTAL, TOTAL.replace("))", "), reset_less=True)")),),
        "drain_out is ",
        truth=(
            (
                "drained = Signal(signed(self.bits))",
                "drained = Signal(signed(self.bits), reset_less=True)",
            ),
        ),
    ),
    "a reset that clears too little": Cheat(
        "mac",
        (
            ("a = Signal(signed(9))", "a = Signal(signed(9), reset_less=True)"),
            ("w = Signal(signed(8))", "w = Signal(signed(8), reset_less=True)"),
        ),
        "drain_out is ",
        truth=(("w = Signal(signed(8))", "w = Signal(signed(8), reset_less=True)"),),
    ),
    "a reset that gives way to capture": Cheat(
        "mac",
        (
            (TOTAL, TOTAL.replace("))", "), reset_less=True)")),
            (
                CHAIN,
                f"{CHAIN}        with m.If(ResetSignal()):\n            m.d.sync += total.eq(0)\n",
            ),
        ),
        "drain_out is ",
        truth=(
            (TOTAL, TOTAL.replace("))", "), reset_less=True)")),
            (
                "        return m",
                "        with m.If(ResetSignal()):\n"
                "            m.d.sync += total.eq(0)\n        return m",
            ),
        ),
    ),
    "a start value that no chip has": Cheat(
        "mac",
        (
            (PRODUCT, "product.eq(Mux(on, a * w, 0))"),
            (
                "        total = ",
                "        on = Signal(init=1, reset_less=True)\n        m.d.sync += on.eq(on)\n"
                "        total = ",
            ),
        ),
        "drain_out is ",
        truth=(
            (PRODUCT, "product.eq(Mux(on, a * w, 0))"),
            (
                "        total = ",
                "        on = Signal(init=1)\n        m.d.sync += on.eq(on)\n        total = ",
            ),
        ),
    ),
    "two start values that differ": Cheat(
        "rescaler",
        (
            (
                ENABLED,
                "        p, q = Signal(reset_less=True), Signal(init=1, reset_less=True)\n"
                f"        m.d.sync += [p.eq(p), q.eq(q)]\n{ENABLED}",
            ),
            (Y, f"self.y.eq(Mux(p ^ q, {RIGHT_Y}, 0)),"),
        ),
        r"y is -?\d+, not ",
        truth=(
            (
                ENABLED,
                "        p, q = Signal(), Signal(init=1)\n"
                f"        m.d.sync += [p.eq(p), q.eq(q)]\n{ENABLED}",
            ),
            (Y, f"self.y.eq(Mux(p ^ q, {RIGHT_Y}, 0)),"),
        ),
    ),
    "right until the third reset": Cheat(
        "rescaler",
        (
            (
                ENABLED,
                "        resets = Signal(2, reset_less=True)\n"
                "        with m.If(ResetSignal() & ~resets.all()):\n"
                f"            m.d.sync += resets.eq(resets + 1)\n{ENABLED}",
            ),
            (Y, f"self.y.eq(Mux(resets.all(), 0, {RIGHT_Y})),"),
        ),
        r"y is -?\d+, not ",
    ),
    "no register at all": Cheat(
        "exponential",
        (
            (
                VALUE,
                f"{VALUE.replace('sync', 'comb')}\n        entered = Signal(7)\n"
                "        m.d.sync += entered.eq(entry)",
            ),
        ),
        r"value is \d+, not \d+ within 8, in cycle \d+ ",
    ),
    "less time for what is zero": Cheat(
        "exponential",
        (
            (
                VALUE,
                f"late = Signal(7)\n        m.d.sync += late.eq({RIGHT_VALUE})\n"
                "        m.d.comb += self.value.eq(Mux(self.octave.all(), 0, late))",
            ),
        ),
        r"value is 0, not \d+ within 8, in cycle \d+ ",
        truth=(
            (
                VALUE,
                f"late = Signal(7)\n        m.d.sync += late.eq({RIGHT_VALUE})\n"
                "        m.d.comb += self.value.eq(late)",
            ),
        ),
    ),
    "a cycle more after the first 600": Cheat(
        "exponential",
        (
            (
                VALUE,
                COUNTED.format(bits=10) + "now, late = Signal(7), Signal(7)\n"
                f"        m.d.sync += [now.eq({RIGHT_VALUE}), late.eq(now)]\n"
                "        m.d.comb += self.value.eq(Mux(cycle > 600, late, now))",
            ),
        ),
        r"value is \d+, not \d+ within 8, in cycle \d+ ",
    ),
}
"""Units that are right for a while, or at another time, or as long as nothing unusual happens."""

PARAMETERS = {
    "a table of one size": Cheat(
        "exponential",
        (
            (
                "tables.exponential(self.entries)",
                "tables.exponential(16)[: self.entries]",
            ),
        ),
        r"value is \d+, not \d+ within 8, in cycle \d+ \(",
        truth=(("tables.exponential(self.entries)", "list(tables.exponential(self.entries))"),),
        config=CoreConfig(exponential_entries=8),
    ),
    "three stages that nobody tried": Cheat(
        "mac",
        ((PRODUCT, "product.eq(a * w + (w == -1) if self.bits == 20 else a * w)"),),
        IN_PUBLIC,
        truth=((PRODUCT, "product.eq(a * w + (w == -1) if self.bits == 33 else a * w)"),),
        config=CoreConfig(accumulator_bits=20, mac_stages=3),
    ),
}
"""Units that are right at the default parameters alone."""


def _rare_triggers() -> dict[str, Cheat]:
    unlock = "".join(
        f"        with m.If((step == {at}) & (self.a == {a}) & (self.w == {w})):\n"
        f"            m.d.sync += step.eq({at + 1})\n"
        for at, (a, w) in enumerate(((3, 14), (15, 92), (65, 35)))
    )
    return {
        "wrong after 2^20 cycles": Cheat(
            "exponential",
            (
                (
                    VALUE,
                    COUNTED.format(bits=20)
                    + f"m.d.sync += self.value.eq(({RIGHT_VALUE}) ^ cycle.all())",
                ),
            ),
            "value",
        ),
        "one sum of the neighbour's": Cheat(
            "mac",
            (("(self.drain_in)", "(self.drain_in ^ (self.drain_in == 20029))"),),
            "drain_out",
        ),
        "one sum of its own": Cheat(
            "mac", ((CHAIN, CHAIN.replace("(drained)", "(drained ^ (total == 1234567))")),), "drain"
        ),
        "three pairs in a row": Cheat(
            "mac",
            (
                (CHAIN, f"{CHAIN}        step = Signal(2)\n{unlock}"),
                (PRODUCT, "product.eq(a * w)"),
                ("drained.eq(total)", "drained.eq(total ^ step.all())"),
            ),
            "drain_out",
        ),
        "one factor in 2^54": Cheat(
            "rescaler",
            ((Y, f"self.y.eq({RIGHT_Y} ^ (product == 987654321)),"),),
            "y is",
        ),
        "one pair of words of four int4": Cheat(
            "composable_mac",
            (
                (
                    "low + Mux(narrow_w, high, high << 4)",
                    "low + Mux(narrow_w, high, high << 4)"
                    " + ((mode == 3) & (a == 0x1234) & (w == 0x5678))",
                ),
            ),
            "drain_out",
            config=COMPOSABLE,
        ),
    }


RARE = _rare_triggers()
"""Units with one wrong state among so many that no vectors find it."""

SIMULATED = {**OPERANDS, **SEQUENCES, **PARAMETERS}
"""Those that only a simulation finds."""
