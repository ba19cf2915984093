"""Checkpoints of a training run: one safetensors file, two generations, no pickles."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save

from ..atomic import whole
from ..errors import FileError

__all__ = ["read_checkpoint", "write_checkpoint"]


def write_checkpoint(path, tensors, meta):
    """Write tensors and JSON `meta`; the former file stays as ``<path>.previous``."""
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            file.write(save(tensors, metadata={"latticediff": json.dumps(meta, sort_keys=True)}))
            if path.exists():
                path.replace(path.with_name(path.name + ".previous"))
    except OSError as exc:
        raise FileError(f"cannot write checkpoint {path}: {exc.strerror or exc}; the previous one is kept") from None


def read_checkpoint(path):
    """``(tensors, meta)`` of the newest readable generation, or None if there is none."""
    path = Path(path)
    for candidate in (path, path.with_name(path.name + ".previous")):
        if not candidate.is_file():  # a pipe would be waited for
            continue
        try:
            with safe_open(candidate, framework="pt") as handle:
                meta = json.loads(handle.metadata()["latticediff"])
                return {name: handle.get_tensor(name) for name in handle.keys()}, meta  # noqa: SIM118, not a dict
        except Exception:
            continue
    return None
