"""Ensembles on disk: one HDF5 file each, written so that a kill at any moment loses nothing that was sealed.

`run_chain` drives a kernel into a file, `Ensemble` reads it, `verify` recomputes what it claims.
The schema is described in docs/file-format.md.
"""

from .check import VerifyReport, content_digest, verify
from .drive import run_chain
from .reader import Ensemble, run_directory
from .run import RunWriter
from .schema import SCHEMA_VERSION
from .start import start_fields
from .writer import save_ensemble

__all__ = [
    "SCHEMA_VERSION",
    "Ensemble",
    "RunWriter",
    "VerifyReport",
    "content_digest",
    "run_chain",
    "run_directory",
    "save_ensemble",
    "start_fields",
    "verify",
]
