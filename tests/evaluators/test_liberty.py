"""Liberty: a small library written out by hand, and the shipped one."""

from functools import partial

import pytest

from evaluators.silicon.liberty import (
    LibertyError,
    default_liberty_path,
    load_library,
    parse_liberty,
)

# approx has a floor of 1e-12 of its own, which is larger than many a figure in SI units
near = partial(pytest.approx, rel=1e-6, abs=0)

SMALL = """
/* a library of one cell */
library (small) {
  time_unit : "1ps";
  leakage_power_unit : "1uW";
  capacitive_load_unit (10, ff);
  default_wire_load : "w";
  wire_load ("w") {
    capacitance : 2.0; slope : 3.0;
    fanout_length (1, 1.0); fanout_length (3, 5.0);
  }
  lu_table_template (swapped) {
    variable_1 : total_output_net_capacitance; variable_2 : input_net_transition;
    index_1 ("1, 2, 3"); index_2 ("10, 20");
  }
  cell (INV) {
    area : 1.5; cell_leakage_power : 4;
    pin (A) { direction : input; capacitance : 0.1; rise_capacitance : 0.2; }
    pin (Y) {
      direction : output; max_capacitance : 6; function : "!A";
      timing () {
        related_pin : "A"; timing_sense : negative_unate;
        cell_rise (swapped) { values ("1, 2", \\
                                      "3, 4", "5, 6"); }
        cell_fall (scalar) { values ("7"); }
        rise_transition (swapped) { values ("1, 2, 3, 4, 5, 6"); }
        fall_transition (scalar) { values ("8"); }
      }
    }
  }
}
"""


def test_reads_units_axes_and_defaults_as_the_text_states_them():
    library = parse_liberty(SMALL, "")
    cell = library.cell("INV")
    assert cell.leakage_w == near(4e-6)
    assert cell.pins["A"].rise_capacitance_f == near(2e-15)
    assert cell.pins["A"].fall_capacitance_f == near(1e-15)
    assert cell.pins["Y"].max_capacitance_f == near(60e-15)
    (arc,) = cell.arcs
    # The template has the load first; a table always has the transition first.
    assert arc.rise.x == near((10e-12, 20e-12))
    assert arc.rise.y == near((10e-15, 20e-15, 30e-15))
    assert arc.rise.values[1] == near((2e-12, 4e-12, 6e-12))
    assert arc.fall.values == ((near(7e-12),),)


def test_wire_load_interpolates_between_fanouts_and_goes_on_with_the_slope():
    wire = parse_liberty(SMALL, "").wire_load
    lengths = [wire.capacitance_f(n) / 20e-15 for n in range(6)]
    assert lengths == near([0.0, 1.0, 3.0, 5.0, 8.0, 11.0])


def test_shipped_library_has_the_figures_that_its_text_holds(tmp_path):
    library = load_library(default_liberty_path(), tmp_path)
    assert library.cell("DFF_X1").area_um2 == 4.522
    assert library.wire_load_name == "5K_hvratio_1_1"
    assert library.wire_load.capacitance_f_per_length == near(0.1774e-15)
    assert library.wire_load.slope == 5.0
    assert library.wire_load.lengths[10:] == near((26.2581, 27.032))
    setup = next(arc for arc in library.cell("DFF_X1").arcs if arc.kind == "setup")
    assert setup.rise.values[0][1] == near(24.425e-12)
    assert load_library(default_liberty_path(), tmp_path) == library  # now from the cache


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("library (x) { cell (A) { area : 1; }", "never ends"),
        ("library (x) { } }", "too many"),
        ("library (x) { ~~~ }", "near line 1"),
        ("", "one library group"),
        (SMALL.replace('"5, 6"', '"5"'), "has 5 values"),
        (SMALL.replace("(swapped) {", "(other) {", 2), "swapped"),
        (SMALL.replace("area : 1.5", "area : -1.5"), "cell INV: its area is -1.5; it must be 0"),
        (SMALL.replace("area : 1.5", "area : 0"), "INV computes something and has no area"),
        (SMALL.replace("power : 4", "power : -4"), "its leakage is -4e-06"),
        (SMALL.replace("rise_capacitance : 0.2", "rise_capacitance : -1"), "capacitance of pin A"),
        (SMALL.replace("area : 1.5", "area : nan"), "its area is nan"),
    ],
)
def test_refuses_what_is_not_liberty_in_a_sentence(text, words):
    with pytest.raises(LibertyError, match=words):
        parse_liberty(text, "")


def test_a_missing_file_and_a_missing_cell_are_named(tmp_path):
    with pytest.raises(LibertyError, match="absent"):
        load_library(tmp_path / "absent.lib", tmp_path)
    with pytest.raises(LibertyError, match="no cell NAND9"):
        parse_liberty(SMALL, "").cell("NAND9")


def test_a_torn_cache_entry_is_parsed_again(tmp_path):
    path = tmp_path / "small.lib"
    path.write_text(SMALL)
    library = load_library(path, tmp_path)
    (kept,) = tmp_path.glob("liberty-*.json")
    kept.write_text(kept.read_text()[:100])
    assert load_library(path, tmp_path) == library
