"""The run folder: which run it is, what is finished in it, and who may write there.

Layout::

    card.toml  run.json            the effective card; its digest, program version, creation time
    stages/<stage>.json            one marker per stage: finished or not, seconds so far
    log.jsonl                      everything that happened, one JSON object a line
    ensemble.h5  model/            the reference chains (training data) and the network
    score/                         the network before fine-tuning, if there is any: what the reverse SDE uses
    chain_hmc.h5                   HMC again, every update stored
    chain_ode.h5  chain_sde.h5     the learned chains
    weights_ode.npz ...            log weights of held-out configurations
    beside_NAME.h5  .npz           the same of a further model that the card names, [sampling] beside
    prices.json                    processor time of an update of every chain, where there are such models
    report.json  report.html  figures/

Markers are written to a temporary name, fsynced and renamed, so one that exists is whole; they hold the fingerprints of
what their stage wrote, which is compared before it is used again, and a digest of their own. A folder belongs to one
card: another card is refused rather than mixed in.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from .. import __version__
from ..atomic import disk_error, open_own, sealed_text
from ..digests import check_digest, json_digest, with_digest
from ..ensemble import Ensemble
from ..errors import FileError
from ..types import PathLikeStr
from ..untrusted import parse_json, parse_toml, read_text, regular_file, status

if TYPE_CHECKING:
    from ..config import Card

__all__ = ["RunFolder", "fingerprint", "read_identity", "read_marker"]


def read_identity(path: Path) -> dict[str, Any]:
    """Read ``run.json`` of a run folder: ``{"digest", "version", "created"}``, and ``card_sha256`` of its card.toml.

    Raises
    ------
    FileError
        It cannot be read, or is none of ours.
    """
    identity = parse_json(read_text(path, "the identity of a run"), path)
    if not isinstance(identity, dict) or not isinstance(identity.get("digest"), str):
        raise FileError(f"{path} is not the identity of a run; restore it")
    return check_digest(identity, path)


def read_marker(path: Path) -> dict[str, Any]:
    """Read the marker of a stage, a file: ``{"stage", "finished", "seconds"}``, and ``outputs`` if it wrote any.

    Raises
    ------
    FileError
        It is torn, or none of ours; once the file is removed, the stage runs again.
    """
    marker = parse_json(read_text(path, "the marker of a stage"), path)
    kinds = {"stage": str, "finished": bool, "seconds": int | float}
    if not isinstance(marker, dict) or not all(isinstance(marker.get(key), kind) for key, kind in kinds.items()):
        raise FileError(f"{path} is no marker of a stage; remove it, and the stage runs again")
    return check_digest(marker, path, "remove it, and the stage runs again")


def fingerprint(path: Path) -> str:
    """A hash that identifies an ensemble file, the folder of a model, or any other file of a run."""
    if path.suffix == ".h5":
        with Ensemble(path) as ensemble:
            return ensemble.fingerprint()
    if path.is_dir():
        from ..model.storage import read_card  # imports torch

        return json_digest(read_card(path))
    regular_file(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RunFolder:
    """A folder that belongs to one run; use as a context manager, which holds its lock.

    Parameters
    ----------
    path : path-like
    card : latticediff.config.Card
    resume : bool
        Go on with a run of the same card that is there already.

    Raises
    ------
    FileError
        The folder holds another run, an unfinished run without `resume`, or foreign files, or
        another process is writing there.
    """

    def __init__(self, path: PathLikeStr, card: Card, resume: bool = False) -> None:
        self.path = Path(path)
        self.card = card
        self._lock: IO[str] | None = None
        self._check(resume)

    # where things are
    @property
    def ensemble(self) -> Path:
        """The reference chains."""
        return self.path / "ensemble.h5"

    @property
    def model(self) -> Path:
        """Folder of the finished network."""
        return self.path / "model"

    @property
    def score(self) -> Path:
        """Folder of the network after score matching: the model itself unless the card fine-tunes it."""
        return self.path / "score" if self.card.finetune.steps else self.model

    @property
    def log(self) -> Path:
        """The log file."""
        return self.path / "log.jsonl"

    def chain(self, route: str) -> Path:
        """File of the chains of `route` (``hmc``, ``ode`` or ``sde``)."""
        return self.path / f"chain_{route}.h5"

    def weights(self, route: str) -> Path:
        """File of the log weights of held-out configurations under `route`."""
        return self.path / f"weights_{route}.npz"

    def beside(self, key: str) -> tuple[Path, Path]:
        """Files of the chains of a further model, and of its log weights; no route's are called so."""
        return self.path / f"beside_{key}.h5", self.path / f"beside_{key}.npz"

    @property
    def prices(self) -> Path:
        """File of the processor time of updates."""
        return self.path / "prices.json"

    def _check(self, resume: bool) -> None:
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise FileError(f"--out {self.path} is a file; expected a folder, or a name that is free")
        identity = self.path / "run.json"
        if not identity.exists():
            if any(self.path.iterdir()):
                raise FileError(f"folder {self.path} holds other files; choose another --out, nothing was changed")
            return
        try:
            digest = read_identity(identity)["digest"]
        except (FileError, KeyError, TypeError):
            raise FileError(f"{identity} cannot be read; choose another --out, nothing was changed") from None
        if digest != self.card.digest() and (difference := self._difference(digest)):
            raise FileError(f"folder {self.path} holds another run ({difference}); choose another --out")
        if not resume:
            state = "a finished run" if self.is_finished("report") else "an unfinished run"
            raise FileError(
                f"folder {self.path} holds {state} of this card; go on with --resume, or choose another --out"
            )

    def _difference(self, digest: str) -> str:
        """The first key in which the card of the folder differs from ours, in words; "" if an older version wrote it.

        Its card lacks keys that have come since, which had then what is now their default.
        """
        from ..config import load_card
        from ..config.card import digest_of

        path = self.path / "card.toml"
        try:
            difference = self.card.difference(load_card(path).to_dict())
            written = digest_of(parse_toml(read_text(path, "the card of a run"), path))
        except ValueError:  # unreadable, or of a version with other keys
            return "its card.toml cannot be read as a card of this version"
        return difference or ("" if written == digest else "its card.toml was changed")

    def __enter__(self) -> Self:
        try:
            (self.path / "stages").mkdir(parents=True, exist_ok=True)
            lock = self._lock = os.fdopen(open_own(self.path / "lock", os.O_RDWR))  # held until __exit__
        except OSError as exc:
            raise disk_error(exc, self.path) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise FileError(
                f"another process is running in {self.path}; wait for it, or choose another --out"
            ) from None
        if not (self.path / "run.json").exists():
            sealed_text(self.path / "card.toml", self.card.to_toml())
            identity = {"digest": self.card.digest(), "version": __version__, "created": datetime.now(UTC).isoformat()}
            identity["card_sha256"] = fingerprint(self.path / "card.toml")
            sealed_text(self.path / "run.json", json.dumps(with_digest(identity), indent=1) + "\n")
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def marker(self, stage: str) -> dict[str, Any]:
        """What is known of `stage`, as `read_marker`; one that never began is not finished and took no seconds."""
        path = self.path / "stages" / f"{stage}.json"
        return read_marker(path) if path.exists() else {"stage": stage, "finished": False, "seconds": 0.0}

    def is_finished(self, stage: str) -> bool:
        """Whether `stage` was finished."""
        return self.marker(stage)["finished"]

    def require_output(self, stage: str) -> None:
        """Raise `FileError` if a file that the finished `stage` wrote is gone or has changed."""
        for name, wanted in self.marker(stage).get("outputs", {}).items():
            path = self.path / name
            if status(path) is None:
                raise FileError(f"{path} is gone, which stage {stage} wrote; restore it, or begin in another folder")
            if fingerprint(path) != wanted:
                raise FileError(f"{path} is not what stage {stage} wrote; restore it, or begin in another folder")

    def record(self, stage: str, seconds: float, finished: bool, outputs: Collection[Path] = ()) -> None:
        """Write the marker of `stage`; `seconds` of this process are added to those of earlier ones.

        `outputs` are the files and folders that a finished stage wrote; their fingerprints go into the marker.
        """
        before = self.marker(stage)["seconds"]
        marker = {"stage": stage, "finished": finished, "seconds": before + seconds}
        if finished and outputs:
            marker["outputs"] = {path.name: fingerprint(path) for path in outputs}
        sealed_text(self.path / "stages" / f"{stage}.json", json.dumps(with_digest(marker), indent=1) + "\n")
