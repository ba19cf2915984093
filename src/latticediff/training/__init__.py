"""Training of score networks by score matching (torch, CUDA or CPU).

Rooms: `data` (configurations as tensors), `tasks` (several theories in one training), `plan` (numbers and
choices), `objective` (what is minimised), `gradient_noise` (measured, to fit the mixed target), `trainer`
(the loop), `checkpoint` (files that survive a kill), `calibrate` (what is measured once training is over).
"""

from .data import TrainingData
from .plan import TrainingPlan
from .tasks import Task
from .trainer import Trainer

__all__ = ["Task", "Trainer", "TrainingData", "TrainingPlan"]
