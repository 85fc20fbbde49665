"""Products in parts are exact, whatever the sums reach."""

import pytest
import torch

from swopt.compiler.twin import _product


@pytest.mark.parametrize("inputs", [1023, 1024, 1025, 1536, 2049, 4096, 5000])
@pytest.mark.parametrize("extreme", [True, False])
def test_sums_are_those_of_whole_numbers(inputs: int, extreme: bool) -> None:
    generator = torch.Generator().manual_seed(inputs)
    a, b = (
        torch.randint(-128, 128, shape, dtype=torch.int8, generator=generator)
        for shape in ((5, inputs), (inputs, 7))
    )
    if extreme:
        a[0], b[:, 0], b[:, 1] = -128, -128, 127
        a[1, ::2] = 127
    found = _product(a, b, 128 * 128 * inputs, {})
    assert torch.equal(found.double(), (a.long() @ b.long()).double())
