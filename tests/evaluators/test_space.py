"""The search space, read off the types."""

import contextlib
import json
import random
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field

from evaluators import space
from evaluators.design import DesignPoint
from hwlib.frozen import Frozen

LAYERS = ("vision.0", "vision.0.mlp.up", "vision.1", "decoder.0", "decoder.2.mlp", "connector")
COUNTS = {"compression.pruning.vision_blocks": 2, "compression.pruning.decoder_blocks": 3}


def test_every_leaf_is_a_knob_with_its_doc_and_default():
    found = {k.path: k for k in space.knobs()}
    assert found["hardware.rows"].choices == (4, 8, 16, 32)
    assert found["hardware.rows"].default == 8
    assert found["compression.quantization.vision.bits"].choices[0] is None
    keep = found["compression.pruning.vision_mlp_keep"]
    assert (keep.kind, keep.low, keep.high, keep.step) == ("number", 0.125, 1.0, 0.125)
    assert found["compression.quantization.overrides"].kind == "table"
    assert all(k.doc for k in found.values())
    default = json.loads(DesignPoint().model_dump_json())
    for k in found.values():
        below = default
        for name in k.path.split("."):
            below = below[name]
        assert below == k.default


def test_set_knob_reads_text_and_leaves_the_rest():
    design = space.set_knob(DesignPoint(), "compression.pruning.vision_mlp_keep", "0.5")
    assert design.compression.pruning.vision_mlp_keep == 0.5
    assert design.canonical_json() == '{"compression":{"pruning":{"vision_mlp_keep":0.5}}}'
    both = space.set_knob(design, "compression.pruning.vision_blocks", "[0, 2]")
    assert both.compression.pruning.vision_blocks == (0, 2)
    assert both.compression.pruning.vision_mlp_keep == 0.5
    bits = space.set_knob(design, "compression.quantization.head_bits", "4")
    back = space.set_knob(bits, "compression.quantization.head_bits", "none")
    assert back == design
    table = space.set_knob(design, "compression.quantization.overrides", '{"vision.1": 4}')
    assert table.compression.quantization.overrides == {"vision.1": 4}


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("hardware.rowz", "8", "the nearest is `hardware.rows`"),
        ("hardware", "8", "there is no knob `hardware`"),
        ("edits", "[]", "an RTL edit is proposed by an agent"),
        ("hardware.rows", "12", "hardware.rows: 12 is not one of 4, 8, 16, 32"),
        ("hardware.rows", "8.0", "8.0 is not one of"),
        ("hardware.rows", '"8"', '"8" is not one of'),
        ("hardware.rows", "eight", "`eight` is not one of"),
        ("hardware.queue_depth", "17", "an integer from 1 to 16 (the default is 4)"),
        ("hardware.composable", "1", "1 is not one of false, true (the default is false)"),
        ("compression.quantization.bits", "none", "null is not one of"),
        ("compression.quantization.bits", "true", "true is not one of"),
        ("compression.pruning.vision_mlp_keep", "0.3", "a multiple of 0.125"),
        ("compression.pruning.vision_mlp_keep", "1.125", "from 0.125 to 1"),
        ("compression.pruning.vision_mlp_keep", "NaN", "NaN is not a number"),
        ("compression.pruning.vision_mlp_keep", "Infinity", "Infinity is not a number"),
        ("compression.pruning.vision_mlp_keep", "true", "true is not a number"),
        ("compression.pruning.vision_blocks", "[1, 0]", "ascending"),
        ("compression.pruning.vision_blocks", "[64]", "less than or equal to 63"),
        ("compression.pruning.vision_blocks", "[" * 9999, "is not a list"),
        ("compression.quantization.overrides", '{"vision.1": 9}', "is not names with"),
    ],
)
def test_what_is_outside_is_refused_and_never_clamped(path: str, text: str, words: str):
    with pytest.raises(ValueError) as error:
        space.set_knob(DesignPoint(), path, text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("hardware", "compression", "units", "words"),
    [
        ({}, {}, ["mac", "mac"], "edits name a unit twice"),
        ({"rows": 4, "columns": 32}, {}, [], "one side may be at most 4 times the other"),
        ({}, {}, ["composable_mac"], "drop the edit, or change hardware.composable"),
        ({"composable": True}, {}, ["mac"], "does not go with hardware.composable true"),
        ({}, {"quantization": {"activation_bits": 4}}, [], "set hardware.composable to true"),
    ],
)
def test_laws_between_the_parts_of_a_design_hold(
    hardware: dict[str, object], compression: dict[str, object], units: list[str], words: str
):
    edits = [{"unit": unit, "source": "a", "latency": 1} for unit in units]
    with pytest.raises(ValueError) as error:
        space.design_of_tree({"hardware": hardware, "compression": compression, "edits": edits})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_elements_may_be_edited_and_read_four_bits_where_the_core_has_them():
    edit = {"source": "a", "latency": 1}
    space.design_of_tree({"edits": [{"unit": "mac", **edit}]})
    tree = {"hardware": {"composable": True}, "edits": [{"unit": "composable_mac", **edit}]}
    design = space.design_of_tree(tree)
    space.with_changes(design, {"compression.quantization.activation_bits": 4})


def test_distributions_follow_the_declarations():
    found = space.distributions(LAYERS)
    assert found["hardware.rows"] == CategoricalDistribution((4, 8, 16, 32))
    assert found["compression.quantization.bits"] == IntDistribution(2, 8)
    optional = found["compression.quantization.head_bits"]
    assert optional == CategoricalDistribution((None, 2, 3, 4, 5, 6, 7, 8))
    keep = found["compression.pruning.decoder_mlp_keep"]
    assert keep == FloatDistribution(0.125, 1.0, step=0.125)
    assert found["compression.pruning.decoder_blocks[2]"] == CategoricalDistribution((False, True))
    assert "compression.pruning.decoder_blocks[3]" not in found
    assert not any("overrides" in name or "edits" in name for name in found)


def test_a_sampler_leaves_the_mappers_choices_to_the_mapper():
    assert not any(name.startswith(space.OVERRIDES) for name in space.distributions(LAYERS))
    paths = {k.path for k in space.knobs()}
    assert {"compression.fusion.residuals", "compression.dataflow.ways"} <= paths
    held = space.with_changes(space.DesignPoint(), {"compression.dataflow.ways": 2})
    assert space.params_of(held, LAYERS) == space.params_of(space.DesignPoint(), LAYERS)


def test_block_counts_are_read_off_the_layers_names():
    assert space.block_counts(LAYERS) == COUNTS
    assert set(space.block_counts(()).values()) == {0}


def _sampled(chance: random.Random) -> dict[str, object]:
    """Parameters of a lawful design."""
    while True:
        params = _drawn(chance)
        with contextlib.suppress(ValueError):
            space.design_of(params)
            return params


def _drawn(chance: random.Random) -> dict[str, object]:
    params: dict[str, object] = {}
    for name, d in space.distributions(LAYERS).items():
        if isinstance(d, CategoricalDistribution):
            params[name] = chance.choice(d.choices)
        elif isinstance(d, IntDistribution):
            params[name] = chance.randint(d.low, d.high)
        elif isinstance(d, FloatDistribution):
            assert d.step is not None
            params[name] = d.low + d.step * chance.randint(0, round((d.high - d.low) / d.step))
    return params


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_params_and_designs_are_inverse(seed: int):
    params = _sampled(random.Random(seed))
    design = space.design_of(params)
    assert space.params_of(design, LAYERS) == params
    assert space.design_of(space.params_of(design, LAYERS)) == design


def test_optuna_takes_the_parameters_of_any_design():
    import optuna

    params = _sampled(random.Random(5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trial = optuna.trial.create_trial(
            params=space.params_of(space.design_of(params), LAYERS),
            distributions=space.distributions(LAYERS),
            value=1.0,
        )
    assert trial.params == params


def test_a_change_is_described_knob_by_knob():
    schema = space.change_schema(("hardware",), LAYERS)
    paths = [c["properties"]["path"]["enum"][0] for c in schema["anyOf"]]
    assert paths == [k.path for k in space.knobs() if k.path.startswith("hardware.")]
    rows = schema["anyOf"][0]["properties"]["value"]
    assert rows == {"type": ["integer"], "enum": [4, 8, 16, 32]}


class _Odd(Frozen):
    free: float = 0.0
    """A number without bounds."""


class _Later(Frozen):
    fused: bool = False
    """A switch."""

    depth: int = Field(3, ge=1, le=9)
    """A bounded integer."""

    order: str | None = None
    """Free text is no knob."""


def test_a_declaration_that_nobody_can_sample_is_refused_by_name():
    with pytest.raises(TypeError, match=r"hardware\.free: a number knob is bounded"):
        space._knobs_of(_Odd, "hardware")
    with pytest.raises(TypeError, match=r"hardware\.order: .* is no kind of knob"):
        space._knobs_of(_Later, "hardware")


DEEP = tuple(f"decoder.{i}" for i in range(30))


def test_of_many_blocks_a_sampler_draws_a_run() -> None:
    path = "compression.pruning.decoder_blocks"
    found = space.distributions(DEEP)
    assert found[f"{path}[first]"] == IntDistribution(0, 23)
    assert found[f"{path}[length]"] == IntDistribution(0, 7)
    for blocks in ([], [22], [23, 24, 25], list(range(23, 30))):
        design = space.with_changes(space.DesignPoint(), {path: blocks})
        params = space.params_of(design, DEEP)
        assert space.design_of(params) == design
    scattered = space.with_changes(space.DesignPoint(), {path: [2, 9, *range(20, 30)]})
    params = space.params_of(scattered, DEEP)
    assert (params[f"{path}[first]"], params[f"{path}[length]"]) == (2, 7)


def test_a_model_without_images_has_no_knobs_about_them() -> None:
    seen, plain = ({k.path for k in space.knobs_for(each)} for each in (LAYERS, DEEP))
    assert seen == {k.path for k in space.knobs()}
    about_images = seen - plain
    assert {path.split(".")[1] for path in about_images} == {
        "resolution", "pruning", "quantization",
    }  # fmt: skip
    assert all(
        "vision" in p or "connector" in p for p in about_images if "ization" in p or "prun" in p
    )
    assert not plain & {name.partition("[")[0] for name in about_images}
    # Teaching a language model takes minutes: no sampler asks for it.
    assert "compression.recovery.steps" in plain
    assert not any("recovery" in name for name in space.distributions(DEEP))
    assert "compression.recovery.steps" in space.distributions(LAYERS)
    assert {name.partition("[")[0] for name in space.distributions(DEEP)} <= plain
    assert set(space.params_of(space.DesignPoint(), DEEP)) == set(space.distributions(DEEP))
    schema = space.change_schema(("compression",), DEEP)
    assert not about_images & {c["properties"]["path"]["enum"][0] for c in schema["anyOf"]}
