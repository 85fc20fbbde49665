"""The requantizer: scales a 32-bit sum to int8 in four pipelined cycles."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Requantizer(wiring.Component):
    """y = sat8(((acc * multiplier + 2^(shift-1)) >> shift) + zero_point), rounding half up.

    Latency 4, one result an enabled cycle; without `enable` every register holds. `multiplier`,
    `shift` (1..47) and `zero_point` stand still while a sum is under way.

    The 32 x 16 product is split in two 16 x 16 halves, so that no stage is slower than the
    array's multiply-accumulate. Rounding comes after the shift, on ten bits, because
    (p + 2^(s-1)) >> s == ((p >> (s-1)) + 1) >> 1.
    """

    enable: In(1)
    acc: In(signed(32))
    multiplier: In(unsigned(16))
    shift: In(unsigned(6))
    zero_point: In(signed(8))
    y: Out(signed(8))

    def elaborate(self, platform):
        m = Module()
        low = Signal(unsigned(32))
        high = Signal(signed(32))
        product = Signal(signed(48))
        scaled = Signal(signed(10))

        shifted = Signal(signed(48))
        rounded = Signal(signed(10))
        result = Signal(signed(11))
        m.d.comb += [
            shifted.eq(product >> (self.shift - 1)[:6]),
            rounded.eq((scaled + 1) >> 1),
            result.eq(rounded + self.zero_point),
        ]
        # Beyond ten bits the result saturates whatever the zero point is.
        fits = (shifted[9:] == 0) | shifted[9:].all()
        sign = shifted[-1]
        clamped = Mux(fits, shifted[:10], Cat((~sign).replicate(9), sign)).as_signed()
        in_range = (result[7:] == 0) | result[7:].all()
        saturated = Mux(in_range, result[:8], Cat((~result[-1]).replicate(7), result[-1]))

        with m.If(self.enable):
            m.d.sync += [
                low.eq(self.acc[:16] * self.multiplier),
                high.eq(self.acc[16:].as_signed() * self.multiplier),
                product.eq(low + Cat(Const(0, 16), high).as_signed()),
                scaled.eq(clamped),
                self.y.eq(saturated),
            ]
        return m
