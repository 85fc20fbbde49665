"""The command `dovetail`. docs/cli.md lists every command and every exit code."""

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from dovetail import checks
from dovetail.commands import designs, finetune, machine, runs, study
from dovetail.desk import Desk, Screen, desk_of
from dovetail.errors import DovetailError, ExitCode

if TYPE_CHECKING:
    from dovetail.workshop import Workshop

app = typer.Typer(
    name="dovetail",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
fetch_app = typer.Typer()
_COMMANDS: Mapping[str, Callable[..., None]] = {
    "init": runs.init,
    "run": runs.run,
    "resume": runs.resume,
    "runs": runs.runs,
    "trace": runs.trace_command,
    "replay": runs.replay,
    "evaluate": designs.evaluate,
    "gate": designs.gate,
    "compile": designs.compile_command,
    "study": study.study,
    "finetune": finetune.finetune,
    "knobs": designs.knobs,
    "check-model": machine.check_model,
    "doctor": machine.doctor,
}
"""In the order in which `--help` lists them."""

for _name, _command in _COMMANDS.items():
    app.command(name=_name)(_command)
fetch_app.command(name="medmnist")(machine.medmnist)
fetch_app.command(name="smollm2-135m")(machine.smollm2)
fetch_app.command(name="human-eval")(machine.human_eval)
for _name, _title in machine.MEDICAL_SETS.items():
    fetch_app.command(name=_name, help=f"Fetch {_title} from the Hugging Face hub.")(
        machine.medical_vqa
    )
app.add_typer(fetch_app, name="fetch")


@app.callback(
    invoke_without_command=True,
    help="Agents co-design an accelerator and a multimodal model; every number can be traced.",
)
@fetch_app.callback(invoke_without_command=True, help="Fetch public data and models.")
def without_command(context: typer.Context) -> None:
    """Shows the help where no command is named."""
    if context.invoked_subcommand is None:
        desk_of(context).say(context.get_help())


def main(arguments: Sequence[str] | None = None, workshop: "Workshop | None" = None) -> None:
    """Runs one command and exits with its code; no expected fault shows a traceback."""
    with _terminable():
        desk = Desk(Screen(highlight=False), Screen(stderr=True, highlight=False), workshop)
        try:
            code = _exit_code(arguments, desk)
        except KeyboardInterrupt:  # a second one, while the first was being told
            code = ExitCode.INTERRUPTED
    sys.exit(int(code))


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes SIGTERM end the command as Ctrl-C does, from its first moment on."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_code(arguments: Sequence[str] | None, desk: Desk) -> int:
    from dovetail.formatting import safe

    try:
        checks.check_names()
        code = int(app(arguments, obj=desk, standalone_mode=False) or ExitCode.OK)
        return _interrupted(desk) if code == ExitCode.INTERRUPTED else code
    except DovetailError as error:
        desk.err.print(Text(safe(f"dovetail: {error}")), soft_wrap=True)
        return error.code
    except KeyboardInterrupt:
        return _interrupted(desk)
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone: that is no fault.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:  # the last door: no traceback on a person's screen
        from dovetail.journal import FULL

        if isinstance(error, OSError) and error.errno in FULL:
            desk.err.print(f"dovetail: no room to write ({error.strerror}); make room first")
            return ExitCode.NO_SPACE
        return _command_line_fault(error, desk) or _unexpected(error, desk)


def _interrupted(desk: Desk) -> int:
    # Typer turns Ctrl-C inside a command into this code by itself.
    desk.err.print("dovetail: interrupted; no run or file was begun")
    return ExitCode.INTERRUPTED


def _command_line_fault(error: Exception, desk: Desk) -> int | None:
    """The exit code of an unknown command or option; `None` where it is something else."""
    show = getattr(error, "format_message", None)
    if show is None:
        return None
    from dovetail.formatting import one_line

    said = one_line(show(), 400)
    desk.err.print(Text(f"dovetail: {said} (dovetail --help lists the commands)"), soft_wrap=True)
    return ExitCode.USAGE


def _unexpected(error: Exception, desk: Desk) -> int:
    from dovetail.formatting import one_line

    with tempfile.NamedTemporaryFile(
        "w", prefix="dovetail-traceback-", suffix=".txt", delete=False
    ) as file:
        traceback.print_exception(error, file=file)
    said = one_line(f"{type(error).__name__}: {error}", 200)
    desk.err.print(
        Text(f"dovetail: a defect, not your fault: {said}; the traceback is in {file.name}"),
        soft_wrap=True,
    )
    return ExitCode.UNEXPECTED
