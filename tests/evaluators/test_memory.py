"""SRAM macros: rows of the CACTI table."""

from functools import partial

import pytest

from evaluators.silicon.memory import SramError, is_sram, sram_macro

# approx has a floor of 1e-12 of its own, which is larger than many a figure in SI units
near = partial(pytest.approx, rel=1e-6, abs=0)


def test_a_bank_of_the_table_has_its_row_in_si_units():
    # itrs-lop,16384,64,0.705208,0.72453,0.00603378,0.00441967,0.0816677,0.324638,0.0507558...
    macro = sram_macro("sram_2048x64", "itrs-lop")
    assert macro.row == "16384 x 64"
    assert macro.access_time_s == near(0.705208e-9)
    assert macro.cycle_time_s == near(0.72453e-9)
    assert macro.read_energy_j == near(6.03378e-12)
    assert macro.write_energy_j == near(4.41967e-12)
    assert macro.leakage_w == near(0.4063057e-3)
    assert macro.area_um2 == near(50755.81764)


def test_a_bank_between_rows_takes_the_next_larger_one():
    assert sram_macro("sram_1500x48").row == "16384 x 64"
    assert sram_macro("sram_2049x64").row == "32768 x 64"
    assert sram_macro("sram_1x1").row == "1024 x 32"


def test_only_the_exact_name_is_a_macro():
    assert is_sram("sram_8x32")
    for name in ("sram_8x32.array", "sram_0x32", "xsram_8x32", "sram_8x", "element"):
        assert not is_sram(name)


def test_a_bank_beyond_the_table_is_refused():
    with pytest.raises(SramError, match="split the memory"):
        sram_macro("sram_99999999x64")
    with pytest.raises(SramError, match="sram_<words>x<bits>"):
        sram_macro("element")
