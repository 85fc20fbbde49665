"""The assembler refuses programs whose result would hang on the queues' speeds."""

from typing import Any

import pytest

from hwlib.assembler import assemble, encode_program
from hwlib.commands import (
    Activate,
    Add,
    AnyCommand,
    Divide,
    Gate,
    Load,
    Matmul,
    Norm,
    Rotate,
    Softmax,
    Store,
    Waits,
)
from hwlib.config import CoreConfig
from hwlib.hazards import check_hazards
from tests.hwlib.core_programs import overlapping, random_program

CONFIG = CoreConfig(rows=4, columns=4, activation_bytes=8192, weight_bytes=8192)


@pytest.mark.parametrize("seed", range(4))
def test_every_wait_of_a_scheduled_program_is_needed_to_its_last_count(seed: int) -> None:
    """A schedule leaves out what another wait implies, so each of its waits is a dependence."""
    commands, _ = random_program(CONFIG, 40, seed)
    scheduled = overlapping(commands, CONFIG)
    check_hazards(scheduled, CONFIG)
    tried = 0
    for index, command in enumerate(scheduled):
        for queue, count in command.waits:
            if count is None:
                continue
            for fewer in (None, count - 1):
                waits = command.waits.model_copy(update={queue: fewer})
                loose = command.model_copy(update={"waits": waits})
                with pytest.raises(ValueError, match="does not wait for it"):
                    check_hazards([*scheduled[:index], loose, *scheduled[index + 1 :]], CONFIG)
                tried += 1
    assert tried > 25


def test_the_message_names_both_commands_and_the_wait() -> None:
    load = Load(target="activations", address=0, words=8, dram_address=0)
    store = Store(address=7, words=1, dram_address=64)
    message = (
        "command 1, store: touches what command 0, load, reads or writes, and does not wait for "
        r"it; set waits\.load to 1"
    )
    with pytest.raises(ValueError, match=message):
        assemble([load, store], CONFIG)
    assemble([load, store.model_copy(update={"waits": Waits(load=1)})], CONFIG)


def test_a_matmul_that_fetches_what_an_earlier_one_drains() -> None:
    """Its own queue is in order, but fetches ahead."""
    first = Matmul(
        activation_address=0, weight_address=0, depth=4, columns=4, output="int16", out=32
    )
    second = first.model_copy(update={"activation_address": 32, "out": 64})
    with pytest.raises(ValueError, match=r"command 1, matmul: .* set waits\.matmul to 1"):
        check_hazards([first, second], CONFIG)
    check_hazards([first, second.model_copy(update={"waits": Waits(matmul=1)})], CONFIG)


def test_a_load_of_what_was_stored_and_a_store_onto_what_is_loaded() -> None:
    """Beats and not words count: the last one of a transfer is moved whole."""
    first = Load(target="activations", address=0, words=8, dram_address=0)
    out = Store(address=0, words=8, dram_address=1024, waits=Waits(load=1))
    back = Load(target="activations", address=16, words=8, dram_address=1080)
    message = r"command 2, load: .* command 1, store, .* waits\.store to 1"
    with pytest.raises(ValueError, match=message):
        check_hazards([first, out, back], CONFIG)
    check_hazards([first, out, back.model_copy(update={"waits": Waits(store=1)})], CONFIG)
    check_hazards([first, out, back.model_copy(update={"dram_address": 1088})], CONFIG)
    onto = Store(address=64, words=1, dram_address=56)
    message = r"command 1, store: .* command 0, load, .* waits\.load to 1"
    with pytest.raises(ValueError, match=message):
        check_hazards([first, onto], CONFIG)


SCALE = {"multiplier": 1, "shift": 20}

OVERLAPPING: list[AnyCommand] = [
    Norm(source=0, out=7, count=8, channel=0, multiplier=1, shift=20, base=0, centred=True),
    Activate(source=4, out=0, count=12, function="gelu", **SCALE),
    Gate(source=40, second=4, out=0, count=12, gate_shift=1, **SCALE),
    Rotate(source=0, table=40, out=0, count=4, **SCALE),
    Rotate(source=40, table=0, out=2, count=4, **SCALE),
    Add(source=0, second=40, out=1, count=4),
    Softmax(source=0, out=3, state=40, count=4),
    Softmax(source=0, out=40, state=3, count=4),
    Softmax(source=0, out=40, state=41, count=4),
    Divide(source=0, state=40, out=7, count=4, **SCALE),
    Divide(source=0, state=40, out=43, count=4, **SCALE),
]


@pytest.mark.parametrize("command", OVERLAPPING, ids=lambda command: command.kind)
def test_results_that_lie_in_their_own_operands(command: AnyCommand) -> None:
    with pytest.raises(ValueError, match=f"command 0, {command.kind}: its results lie in words"):
        encode_program([command], CONFIG)


def test_a_sum_may_take_the_place_of_an_operand() -> None:
    encode_program([Add(source=0, second=40, out=40, count=4)], CONFIG)
    encode_program([Add(source=8, second=8, out=8, count=4)], CONFIG)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"output": "int16", "first_half": 1}, "first_half is of output int8; with int16"),
        ({"output": "residual", "zero_point": 3}, "zero_point is of output int8 and int16"),
        ({"output": "int8", "first": True}, "first is of output accumulate and argmax"),
        ({"output": "int32", "alpha_address": 9}, "alpha_address is of output accumulate"),
        ({"output": "accumulate", "index_base": 9}, "index_base is of output argmax"),
        ({"output": "argmax", "index_base": 65534}, "index 65536 of the last column"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_field_that_means_nothing_for_an_output(fields: dict[str, Any], message: str) -> None:
    tile = {"activation_address": 0, "weight_address": 0, "depth": 2, "columns": 3, "out": 40}
    with pytest.raises(ValueError, match=f"command 1, matmul: {message}"):
        assemble([Matmul(**tile), Matmul(**(tile | fields))], CONFIG)
    assemble([Matmul(**tile, output="argmax", index_base=65533)], CONFIG)


def test_what_is_no_command_is_named() -> None:
    with pytest.raises(ValueError, match=r"command 1 is none: 'halt'"):
        assemble([Add(source=8, second=8, out=8, count=4), "halt"], CONFIG)  # type: ignore[list-item]


def test_a_load_beyond_what_an_address_reaches_is_refused() -> None:
    last = Load(target="activations", address=0, words=1, dram_address=(1 << 32) - 8)
    assemble([last], CONFIG)
    beyond = last.model_copy(update={"words": 2})
    with pytest.raises(ValueError, match=r"command 0, load: bytes up to 4294967303 reach beyond"):
        assemble([beyond], CONFIG)
