"""The command line: it reads options and calls the stages, nothing else.

`main` is the command; `app` declares the subcommands. Importing this room, or asking for help,
imports neither torch nor numba: every command imports what it needs when it runs.
"""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done; 2 something the user gave cannot be used; 3 an ensemble failed a physics
    gate; 75 a deadline; 128 + n stopped by signal n. Everything else is a defect and keeps its traceback.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; those of `sys.argv` by default.
    """
    from ..atomic import DISK_FULL
    from ..errors import StopRequested, UserError
    from .app import app

    # names of files need not be text, and terminals need not know Greek
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments, prog_name="latticediff")
    except UserError as exc:
        sys.exit(_complain(f"error: {exc}", exc.exit_code))
    except OSError as exc:
        if exc.filename is not None:
            sys.exit(_complain(f"error: {exc.filename}: {exc.strerror}", UserError.exit_code))
        if exc.errno == errno.EIO:
            sys.exit(_complain(f"error: a file cannot be read or written: {exc.strerror}", UserError.exit_code))
        if exc.errno not in DISK_FULL:
            raise  # nothing that the user named
        _silence_output()
        reason = f"{DISK_FULL[exc.errno]}; the result is not whole, free space and run again"
        sys.exit(_complain(f"error: cannot write the output: {reason}", UserError.exit_code))
    except (MemoryError, RuntimeError) as exc:
        if not _out_of_memory(exc):
            raise
        reason = str(exc).splitlines()[0] if str(exc) else "no more of it"
        remedy = "take a smaller lattice, batch or network, or fewer chains"
        sys.exit(_complain(f"error: not enough memory ({reason}); {remedy}", UserError.exit_code))
    except StopRequested as exc:
        sys.exit(_complain(f"stopped: {exc}", exc.exit_code))


def _out_of_memory(exc: BaseException) -> bool:
    # torch says it by a RuntimeError of its own on a GPU, and by a plain one on the CPU
    return (
        isinstance(exc, MemoryError)
        or type(exc).__name__ == "OutOfMemoryError"
        or "allocate memory" in str(exc).lower()
    )


def _silence_output() -> None:
    """Send what is still in the buffer of standard output nowhere: flushing it at the exit would fail again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str, code: int) -> int:
    """Print one line to standard error; returns the exit code `code`."""
    from ..untrusted import printable

    print(printable(" ".join(text.split())), file=sys.stderr)
    return code
