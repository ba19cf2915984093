"""Checkpoints of a training run: one safetensors file with a digest of its content, two generations, no pickles."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..atomic import whole
from ..errors import FileError
from ..types import PathLikeStr
from ..untrusted import printable

__all__ = ["read_checkpoint", "write_checkpoint"]


def _digest(tensors: Mapping[str, Tensor], meta: str) -> str:
    """SHA-256 of the meta data, a text, and of names, types, shapes and numbers of all tensors."""
    total = hashlib.sha256(meta.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def write_checkpoint(path: PathLikeStr, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write tensors and JSON `meta`; the former file stays as ``<path>.previous``.

    Parameters
    ----------
    path : path-like
    tensors : dict of str to tensor
    meta : dict
        JSON-able.

    Raises
    ------
    FileError
        The file cannot be written; the former one is kept.
    """
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(meta, sort_keys=True)
        with whole(path) as file:
            file.write(save(tensors, metadata={"latticediff": text, "sha256": _digest(tensors, text)}))
            if path.exists():
                path.replace(path.with_name(path.name + ".previous"))
    except OSError as exc:
        raise FileError(f"cannot write checkpoint {path}: {exc.strerror or exc}; the previous one is kept") from None


def read_checkpoint(path: PathLikeStr) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """``(tensors, meta)`` of the newest whole generation, or None if there is none of either.

    Raises
    ------
    FileError
        There are checkpoints, and none is whole.
    """
    path, damaged = Path(path), []
    for candidate in (path, path.with_name(path.name + ".previous")):
        if not candidate.is_file():  # a pipe would be waited for
            continue
        try:
            return _read(candidate)
        except Exception as exc:  # safetensors raises its own error type for a torn file
            damaged.append(f"{candidate} ({printable(exc, 100)})")
    if damaged:
        raise FileError(f"no checkpoint is whole: {', '.join(damaged)}; remove them to start again")
    return None


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as handle:
        about = handle.metadata()
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118, not a dict
    # checkpoints of older versions have no digest
    if about.get("sha256", found := _digest(tensors, about["latticediff"])) != found:
        raise FileError("its digest does not match")
    return tensors, json.loads(about["latticediff"])
