r"""How long the cells of a study will still take: what is expected of each, corrected by those that have run.

Every phase of every cell has expected seconds :math:`e`, whose errors are alike for phases of one kind: the machine is
faster than the one of the formulas, or a theory slower. With :math:`a` the seconds that phases of the kind took,

.. math:: r = (\sum a + P r_0) / (\sum e + P), \qquad r_0 = (\sum_{all} a + P) / (\sum_{all} e + P),

the corrected time is :math:`r e`, at most the limit of the phase; P = `PRIOR` keeps what takes a moment from deciding.
A phase that runs says what share of it is done, and the more of it is, the more its pace counts. The first piece of a
kind compiles, so that paces are those since the first word; of a phase that says nothing, `COMPILING` seconds beyond
the expected do not count the first time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["PRIOR", "Outlook", "Phase", "Piece"]

PRIOR = 5.0  #: seconds that expectations weigh against measurements
COMPILING = 20.0  #: seconds, at most, that the first piece of a kind takes beside its work
TRUSTED = 0.25  #: share of a phase from which on its own pace alone counts
EARLY = 0.5  #: share up to which a first word leaves enough of a phase to know its pace
LEAST = 0.1  #: of its corrected time that a phase which says nothing still takes, however long it has run


class Phase(NamedTuple):
    """A part of a piece of work."""

    name: str
    seconds: float  #: expected
    at_most: float = math.inf  #: seconds at which it ends in any case


class Piece(NamedTuple):
    """A cell, or what comes after the cells."""

    key: str
    title: str  #: for people
    kind: str  #: pieces of one kind are corrected together
    phases: tuple[Phase, ...]  #: one after the other
    is_alone: bool = False  #: whether it has the machine to itself, after those that run at once


class _Running:
    """Where a piece is: in which phase since when, and what share of it is done."""

    def __init__(self, now: float) -> None:
        self.number, self.began, self.share = 0, now, 0.0
        self.first: tuple[float, float] | None = None  # when the phase first said a share, and which


class Outlook:
    """Seconds that pieces of work will still take; a clock is handed in, none is read.

    Parameters
    ----------
    pieces : iterable of Piece
        In the order in which they run.
    at_once : int
        How many run at once, of those that are not alone.
    now : float
        Seconds of the clock at the beginning.
    """

    def __init__(self, pieces: Iterable[Piece], at_once: int = 1, now: float = 0.0) -> None:
        self._todo = {piece.key: piece for piece in pieces}
        self._at_once, self._began = at_once, now
        self._running: dict[str, _Running] = {}
        self._met: dict[tuple[str, str], tuple[float, float]] = {}  # by kind and phase: taken, expected
        self._all = 0.0, 0.0

    def begin(self, key: str, now: float) -> None:
        """A piece begins; one that is not known is left alone, here and below."""
        if key in self._todo:
            self._running[key] = _Running(now)

    def reach(self, key: str, phase: str, share: float, now: float) -> None:
        """`share` of a phase of a running piece is done; those before it have ended."""
        running = self._running.get(key)
        names = [each.name for each in self._todo[key].phases] if key in self._todo else []
        if running is None or phase not in names[running.number :]:
            return
        if names[running.number] != phase:
            self._learn(key, running, now)
            running.number, running.began, running.first = names.index(phase), now, None
        running.share = min(1.0, max(0.0, share))
        if running.first is None and running.share > 0:
            running.first = now, running.share

    def end(self, key: str, now: float, failed: bool = False) -> None:
        """A piece has ended; from one that failed nothing is learned."""
        running, piece = self._running.pop(key, None), self._todo.get(key)
        if piece is not None and running is not None and not failed and running.number == len(piece.phases) - 1:
            self._learn(key, running, now)
        self._todo.pop(key, None)

    def _learn(self, key: str, running: _Running, now: float) -> None:
        piece = self._todo[key]
        phase, taken = piece.phases[running.number], now - running.began
        since, already = running.first or (now, 1.0)
        if taken > 0.95 * phase.at_most and taken < phase.seconds:
            return  # its limit ended it: no more is known than that it would have taken longer
        before = self._met.get((piece.kind, phase.name), (0.0, 0.0))
        if already < EARLY:
            taken = (now - since) / (1 - already)
        elif before == (0.0, 0.0):
            taken = max(min(taken, phase.seconds), taken - COMPILING)
        self._met[piece.kind, phase.name] = before[0] + taken, before[1] + phase.seconds
        self._all = self._all[0] + taken, self._all[1] + phase.seconds

    def corrected(self, kind: str, phase: Phase) -> float:
        """Seconds of a phase, as corrected by what has run."""
        overall = (self._all[0] + PRIOR) / (self._all[1] + PRIOR)
        taken, expected = self._met.get((kind, phase.name), (0.0, 0.0))
        return min(phase.at_most, phase.seconds * (taken + PRIOR * overall) / (expected + PRIOR))

    def _left_of(self, piece: Piece, now: float) -> float:
        running = self._running.get(piece.key)
        if running is None:
            return sum(self.corrected(piece.kind, phase) for phase in piece.phases)
        phase, passed = piece.phases[running.number], max(0.0, now - running.began)
        guess = self.corrected(piece.kind, phase)
        left = max(guess - passed, LEAST * guess)
        since, already = running.first or (now, running.share)
        if running.share > already:
            trust = min(1.0, (running.share - already) / TRUSTED)
            pace = max(0.0, now - since) / (running.share - already)
            left = trust * pace * (1 - running.share) + (1 - trust) * left
        left = min(left, max(0.0, phase.at_most - passed))
        return left + sum(self.corrected(piece.kind, later) for later in piece.phases[running.number + 1 :])

    def left(self, now: float) -> float:
        """Seconds that all pieces will still take."""
        rest = [self._left_of(piece, now) for piece in self._todo.values() if not piece.is_alone]
        alone = sum(self._left_of(piece, now) for piece in self._todo.values() if piece.is_alone)
        return max(sum(rest) / self._at_once, max(rest, default=0.0)) + alone

    def share(self, now: float) -> float:
        """Share of the time that has passed, between 0 and 1."""
        passed, left = now - self._began, self.left(now)
        return passed / (passed + left) if passed + left > 0 else 1.0

    def at(self) -> str:
        """What runs, for people: ``hmc at 8x8: search 40 %``; the piece that began first, of several."""
        for key, running in self._running.items():
            piece = self._todo[key]
            more = f" and {len(self._running) - 1} more" if len(self._running) > 1 else ""
            share = f" {100 * running.share:.0f} %" if running.share > 0 else ""  # some phases say nothing
            return f"{piece.title}: {piece.phases[running.number].name}{share}{more}"
        return ""
