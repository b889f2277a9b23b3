"""The command `engram`. Results go to stdout, progress to stderr; PyTorch is imported only where it is needed."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from audio_engram import __version__
from audio_engram.commands import COMMANDS
from audio_engram.data.publish import AGAIN, FULL
from audio_engram.errors import DataError, EngramError, UsageError

BUG, INTERRUPT = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does, where a name is beyond the encoding
    options = _parser().parse_args(arguments)
    try:
        code = int(options.do(options) or 0)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where it can still be said that it failed
        return code
    except EngramError as error:
        print(f"engram: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"engram: interrupted; finished work is kept: {AGAIN}", file=sys.stderr)
        return INTERRUPT
    except BrokenPipeError:
        # The reader of stdout has left (`engram ... | head`); there is nobody to tell.
        _drop_stdout()
        return 0
    except OSError as error:
        if error.errno not in FULL:
            raise
        _drop_stdout()
        print(f"engram: disk full ({error.strerror}); free some space and {AGAIN}", file=sys.stderr)
        return DataError.exit_code


def _drop_stdout() -> None:
    """What is left in its buffer would fail again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error here is said."""

    def error(self, message: str) -> NoReturn:
        """Leave with the exit code of a wrong option."""
        self.exit(UsageError.exit_code, f"engram: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="engram",
        description="Find out why a continuous-latent audio model drifts or freezes. "
        "`engram run` without arguments is the demo.",
        epilog="Exit codes: 0 done (whatever the verdict), 1 bug, 2 usage or configuration, 3 data, "
        "4 something missing, 5 numerical failure, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"engram {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
