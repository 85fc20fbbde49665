"""What a tool may raise on a netlist, and which status of a design comes of it."""

from collections.abc import Callable

from evaluators.metrics import Status


def tool_faults() -> tuple[type[Exception], ...]:
    """What a tool, or the judge of what it made, may raise on a netlist."""
    from evaluators.latency import NotBitExact
    from evaluators.silicon.assembly import AssemblyError
    from evaluators.silicon.gates import GatesError
    from evaluators.silicon.liberty import LibertyError
    from evaluators.silicon.simulation import SimulationError
    from evaluators.silicon.sta import TimingError
    from evaluators.silicon.synthesis import SynthesisError
    from evaluators.silicon.verilator import ToolFailed, ToolMissing
    from evaluators.silicon.yosys import YosysError

    return (
        NotBitExact,
        SimulationError,
        ToolFailed,
        ToolMissing,
        SynthesisError,
        AssemblyError,
        TimingError,
        GatesError,
        LibertyError,
        YosysError,
    )


def status_of(measure: Callable[[], None]) -> tuple[Status, str]:
    """Runs `measure`; a fault of the design or of a tool on it as status and reason."""
    from evaluators.silicon.synthesis import SynthesisTimeout
    from evaluators.silicon.verilator import ToolTimeout

    try:
        measure()
    except (SynthesisTimeout, ToolTimeout) as error:
        return "timeout", str(error)
    except tool_faults() as error:
        return "failed", str(error)
    except ValueError as error:
        return "invalid", str(error)
    return "ok", ""
