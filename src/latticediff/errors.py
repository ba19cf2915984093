"""Errors a user can cause, each one clear line: what was got, what was wanted, what to do.

The command line turns every `UserError` into that line and `exit_code`; anything else that
escapes is a defect of ours and keeps its traceback.
"""

__all__ = ["CardError", "FileError", "GateError", "ModelError", "StopRequested", "UserError"]


class UserError(ValueError):
    """Something the caller gave cannot be used; the message says what to do."""

    exit_code = 2


class CardError(UserError):
    """A run-card has an unknown key or an impossible value."""


class FileError(UserError):
    """A file is missing, torn, of another action or lattice, or would be overwritten."""


class ModelError(UserError):
    """A model cannot be loaded, or does not fit the action or lattice asked for."""


class GateError(UserError):
    """An ensemble failed a physics gate (equilibrium identities); nothing is trained on it."""

    exit_code = 3


class StopRequested(Exception):
    """A signal or deadline asked the run to stop; everything finished so far is on disk.

    Parameters
    ----------
    message : str
        Says what was saved and how to go on.
    exit_code : int
        128 plus the signal number, or 75 ("try again later") for a deadline.
    """

    def __init__(self, message: str, exit_code: int = 75) -> None:
        super().__init__(message)
        self.exit_code = exit_code
