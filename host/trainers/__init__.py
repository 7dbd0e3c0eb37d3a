"""Trainers: scikit-learn classifiers whose network runs on a chip."""

from host.trainers.base import Neuron, Progress, StopTraining, TrainingError, balanced_accuracy
from host.trainers.binary import BayesianBinary, BinaryStraightThrough
from host.trainers.checkpoint import CheckpointError, State
from host.trainers.delgrad import DelGrad
from host.trainers.full_precision import FullPrecision
from host.trainers.metropolis import MetropolisHastings
from host.trainers.spike_backprop import SpikeBackprop
from host.trainers.surrogate import SurrogateGradient

__all__ = [
    "BayesianBinary",
    "BinaryStraightThrough",
    "CheckpointError",
    "DelGrad",
    "FullPrecision",
    "MetropolisHastings",
    "Neuron",
    "Progress",
    "SpikeBackprop",
    "State",
    "StopTraining",
    "SurrogateGradient",
    "TrainingError",
    "balanced_accuracy",
]
