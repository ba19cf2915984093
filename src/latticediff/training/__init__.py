"""Training of score networks by denoising score matching (torch, CUDA or CPU).

Rooms: `data` (configurations as tensors), `tasks` (several theories in one training), `trainer` (the
loop), `checkpoint` (files that survive a kill), `calibrate` (what is measured once training is over).
"""

from .data import TrainingData
from .tasks import Task
from .trainer import Trainer, TrainingPlan

__all__ = ["Task", "Trainer", "TrainingData", "TrainingPlan"]
