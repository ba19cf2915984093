"""The command line: parses and wires, nothing else.

`main` is the command; `app` declares the subcommands. Importing this room, or asking for help,
imports neither torch nor numba: every command imports what it needs when it runs.
"""

import sys

__all__ = ["main"]


def main(arguments=None):
    """Run the command line and exit.

    Exit codes: 0 done; 2 something the user gave cannot be used; 3 an ensemble failed a physics
    gate; 75 a deadline; 128 + n stopped by signal n. Everything else is a defect and keeps its traceback.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; `sys.argv` by default.
    """
    from ..errors import StopRequested, UserError
    from .app import app

    try:
        app(args=arguments, prog_name="latticediff")
    except UserError as exc:
        sys.exit(_complain(f"error: {exc}", exc.exit_code))
    except OSError as exc:
        if exc.filename is None:
            raise  # nothing that the user named
        sys.exit(_complain(f"error: {exc.filename}: {exc.strerror}", UserError.exit_code))
    except StopRequested as exc:
        sys.exit(_complain(f"stopped: {exc}", exc.exit_code))


def _complain(text, code):
    from ..untrusted import printable

    print(printable(" ".join(text.split())), file=sys.stderr)
    return code
