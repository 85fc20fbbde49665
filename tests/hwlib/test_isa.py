"""The encoding of commands and the laws of a core."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwlib.config import AcceleratorConfig, ArrayConfig
from hwlib.isa import (
    FIELDS,
    Command,
    LoadActivations,
    LoadChannels,
    LoadWeights,
    Matmul,
    decode,
    encode,
    encode_program,
)

address = st.integers(0, (1 << 14) - 1)
count = st.integers(1, (1 << 15) - 1)
commands = st.one_of(
    st.builds(LoadActivations, address=address, words=count),
    st.builds(LoadWeights, address=address, words=count, packed_bits=st.sampled_from([8, 4, 2])),
    st.builds(LoadChannels, address=st.integers(0, 15), words=st.integers(1, 16)),
    st.builds(
        Matmul,
        activation_address=address,
        weight_address=address,
        depth=count,
        rows=st.integers(1, 16),
        drain=st.booleans(),
        output=st.sampled_from(["int8", "int32"]),
        zero_point=st.integers(-128, 127),
    ),
)


@given(commands)
def test_decode_inverts_encode(command: Command) -> None:
    assert decode(encode(command)) == command


@given(st.integers(0, (1 << 64) - 1))
def test_a_word_is_either_refused_or_the_only_encoding_of_its_command(word: int) -> None:
    try:
        command = decode(word)
    except ValueError:
        return
    assert encode(command) == word


def test_fields_do_not_overlap_and_fit_the_word() -> None:
    bits = [bit for low, width in FIELDS.values() for bit in range(low, low + width)]
    assert len(bits) == len(set(bits)) and max(bits) < 64


@pytest.mark.parametrize(
    ("command", "law"),
    [
        (LoadActivations(address=2040, words=9), "activation bank of 2048"),
        (LoadWeights(address=0, words=2049), "weight bank of 2048"),
        (LoadChannels(address=8, words=1), "channel table of 8"),
        (Matmul(activation_address=0, weight_address=2000, depth=49, rows=8), "weight bank"),
        (Matmul(activation_address=0, weight_address=0, depth=1, rows=9), "9 rows"),
    ],
)
def test_a_command_beyond_the_core_is_refused_with_index_and_law(
    command: Command, law: str
) -> None:
    fine = LoadChannels(words=8)
    with pytest.raises(ValueError, match=f"command 1: .*{law}"):
        encode_program([fine, command], AcceleratorConfig())


def test_an_oblong_array_is_a_core_too() -> None:
    config = AcceleratorConfig(array=ArrayConfig(rows=4, columns=16))
    assert (config.activation_words, config.weight_words) == (4096, 1024)
