"""A device where there is none: tensors that say ``cuda:0``, compute on the CPU, and refuse to meet its tensors.

What breaks first on a GPU is a tensor that was left on the CPU, and that needs no GPU to be seen. As on CUDA,
numbers (tensors without dimensions) and integer indices of the CPU are let pass, ``numpy()`` is refused, and only
``to`` and ``cpu`` cross over. What a GPU computes, how fast and in how much memory, is not seen here.
"""

import contextlib

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["far_device"]

FAR, NEAR = torch.device("cuda", 0), torch.device("cpu")
NUMBERS = ("item", "tolist", "__float__", "__bool__", "__int__", "__index__")


class FarTensor(torch.Tensor):
    @staticmethod
    def __new__(cls, near):
        layout = {"strides": near.stride(), "storage_offset": near.storage_offset(), "dtype": near.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, near.size(), **layout, requires_grad=near.requires_grad)

    def __init__(self, near):
        self.near = near.detach()

    def __repr__(self):
        return f"FarTensor({self.near})"

    @property
    def device(self):
        return FAR

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        name, far, strangers = func._schema.name, [], []

        def near(leaf):
            if isinstance(leaf, cls):
                far.append(leaf)
                return leaf.near
            if isinstance(leaf, torch.Tensor) and leaf.ndim:
                strangers.append(leaf)
            return NEAR if _is_far(leaf) else leaf

        args, kwargs = _mapped(near, args), _mapped(near, kwargs or {})
        indices = name.startswith("aten::index") and not any(t.dtype.is_floating_point for t in strangers)
        if strangers and not indices and name != "aten::copy_":
            raise RuntimeError(f"{name}: tensors on cuda:0 and on cpu")
        # what is changed in place stays the tensor it was
        changed = {id(tensor.near): tensor for tensor in far} if func._schema.is_mutable else {}

        def away(leaf):
            if not isinstance(leaf, torch.Tensor):
                return leaf
            return changed[id(leaf)] if id(leaf) in changed else FarTensor(leaf)

        return _mapped(away, func(*args, **kwargs))


def _mapped(function, tree):
    if isinstance(tree, (tuple, list)):
        return type(tree)([_mapped(function, leaf) for leaf in tree])
    if isinstance(tree, dict):
        return {key: _mapped(function, leaf) for key, leaf in tree.items()}
    return function(tree)


def _is_far(leaf):
    return isinstance(leaf, (str, torch.device)) and str(leaf).split(":")[0] == "cuda"


class _Crossings(TorchFunctionMode):
    """Sends what is made or moved by device to the side it is meant for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "to":
            return self._to(func, args, kwargs)
        if args and isinstance(args[0], FarTensor):
            if name == "cpu":
                return args[0].near
            if name == "numpy":
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            if name in NUMBERS:
                return getattr(args[0].near, name)()
        if _is_far(kwargs.get("device")) and name not in ("device", "_parse_to"):
            made = func(*args, **{**kwargs, "device": NEAR})
            return made if isinstance(made, FarTensor) else FarTensor(made)
        return func(*args, **kwargs)

    def _to(self, func, args, kwargs):
        tensor, *rest = args
        if rest and isinstance(rest[0], torch.Tensor):
            like, *rest = rest
            rest = [like.device, like.dtype, *rest]
        asked = [leaf for leaf in (*rest, kwargs.get("device")) if isinstance(leaf, (str, torch.device))]
        rest = [NEAR if _is_far(leaf) else leaf for leaf in rest]
        kwargs = {key: NEAR if _is_far(leaf) else leaf for key, leaf in kwargs.items()}
        if not asked or _is_far(asked[0]) == isinstance(tensor, FarTensor):
            return func(tensor, *rest, **kwargs)
        if tensor.requires_grad and not tensor.is_leaf:
            raise NotImplementedError("a move that is differentiated")
        return FarTensor(func(tensor, *rest, **kwargs)) if _is_far(asked[0]) else func(tensor.near, *rest, **kwargs)


@contextlib.contextmanager
def far_device(monkeypatch):
    """While it lasts, ``cuda`` is there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "no device")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2**30, 2**30))
    # optimizers of a torch that is built for CUDA ask, and the driver, which is not there, would answer
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # modules move as on every other new device
    try:
        with _Crossings():
            yield FAR.type
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
