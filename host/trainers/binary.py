"""BiSNN: networks of binary weights, trained with the chip in the loop by straight-through or Bayesian updates.

The chip's layers are all binary; the classes are read out on the host, by a fixed random matrix of -1 and +1 on the
spike counts of the last layer (:mod:`host.trainers.binary_gradient`). The host keeps a real parameter for every
synapse, writes a weight of -1 or +1 for it, presents a mini-batch and moves the parameters by the gradient that it
computes from what the chip read out. There is one load of the weights for every mini-batch.

After Jang, Skatchkovsky and Simeone, "BiSNN: Training spiking neural networks with binary weights via Bayesian
learning" (2020), arXiv 2012.08300. Different here: weights that the chip sees are -1 or +1 in the Bayesian rule too, so
that the factor of the concrete distribution drops out; one update for every mini-batch, not for every time step; the
loss is one of spike counts; subtracting resets and thresholds above zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from host.network import Network
from host.trainers.base import Callback, ChipClassifier, FloatArray
from host.trainers.checkpoint import State

if TYPE_CHECKING:
    from host.chip import Chip

READ_OUTS = ("counts", "raster+gate", "recompute")
GRADIENTS = ("bptt", "local")
PREDICTIONS = ("ensemble", "mode")


class CountClassifier(ChipClassifier):
    """What the trainers of binary networks and their float baseline share; see the module."""

    def __init__(
        self,
        epochs: int,
        *,
        batch_size: int,
        read_out: str,
        gradient: str,
        timesteps: int,
        encoding: str,
        gain: float,
        shift: int,
        reset_size: int | Sequence[int] | None,
        window: float,
        n_classes: int | None,
        temperature: str | float,
        validation_fraction: float,
        seed: int,
    ) -> None:
        self.epochs = epochs
        self.batch_size = batch_size
        self.read_out = read_out
        self.gradient = gradient
        self.timesteps = timesteps
        self.encoding = encoding
        self.gain = gain
        self.shift = shift
        self.reset_size = reset_size
        self.window = window
        self.n_classes = n_classes
        self.temperature = temperature
        self.validation_fraction = validation_fraction
        self.seed = seed

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
        *,
        initial: Network | Sequence[ArrayLike] | None = None,
        resume: State | None = None,
        callback: Callback | None = None,
    ) -> CountClassifier:
        """Train."""
        raise NotImplementedError

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities (N, n_classes)."""
        raise NotImplementedError


class BinaryStraightThrough(CountClassifier):
    """Trains binary weights by straight-through gradients: the sign of a real parameter is the weight.

    Parameters
    ----------
    chip : Chip
        The chip to train on and to predict with, layers ``(n_in, H1, ..., HL)``; the last layer is not the classes.
    epochs, batch_size : int
        Passes through the training set, and samples of one update.
    read_out : {"raster+gate", "recompute", "counts"}
        What the host reads. Rasters of spikes and the chip's gates; rasters alone, from which the host recomputes
        membranes with the nominal constants and takes the gates from them; or spike counts of all layers.
    gradient : {"bptt", "local"}
        One loss at the end and backpropagation through time, or a loss and a read-out for every layer.
    timesteps : int
    encoding : {"rate", "bernoulli"}
    gain : float
        G of the read-out: class scores are ``G / sqrt(HL) * B @ (counts / timesteps)``.
    learning_rate : float
        Of Adam at the start; it falls to zero along a cosine.
    shift : int
        Left shift of the weighted sums on the chip.
    reset_size : int or sequence of int, optional
        What a spike subtracts, in units of a single weight; the threshold is half of it. Default: the power of two
        next to ``8 sqrt(fan-in)`` of each layer.
    window : float
        The gate is open within so many reset sizes of the threshold.
    n_classes : int, optional
        Default: as many as there are different labels.
    temperature : {"none", "validation"} or float
        An exponent of the class probabilities, or how to find it: the one with the smallest negative log-likelihood on
        the validation set.
    validation_fraction : float
        Share of the training samples that ``fit`` holds back as validation set, unless it is given one.
    seed : int
        Seed of read-out, start parameters, order and all random numbers of the chip.

    Attributes
    ----------
    network_ : Network
        Signs of the parameters.
    latent_ : list of float arrays (n_pre, n_post), the parameters
    readout_ : int8 array (n_classes, HL), B of the last layer
    temperature_ : float, exponent in use
    history_ : dict of arrays, one entry per epoch
    """

    def __init__(
        self,
        chip: Chip,
        epochs: int = 60,
        *,
        batch_size: int = 64,
        read_out: str = "raster+gate",
        gradient: str = "bptt",
        timesteps: int = 25,
        encoding: str = "rate",
        gain: float = 20.0,
        learning_rate: float = 0.01,
        shift: int = 6,
        reset_size: int | Sequence[int] | None = None,
        window: float = 1.0,
        n_classes: int | None = None,
        temperature: str | float = "none",
        validation_fraction: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            epochs,
            batch_size=batch_size,
            read_out=read_out,
            gradient=gradient,
            timesteps=timesteps,
            encoding=encoding,
            gain=gain,
            shift=shift,
            reset_size=reset_size,
            window=window,
            n_classes=n_classes,
            temperature=temperature,
            validation_fraction=validation_fraction,
            seed=seed,
        )
        self.chip = chip
        self.learning_rate = learning_rate


class BayesianBinary(CountClassifier):
    """Trains a Bernoulli posterior of every synapse; the weights of a mini-batch are drawn from it.

    Parameters
    ----------
    rate : float
        Step eta of the natural parameters at the start; it falls to zero along a cosine.
    kappa : float
        Weight of the data against the prior; a scale of the gradient.
    prior : float or sequence of arrays
        Probability of a weight +1, for all synapses or one array (or number) per layer.
    members : int
        Networks of an ensemble, drawn once after the training; those of a smaller ensemble are the first of a larger.
    prediction : {"ensemble", "mode"}
        Mean of the members' probabilities, or the single network of the most probable weights.
    sharpness : float
        s: members are drawn with P(+1) = sigmoid(2 s lambda).
    chip, epochs, batch_size, ... :
        As in :class:`BinaryStraightThrough`.

    Attributes
    ----------
    network_ : Network
        The mode.
    networks_ : list of Network
        The members.
    latent_ : list of float arrays (n_pre, n_post), lambda
    """

    def __init__(
        self,
        chip: Chip,
        epochs: int = 60,
        *,
        batch_size: int = 64,
        read_out: str = "raster+gate",
        gradient: str = "bptt",
        timesteps: int = 25,
        encoding: str = "rate",
        gain: float = 20.0,
        rate: float = 0.01,
        kappa: float = 5000.0,
        prior: float | Sequence[ArrayLike] = 0.5,
        members: int = 10,
        prediction: str = "ensemble",
        sharpness: float = 1.0,
        shift: int = 6,
        reset_size: int | Sequence[int] | None = None,
        window: float = 1.0,
        n_classes: int | None = None,
        temperature: str | float = "none",
        validation_fraction: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            epochs,
            batch_size=batch_size,
            read_out=read_out,
            gradient=gradient,
            timesteps=timesteps,
            encoding=encoding,
            gain=gain,
            shift=shift,
            reset_size=reset_size,
            window=window,
            n_classes=n_classes,
            temperature=temperature,
            validation_fraction=validation_fraction,
            seed=seed,
        )
        self.chip = chip
        self.rate = rate
        self.kappa = kappa
        self.prior = prior
        self.members = members
        self.prediction = prediction
        self.sharpness = sharpness

    def probabilities(self, X: Any, *, prediction: str | None = None, members: int | None = None) -> FloatArray:
        """Class probabilities (N, n_classes) of the first `members` networks of the ensemble, or of the mode."""
        raise NotImplementedError

    def member_probabilities(self, X: Any, members: int | None = None) -> NDArray[np.float64]:
        """Class probabilities (members, N, n_classes) of each network of the ensemble; inputs are encoded once."""
        raise NotImplementedError
