"""Ensembles on disk: one HDF5 file each, written so that a kill at any moment loses nothing that was sealed.

`run_chain` drives a kernel into a file, `Ensemble` reads it, `verify` recomputes what it claims.
The schema is described in docs/file-format.md.
"""

from .check import VerifyReport, content_digest, verify
from .convert import ConvertReport, convert
from .drive import run_chain
from .edit import cut, split, thin
from .export import export_npy, export_npz, to_pyerrors
from .export_netcdf import export_netcdf
from .merging import merge
from .metadata import croissant, qcdml
from .migrate import migrate
from .reader import Ensemble
from .repair import RepairReport, repair
from .run import RunWriter
from .run_header import run_directory
from .schema import SCHEMA_VERSION
from .start import start_fields
from .writer import save_ensemble

__all__ = [
    "SCHEMA_VERSION",
    "ConvertReport",
    "Ensemble",
    "RepairReport",
    "RunWriter",
    "VerifyReport",
    "content_digest",
    "convert",
    "croissant",
    "cut",
    "export_netcdf",
    "export_npy",
    "export_npz",
    "merge",
    "migrate",
    "qcdml",
    "repair",
    "run_chain",
    "run_directory",
    "save_ensemble",
    "split",
    "start_fields",
    "thin",
    "to_pyerrors",
    "verify",
]
