"""Where to clip what a linear layer reads when 15 steps are all there is.

The range that calibration saw is right for 255 steps; for 15 a few rare values would take most of
them. So, as for weights, the clipping with the least squared error is taken (Sung et al. 2015,
"Resiliency of deep neural networks under quantization"; Banner et al. 2019 solve it for a Laplace
distribution, here it is searched on the observed one).
"""

import numpy as np

from swopt.compiler.ranges import Calibration, Range

SHARES = np.geomspace(1.0, 0.02, 48)
"""What is tried at each end, as shares of the range that was seen on that side of 0."""


def clipped_range(seen: Calibration, bits: int) -> Range:
    """The range whose quantizer of `bits` bits has the least squared error on the histogram.

    Every pair of ends from `SHARES` is tried; of equal errors the widest range wins.

    Args:
        seen: Of the layer.
        bits: Of its input, at least 2.
    """
    low, high = min(seen.inputs.low, 0.0), max(seen.inputs.high, 0.0)
    count = len(seen.histogram)
    width = (seen.inputs.high - seen.inputs.low) / count
    values = seen.inputs.low + (np.arange(count) + 0.5) * width
    held = seen.histogram > 0
    values, weights = values[held], seen.histogram[held]
    least, best = np.inf, Range(low, high)
    for low_share in SHARES if low < 0 else SHARES[:1]:
        for high_share in SHARES if high > 0 else SHARES[:1]:
            tried = Range(float(low * low_share), float(high * high_share))
            scale, zero = tried.quantizer(bits)
            first = -(1 << (bits - 1))
            steps = np.clip(np.rint(values / scale) + zero, first, -first - 1)
            error = float(((steps - zero) * scale - values) ** 2 @ weights)
            if error < least:
                least, best = error, tried
    return best
