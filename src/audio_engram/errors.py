"""The exceptions that carry an exit code.

Each message says what is wrong, where (file, key, row) and the remedy, in one line.
Exit codes: 0 ok, 1 bug, 2 usage or config, 3 data, 4 missing extra, model or offline, 5 numerical, 130 interrupt.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class EngramError(ValueError):
    """A problem the user can mend; the command prints its one line and leaves with `exit_code`."""

    exit_code = 2


class UsageError(EngramError):
    """A wrong option, configuration key or run folder."""

    exit_code = 2


class DataError(EngramError):
    """Audio, a corpus or latents that cannot be used."""

    exit_code = 3


class MissingError(EngramError):
    """An extra, a model file or a download that is not there."""

    exit_code = 4


class NumericalError(EngramError):
    """A computation that left the finite numbers."""

    exit_code = 5


class WorkerError(EngramError):
    """A bug that ended work in another process, whose log has the traceback."""

    exit_code = 1


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """The remedy for a word that is not known: the one that was likely meant, or else what is `otherwise` said."""
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise
