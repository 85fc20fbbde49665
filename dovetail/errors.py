"""What can go wrong with a run, and the exit code of each.

DovetailError             1  never raised as itself
├── BadInput              3  a run file, a setting, a design, an identifier
├── Missing               4  data, a tool, a checkpoint
├── FolderRefused         5  the folder is a run already, is none, cannot be written, is in use
├── JournalCorrupt        6  a line of the journal was changed, or is newer than this program
├── ServerRefused         7  the chat model's server: no key, no such model, no answer
├── Differs               8  a replay, a second measurement or a check on the RTL differs
├── NoSpace               9  the disk is full; the run can be resumed
├── EvaluatorBroken      10  the evaluator could not do what does not depend on a design
└── Interrupted         130  Ctrl-C or SIGTERM; the message says what stays
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the command `dovetail`; docs/cli.md lists them."""

    OK = 0
    """Done."""

    UNEXPECTED = 1
    """A defect of Dovetail: one line, and where the traceback was written."""

    USAGE = 2
    """An unknown command or option."""

    BAD_INPUT = 3
    """A run file, setting or design that breaks a law; a design that `evaluate` finds invalid."""

    MISSING = 4
    """Data, a tool or a checkpoint is not there or not whole."""

    FOLDER = 5
    """The folder is a run already, is none, is not there, cannot be written, or is in use."""

    JOURNAL = 6
    """The journal was changed, or is newer than this program."""

    SERVER = 7
    """The chat model's server refused."""

    DIFFERS = 8
    """A replay or a second measurement differs from the record, or the RTL from the model."""

    NO_SPACE = 9
    """The disk is full; `dovetail resume` goes on when there is room."""

    EVALUATOR = 10
    """The evaluator could not measure: the baseline, the test data, `evaluate`'s design."""

    INTERRUPTED = 130
    """Ctrl-C or SIGTERM; `dovetail resume` goes on."""


class DovetailError(Exception):
    """Something that a person can mend. The message is one sentence with the remedy."""

    code = ExitCode.UNEXPECTED


class BadInput(DovetailError):
    """A run file, a setting, a design or an identifier that breaks a law."""

    code = ExitCode.BAD_INPUT


class Missing(DovetailError):
    """Data, a tool or a checkpoint is not there or not whole."""

    code = ExitCode.MISSING


class FolderRefused(DovetailError):
    """The folder cannot be used for this."""

    code = ExitCode.FOLDER


class JournalCorrupt(DovetailError):
    """A line of the journal is not what was written, or not what this program can read."""

    code = ExitCode.JOURNAL


class ServerRefused(DovetailError):
    """The chat model's server cannot be used."""

    code = ExitCode.SERVER


class Differs(DovetailError):
    """What was produced is not what stands on record, or not what the integer model gives."""

    code = ExitCode.DIFFERS


class NoSpace(DovetailError):
    """A write found no room."""

    code = ExitCode.NO_SPACE


class EvaluatorBroken(DovetailError):
    """The evaluator failed at what does not depend on a design."""

    code = ExitCode.EVALUATOR


class Interrupted(DovetailError):
    """Somebody ended the command before its end."""

    code = ExitCode.INTERRUPTED
