"""Training of score networks by denoising score matching (torch, CUDA or CPU).

Rooms: `data` (configurations as tensors), `trainer` (the loop), `checkpoint` (files that survive a
kill), `calibrate` (what is measured once training is over).
"""

from .data import TrainingData
from .trainer import Trainer, TrainingPlan

__all__ = ["Trainer", "TrainingData", "TrainingPlan"]
