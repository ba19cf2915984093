"""Training of score networks by score matching (torch, CUDA or CPU).

Rooms: `data` and `rows` (configurations in memory or in their file), `tasks` (several theories in one
training), `plan` (numbers and choices), `objective` (what is minimised), `gradient_noise` (measured, to fit
the mixed target), `gradient` (of a step, in pieces that fit the memory), `ranks` (processes that share the
work), `trainer` (what a step does), `loop` (taking them), `held_out`, `watching`, `diagnose` and `best` (what the
loop measures and keeps), `state` and `checkpoint` (files that survive a kill), `calibrate` (what is measured once
training is over).
"""

from .data import TrainingData
from .plan import TrainingPlan
from .tasks import Task
from .trainer import Trainer
from .watching import Watching

__all__ = ["Task", "Trainer", "TrainingData", "TrainingPlan", "Watching"]
