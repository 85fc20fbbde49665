"""A design on the whole-model core: its identity and its laws."""

import hashlib

import pytest
from pydantic import ValidationError

from evaluators.core_design import CoreDesign
from evaluators.design import DesignPoint
from hwlib.core_config import CoreConfig
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import QuantizationKnobs


def test_the_id_is_the_hash_of_what_differs_from_the_defaults() -> None:
    design = CoreDesign(hardware=CoreConfig(rows=16), attention_block=32)
    text = '{"attention_block":32,"hardware":{"rows":16}}'
    assert design.canonical_json() == text
    assert design.id == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert CoreDesign().id == DesignPoint().id == hashlib.sha256(b"{}").hexdigest()[:16]
    assert CoreDesign.model_validate({"attention_block": 64, "activation_bits": 8}) == CoreDesign()


def test_each_part_changes_the_id() -> None:
    few = CompressionPlan(quantization=QuantizationKnobs(bits=4))
    designs = [
        CoreDesign(),
        CoreDesign(hardware=CoreConfig(composable=True)),
        CoreDesign(compression=few),
        CoreDesign(attention_block=2),
        CoreDesign(activation_bits=4),
    ]
    assert len({design.id for design in designs}) == len(designs)


@pytest.mark.parametrize("block", [0, 3, 1026])
def test_an_attention_block_is_even_and_in_range(block: int) -> None:
    with pytest.raises(ValidationError, match="attention_block"):
        CoreDesign(attention_block=block)
