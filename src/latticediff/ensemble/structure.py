"""Is a file laid out as the schema says? Shapes, types and counts, looked at once when it is opened."""

from ..errors import FileError
from ..untrusted import printable
from .schema import CONFIGURATIONS, Header, action_from_description

__all__ = ["check_structure", "is_bool", "require_dimension"]


def check_structure(file):
    """Number of configurations and of updates in an ensemble file, a `Store`, whose layout is right.

    Raises
    ------
    FileError
        Something is missing, of another kind, type or shape than docs/file-format.md says, or does not fit the rest.
    """
    header, path = Header.read(file), file.path
    if header.action.get("name") == "phi4":  # of other actions only those who wrote them know what belongs in there
        require_dimension(action_from_description(header.action), header.shape, path)
    n_cfg = None
    for name in ("phi", "update", "series", "action"):
        kind, lattice = CONFIGURATIONS[name], header.shape if name == "phi" else ()
        data = file.data(f"configurations/{name}", kind.kind, 1 + len(lattice), kind.itemsize)
        n_cfg = len(data) if n_cfg is None else n_cfg
        if data.shape != (n_cfg, *lattice):
            wanted = (n_cfg, *lattice) if name != "phi" else f"(n_cfg, {', '.join(map(str, lattice))})"
            raise FileError(f"{path}: /configurations/{name} has shape {data.shape}; expected {wanted}")
    if n_cfg % header.n_chains:
        raise FileError(f"{path} holds {n_cfg} configurations, no multiple of its {header.n_chains} chains")
    return n_cfg, _check_history(file, header)


def _check_history(file, header):
    n_updates, first = 0, None
    for name in file.group("history").names():
        data = file.data(f"history/{name}", "fiu")
        is_bool(file, name)
        first = first or name
        n_updates = len(data) if first == name and data.ndim else n_updates
        if data.shape not in ((n_updates,), (n_updates, header.n_chains)):
            raise FileError(
                f"{file.path}: /history/{printable(name)} has shape {data.shape}; expected"
                f" ({n_updates}, {header.n_chains}) or ({n_updates},)"
            )
    return n_updates


def require_dimension(action, shape, path):
    """Raise `FileError` if `action` does not live on a lattice of `shape`."""
    if action.ndim != len(shape):
        raise FileError(f"{path} is of lattice {shape} and of an action in {action.ndim} dimensions")


def is_bool(file, name):
    """Whether the column `name` of the history of a `Store` stands for booleans."""
    return bool(file.attribute_int("is_bool", f"history/{name}"))
