"""BiSNN: networks of binary weights, trained with the chip in the loop by straight-through or Bayesian updates.

The chip's layers are all binary; the classes are read out on the host, by a fixed random matrix of -1 and +1 on the
spike counts of the last layer (:mod:`host.trainers.binary_gradient`). The host keeps a real parameter for every
synapse, writes a weight of -1 or +1 for it, presents a mini-batch and moves the parameters by the gradient that it
computes from what the chip read out. There is one load of the weights for every mini-batch.

After Jang, Skatchkovsky and Simeone, "BiSNN: Training spiking neural networks with binary weights via Bayesian
learning" (2020), arXiv 2012.08300. Different here: weights are -1 or +1 in the Bayesian rule too, as the chip has no
others, so that there is no concrete distribution and no factor of it; one update for every mini-batch, not for every
time step; the loss is one of spike counts; resets subtract and thresholds are above zero.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from host.calibration import apply_temperature, fit_temperature
from host.chip import ENCODINGS
from host.encoding import input_spikes
from host.events import Events
from host.network import Network
from host.trainers.base import (
    Callback,
    ChipClassifier,
    Classifier,
    FloatArray,
    IntArray,
    Progress,
    Samples,
    StopTraining,
    adam,
    add_cost,
    chip_totals,
    index_labels,
    log_softmax,
    require,
    require_choice,
    require_number,
)
from host.trainers.binary_gradient import (
    DECAY_MEM,
    DECAY_SYN,
    Objective,
    chip_constants,
    draw_readouts,
    recompute_gates,
)
from host.trainers.checkpoint import State
from host.trainers.course import Course

if TYPE_CHECKING:
    from host.chip import Chip, Output

READ_OUTS = {"counts": (), "raster+gate": ("raster", "gate"), "recompute": ("raster",)}
"""What the host reads of a mini-batch, and what the chip must record for it."""

GRADIENTS = ("bptt", "local")
PREDICTIONS = ("ensemble", "mode")

START_SD = 0.1
"""Standard deviation of the parameters at the start."""

STRAIGHT_LIMIT, LAMBDA_LIMIT = 1.0, 4.0
"""Largest magnitude of the straight-through and of the natural parameters."""

MOMENTUM = 0.9
"""Share of the gradient's running mean that is kept, in the Bayesian rule."""

Weights = list[NDArray[Any]]
Spikes = list[NDArray[Any]]


class CountClassifier(Classifier):
    """What the trainers of binary networks and their float baseline share: everything but weights and forward pass.

    Attributes after ``fit``
    ------------------------
    latent_ : list of float64 arrays (n_pre, n_post), the trained parameters
    readout_ : int8 array (n_classes, n), the matrix of the last layer, drawn from the seed
    temperature_ : float, exponent of the class probabilities in use
    history_ : dict of arrays, one entry per epoch
        epoch, loss (nats) and accuracy_train of the mini-batches as they were learned, accuracy_validation (nan without
        a validation set), firing (mean number of spikes of a neuron in a step), rate (at the end), seconds.
    """

    _limit = np.inf
    """Largest magnitude of a parameter."""

    _start_sd = START_SD

    prediction = "mode"

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
        self.reset_size = reset_size
        self.window = window
        self.n_classes = n_classes
        self.temperature = temperature
        self.validation_fraction = validation_fraction
        self.seed = seed

    _training: _Course

    # ---- what the kinds of weights differ in

    def _rate(self) -> float:
        """Step of the updates at the start."""
        raise NotImplementedError

    def _weights(self, course: _Course) -> Weights:
        """Weights (n_pre, n_post) of every layer, for the next update."""
        raise NotImplementedError

    def _mode(self, vector: FloatArray) -> Weights:
        """The weights that stand for the parameters."""
        raise NotImplementedError

    def _step(
        self, course: _Course, gradient: FloatArray, rate: float
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        """Parameters and moments after an update."""
        raise NotImplementedError

    def _forward(self, weights: Weights, x: Samples, seed: int) -> tuple[Spikes, list[NDArray[np.bool_]]]:
        """Spikes (N, T, n) of inputs and layers, gates of layers; of the read-out "counts" counts (N, n), no gates."""
        raise NotImplementedError

    def _counts(self, weights: Weights, x: Samples) -> NDArray[Any]:
        """Spike counts (N, n) of the last layer, as predictions use them."""
        raise NotImplementedError

    def _totals(self) -> dict[str, int]:
        """What was asked of the chip so far."""
        raise NotImplementedError

    # ---- training

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
    ) -> Any:
        """Train.

        Parameters
        ----------
        X : (N, n_in) integers from 0 to 255, or Events
        y : (N,) labels
        X_val, y_val : validation set, measured after every epoch; default: what `validation_fraction` holds back
        initial : start from the signs of a network of -1 and +1, or from parameters, one array per layer. Drawn from
            the seed if ``None``
        resume : state of an interrupted training (:meth:`state_dict`); the training goes on as if never interrupted
        callback : called every few updates; may raise :class:`StopTraining`

        Raises
        ------
        TrainingError, CheckpointError
            For settings, data or a state that do not fit; the chip is not touched then.
        """
        x, labels, classes = self._prepare(X, y)
        validation = self._validation(X_val, y_val, classes)
        if validation is None:
            x, labels, validation = self._hold_back(x, labels, self.validation_fraction)
        require(
            self.temperature != "validation" or validation is not None,
            "Setting temperature = 'validation': needs a validation set, X_val and y_val or validation_fraction.",
        )
        identity = self._meta(*(array for part in (x, labels, *(validation or ())) for array in _arrays(part)))
        size = sum(pre * post for pre, post in self._cfg.shapes)
        if resume is None:
            course = _Course(self._start(initial, size))
        else:
            self._check_resume(resume, identity)
            course = _Course.from_state(resume, size)
        self._begin(course, classes)
        self._identity = identity
        with suppress(StopTraining):
            self._run(x, labels, validation, callback)
        self._finish(validation)
        return self

    def _check_common(self) -> None:
        super()._check_common()
        require_number("epochs", self.epochs, 1, 2**31 - 2, integer=True)
        require_number("batch_size", self.batch_size, 1, integer=True)
        require_choice("read_out", self.read_out, tuple(READ_OUTS))
        require_choice("gradient", self.gradient, GRADIENTS)
        require_choice("encoding", self.encoding, tuple(ENCODINGS))
        require_number("gain", self.gain, 1e-6, 1e6)
        require_number("window", self.window, 1e-3, 1e3)
        require_number("validation_fraction", self.validation_fraction, 0, 0.9)
        if self.n_classes is not None:
            require_number("n_classes", self.n_classes, 2, integer=True)
        if isinstance(self.temperature, str):
            allowed = ("none", "validation")
            good = self.temperature in allowed
            require(good, f"Setting temperature = {self.temperature!r}: must be {' or '.join(allowed)}, or a number.")
        else:
            require_number("temperature", self.temperature, 1e-6, 1e3)
        self._sizes()

    def _sizes(self) -> list[int]:
        """Reset size of every layer, in units of a weight."""
        if self.reset_size is None:
            return [1 << round(float(np.log2(8 * np.sqrt(pre)))) for pre, _ in self._cfg.shapes]
        n = len(self._cfg.shapes)
        values: list[Any] = (
            list(self.reset_size) if isinstance(self.reset_size, (tuple, list)) else [self.reset_size] * n
        )
        require(len(values) == n, f"Setting reset_size = {self.reset_size!r}: must be an integer, or {n} of them.")
        for value in values:
            require_number("reset_size", value, 1, 2**30, integer=True)
        return [int(value) for value in values]

    def _index(self, labels: NDArray[Any]) -> tuple[NDArray[Any], IntArray]:
        found = len(np.unique(labels))
        n_classes = found if self.n_classes is None else int(self.n_classes)
        require(n_classes > 1, f"Labels take {found} value: must take 2 or more, unless n_classes says how many.")
        require(
            found <= n_classes,
            f"Setting n_classes = {n_classes}: must be {found} or more, for the labels take {found} values.",
        )
        why = f"n_classes = {n_classes}, and only integers from 0 to {n_classes - 1} may lack some"
        return index_labels(labels, n_classes, why)

    def _inputs(self, X: Any) -> Samples:
        if not isinstance(X, Events):
            return super()._inputs(X)
        require(len(X) > 0, "Inputs hold no samples.")
        X.check(int(self.timesteps), self._cfg.n_in)
        return X

    def _start(self, initial: Network | Sequence[ArrayLike] | None, size: int) -> FloatArray:
        drawn = np.random.default_rng([int(self.seed), 0x57A27]).normal(0.0, self._start_sd, size)
        if initial is None:
            return self._limited(drawn)
        if isinstance(initial, Network):
            initial.check(self._cfg)
            signs = _vector(initial.weights)
            require(bool((np.abs(signs) == 1).all()), "Start network: all weights must be -1 or +1.")
            return self._limited(signs * np.abs(drawn))
        return self._limited(self._per_synapse("Start parameters", initial))

    def _limited(self, vector: FloatArray) -> FloatArray:
        return np.clip(vector, -self._limit, self._limit)

    def _per_synapse(self, what: str, values: Any) -> FloatArray:
        """One number per synapse, in one vector, from an array (or number) per layer."""
        shapes = self._cfg.shapes
        good = isinstance(values, (tuple, list)) and len(values) == len(shapes)
        require(good, f"{what}: must be one array for each of the {len(shapes)} layers.")
        parts = []
        for layer, (value, shape) in enumerate(zip(values, shapes, strict=True)):
            try:
                parts.append(np.broadcast_to(np.asarray(value, np.float64), shape).ravel())
            except (TypeError, ValueError):
                require(False, f"{what} of layer {layer + 1}: must be numbers of shape {shape}.")
        vector = np.concatenate(parts)
        require(bool(np.isfinite(vector).all()), f"{what} hold NaN or infinite values.")
        return vector

    def _split(self, vector: NDArray[Any]) -> Weights:
        """Matrices (n_pre, n_post), as views into a vector."""
        shapes = self._cfg.shapes
        ends = np.cumsum([pre * post for pre, post in shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes, strict=True)]

    def _run(
        self, x: Samples, labels: IntArray, validation: tuple[Samples, IntArray] | None, callback: Callback | None
    ) -> None:
        course, n, epochs, size = self._training, len(labels), int(self.epochs), int(self.batch_size)
        # What is left of an epoch after whole batches waits for the next one: small batches would weigh too much.
        per_epoch = max(1, n // size)
        total = epochs * per_epoch
        every = max(1, min(10, total // 40))
        objective, order, order_of = self._objective(), np.arange(n), -1
        while len(course.rows) < epochs:
            epoch = len(course.rows)
            if course.updates < (epoch + 1) * per_epoch:
                if order_of != epoch:
                    order_of, order = epoch, np.random.default_rng([int(self.seed), 0x6F72, epoch]).permutation(n)
                at = (course.updates - epoch * per_epoch) * size
                chosen = order[at : at + size]
                rate = 0.5 * self._rate() * (1.0 + np.cos(np.pi * course.updates / total))
                self._learn(objective, x[chosen], labels[chosen], rate)
            tally = course.tally
            if course.updates == (epoch + 1) * per_epoch:
                self._close_epoch(validation)
            if callback is not None and (course.updates % every == 0 or course.updates == total):
                best = max((row[3] for row in course.rows if row[3] >= 0), default=np.nan)
                loss, right = -tally.loss / tally.samples, tally.right / tally.samples
                callback(Progress(course.updates, total, loss, right, np.nan, best))

    def _learn(self, objective: Objective, x: Samples, labels: IntArray, rate: float) -> None:
        """One update; when interrupted, the training is as it was before."""
        course, began, before = self._training, time.perf_counter(), self._totals()
        weights, steps = self._weights(course), int(self.timesteps)
        spikes, gates = self._forward(weights, x, self._seed | (course.updates + 1))
        if self.read_out == "counts":
            loss, right, gradients = objective.by_counts(weights, spikes, steps, labels)
        else:
            loss, right, gradients = objective.by_rasters(weights, spikes, gates, labels)
        vector, moments = self._step(course, _vector(gradients), rate)
        fired = sum(int(layer.sum()) for layer in spikes[1:])
        cost = add_cost(before, self._totals(), course.cost)
        # From here on nothing can fail: commit.
        course.vector, (course.first, course.second), course.cost = vector, moments, cost
        course.updates, course.tally.rate = course.updates + 1, float(rate)
        tally = course.tally
        tally.samples += len(labels)
        tally.right += right
        tally.loss += loss * len(labels)
        tally.firing += fired / (steps * self._cfg.n_neurons)
        tally.seconds += time.perf_counter() - began

    def _close_epoch(self, validation: tuple[Samples, IntArray] | None) -> None:
        course, accuracy, began, before = self._training, np.nan, time.perf_counter(), self._totals()
        if validation is not None:
            scores = self._objective().scores(self._counts(self._mode(course.vector), validation[0]), self.timesteps)
            accuracy = float(np.mean(self.decide(scores) == validation[1]))
            course.cost = add_cost(before, self._totals(), course.cost)
        course.close(accuracy, time.perf_counter() - began)

    def _finish(self, validation: tuple[Samples, IntArray] | None) -> None:
        course, before = self._training, self._totals()
        self.latent_ = [matrix.copy() for matrix in self._split(course.vector)]
        self.readout_ = self._objective().readouts[-1].astype(np.int8)
        self.history_ = course.columns()
        self._exponents = {kind: self._exponent(kind, validation) for kind in self._kinds()}
        self.temperature_ = self._exponents[self.prediction]
        self.cost_ = add_cost(before, self._totals(), course.cost)

    def _exponent(self, prediction: str, validation: tuple[Samples, IntArray] | None) -> float:
        """Exponent of the probabilities, fitted if it is to be."""
        if self.temperature == "validation" and validation is not None:
            return fit_temperature(self._averaged(validation[0], prediction), validation[1])
        return 1.0 if self.temperature == "none" else float(self.temperature)

    # ---- prediction

    def _objective(self) -> Objective:
        n_classes = len(self.classes_) if hasattr(self, "classes_") else self.n_classes
        require(n_classes is not None, "Setting n_classes = None: must be given before there was a training.")
        readouts = draw_readouts(int(self.seed), int(n_classes or 0), self._cfg.neuron_layers)
        return Objective(readouts, float(self.gain), self._sizes(), float(self.window), local=self.gradient == "local")

    @property
    def _seed(self) -> int:
        # Updates are counted from 1 in the seeds of the training, so that those of predictions are different ones.
        return int(self.seed) << 32

    def _kinds(self) -> tuple[str, ...]:
        """Kinds of predictions that there are."""
        return (self.prediction,)

    def _softmax(self, counts: NDArray[Any]) -> FloatArray:
        return np.exp(log_softmax(self._objective().scores(counts, int(self.timesteps))))

    def _averaged(self, x: Samples, prediction: str) -> FloatArray:
        """Class probabilities (N, n_classes) without the exponent."""
        return self._softmax(self._counts(self._mode(_vector(self.latent_)), x))

    def _scores(self, X: Any) -> FloatArray:
        # Without the exponent, which may make probabilities equal that are not.
        self._check_fitted()
        return self._averaged(self._inputs(X), self.prediction)

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities (N, n_classes)."""
        self._check_fitted()
        return apply_temperature(self._averaged(self._inputs(X), self.prediction), self.temperature_)


class ChipTrainer(CountClassifier, ChipClassifier):
    """What the trainers of binary weights share: their forward pass is the chip's."""

    shift: int

    def _check_common(self) -> None:
        super()._check_common()
        require_number("shift", self.shift, 0, 15, integer=True)
        top, bits = self._cfg.state_range[1], self._cfg.state_bits
        for size in self._sizes():
            amount, _, reach = chip_constants(int(self.shift), size, float(self.window))
            require(
                max(amount, reach) <= top,
                f"Setting reset_size = {size}: with shift = {self.shift} and window = {self.window:g} the chip's "
                f"{bits} state bits, up to {top}, do not hold it.",
            )

    def network_of(self, weights: Weights) -> Network:
        """The network of these weights (n_pre, n_post) of -1 and +1, with this trainer's neuron constants."""
        window = float(self.window)
        amounts, thresholds, reaches = zip(
            *(chip_constants(int(self.shift), size, window) for size in self._sizes()), strict=True
        )
        return Network(
            weights,
            thresholds=thresholds,
            decay_syn=DECAY_SYN,
            decay_mem=DECAY_MEM,
            shift=int(self.shift),
            reset="subtract",
            reset_amount=amounts,
            gate_at_threshold=True,
            gate_centre=0,
            gate_window=reaches,
        )

    def _mode(self, vector: FloatArray) -> Weights:
        return self._split(np.where(vector < 0, -1, 1).astype(np.int32))

    def _forward(self, weights: Weights, x: Samples, seed: int) -> tuple[Spikes, list[NDArray[np.bool_]]]:
        cfg, steps = self._cfg, int(self.timesteps)
        self.chip.load(self.network_of(weights))
        out = self.present(x, seed, READ_OUTS[self.read_out])
        inputs = input_spikes(cfg, x, steps, encoding=self.encoding, seed=seed)
        if self.read_out == "counts":
            return [inputs.sum(axis=1), *out.counts], []
        spikes = [inputs, *out.raster]
        if self.read_out == "raster+gate":
            return spikes, out.gate
        layers = zip(weights, spikes[:-1], spikes[1:], self._sizes(), strict=True)
        return spikes, [
            recompute_gates(matrix, below, above, int(self.shift), size, float(self.window), cfg.state_range)
            for matrix, below, above, size in layers
        ]

    def _counts(self, weights: Weights, x: Samples) -> NDArray[Any]:
        self.chip.load(self.network_of(weights))
        return self.present(x).counts[-1]

    def _totals(self) -> dict[str, int]:
        return chip_totals(self.chip)

    @property
    def network_(self) -> Network:
        """The network of the most probable (straight-through: the trained) weights."""
        self._check_fitted()
        return self.network_of(self._mode(_vector(self.latent_)))

    def present(self, x: Samples, seed: int | None = None, record: tuple[str, ...] = ()) -> Output:
        """What the network that the chip holds now makes of samples, presented as predictions do it."""
        return self.chip.run(
            x,
            steps=int(self.timesteps),
            seed=self._seed if seed is None else seed,
            encoding=self.encoding,
            record=record,
            potentials=False,
        )

    def scores_of(self, out: Output) -> FloatArray:
        """Scores of the classes (N, n_classes) in what a network made of samples; their softmax are probabilities."""
        return self._objective().scores(out.counts[-1], int(self.timesteps))


class BinaryStraightThrough(ChipTrainer):
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
        An exponent of the class probabilities, above 0, or how to find it: the one with the smallest negative
        log-likelihood on the validation set. Decisions do not depend on it.
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
            reset_size=reset_size,
            window=window,
            n_classes=n_classes,
            temperature=temperature,
            validation_fraction=validation_fraction,
            seed=seed,
        )
        self.chip = chip
        self.shift = shift
        self.learning_rate = learning_rate

    _limit = STRAIGHT_LIMIT
    _free_on_resume = ("temperature",)

    def _check_common(self) -> None:
        super()._check_common()
        require_number("learning_rate", self.learning_rate, 0, 1e3)

    def _rate(self) -> float:
        return float(self.learning_rate)

    def _weights(self, course: _Course) -> Weights:
        return self._mode(course.vector)

    def _step(
        self, course: _Course, gradient: FloatArray, rate: float
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        vector, moments = adam(course.vector, course.moments, gradient, rate, course.updates + 1)
        return self._limited(vector), moments


class BayesianBinary(ChipTrainer):
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
            reset_size=reset_size,
            window=window,
            n_classes=n_classes,
            temperature=temperature,
            validation_fraction=validation_fraction,
            seed=seed,
        )
        self.chip = chip
        self.shift = shift
        self.rate = rate
        self.kappa = kappa
        self.prior = prior
        self.members = members
        self.prediction = prediction
        self.sharpness = sharpness

    _limit = LAMBDA_LIMIT
    _free_on_resume = ("members", "prediction", "sharpness", "temperature")

    # ---- training

    def _check_common(self) -> None:
        super()._check_common()
        require_number("rate", self.rate, 0, 1)
        require_number("kappa", self.kappa, 0, 1e12)
        require_number("members", self.members, 1, 100_000, integer=True)
        require_choice("prediction", self.prediction, PREDICTIONS)
        require_number("sharpness", self.sharpness, 0, 1e6)
        self._prior()

    def _prior(self) -> FloatArray | float:
        """Natural parameters of the prior, one for all synapses or one for each."""
        alone = isinstance(self.prior, (int, float, np.number)) and not isinstance(self.prior, bool)
        values = np.array(self.prior, float) if alone else self._per_synapse("Setting prior", self.prior)
        low, high = float(values.min()), float(values.max())
        require(low > 0 and high < 1, f"Setting prior from {low:g} to {high:g}: must be probabilities between 0 and 1.")
        return 0.5 * logit(values)

    def _rate(self) -> float:
        return float(self.rate)

    def _start(self, initial: Network | Sequence[ArrayLike] | None, size: int) -> FloatArray:
        vector = super()._start(initial, size)
        return vector if initial is not None else self._limited(vector + self._prior())

    def _weights(self, course: _Course) -> Weights:
        rng = np.random.default_rng([int(self.seed), 0x4452, course.updates])
        return self._split(draw(course.vector, rng))

    def _step(
        self, course: _Course, gradient: FloatArray, rate: float
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        mean, unused = course.moments
        mean = MOMENTUM * mean + (1 - MOMENTUM) * gradient
        vector = (1 - rate) * course.vector + rate * self._prior() - rate * float(self.kappa) * mean
        return self._limited(vector), (mean, unused)

    def _finish(self, validation: tuple[Samples, IntArray] | None) -> None:
        self.networks_ = [self.network_of(self._member(index)) for index in range(int(self.members))]
        super()._finish(validation)

    def _member(self, index: int) -> Weights:
        rng = np.random.default_rng([int(self.seed), 0x4D45, index])
        return self._split(draw(self._training.vector, rng, float(self.sharpness)))

    # ---- prediction

    def _kinds(self) -> tuple[str, ...]:
        return PREDICTIONS

    def _each(self, x: Samples, networks: Sequence[Network]) -> FloatArray:
        """Class probabilities (networks, N, n_classes); the samples are encoded once."""
        encoded = self.chip.encode(
            x, steps=int(self.timesteps), seed=self._seed, encoding=self.encoding, potentials=False
        )
        found = []
        for network in networks:
            self.chip.load(network)
            found.append(self._softmax(self.chip.run_encoded(encoded).counts[-1]))
        return np.stack(found)

    def _averaged(self, x: Samples, prediction: str, members: int | None = None) -> FloatArray:
        if prediction == "mode":
            return super()._averaged(x, prediction)
        return self._each(x, self.networks_[:members]).mean(axis=0)

    def probabilities(self, X: Any, *, prediction: str | None = None, members: int | None = None) -> FloatArray:
        """Class probabilities (N, n_classes).

        Parameters
        ----------
        X : (N, n_in) integers from 0 to 255, or Events
        prediction : default: the setting; "mode" and "ensemble" have an exponent each, if it was fitted
        members : take so many members only, the first ones; the exponent is that of all of them
        """
        self._check_fitted()
        kind = self.prediction if prediction is None else prediction
        require_choice("prediction", kind, PREDICTIONS)
        if members is not None:
            require_number("members", members, 1, len(self.networks_), integer=True)
        return apply_temperature(self._averaged(self._inputs(X), kind, members), self._exponents[kind])

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities (N, n_classes) of the ensemble or the mode, as the setting `prediction` says."""
        return self.probabilities(X)

    def member_probabilities(self, X: Any, members: int | None = None) -> FloatArray:
        """Class probabilities (members, N, n_classes) of each network of the ensemble, without an exponent."""
        self._check_fitted()
        if members is not None:
            require_number("members", members, 1, len(self.networks_), integer=True)
        return self._each(self._inputs(X), self.networks_[:members])


def draw(vector: FloatArray, rng: np.random.Generator, sharpness: float = 1.0) -> NDArray[np.int32]:
    """Weights of -1 and +1 from natural parameters: P(+1) = sigmoid(2 s lambda).

    The same as the sign of ``s * lambda`` plus half a logistic random number.
    """
    return np.where(rng.random(vector.shape) < expit(2.0 * sharpness * vector), 1, -1).astype(np.int32)


def _vector(matrices: Sequence[NDArray[Any]]) -> FloatArray:
    """Matrices of all layers as one vector."""
    return np.concatenate([matrix.ravel() for matrix in matrices]).astype(np.float64)


def _arrays(data: Any) -> tuple[NDArray[Any], ...]:
    """What samples or labels consist of."""
    return (data.words, data.offsets) if isinstance(data, Events) else (data,)


class _Tally:
    """What happened in an epoch so far."""

    FIELDS = ("samples", "right", "loss", "firing", "rate", "seconds")

    def __init__(self) -> None:
        self.samples = self.right = 0
        self.loss = self.firing = self.rate = self.seconds = 0.0


class _Course(Course):
    """State of one training.

    The random numbers of an update are drawn from its number and the seed, so there is no generator to keep.
    """

    _COLUMNS = ("epoch", "loss", "accuracy_train", "accuracy_validation", "firing", "rate", "seconds")

    def __init__(self, vector: FloatArray) -> None:
        super().__init__(vector)
        self.tally = _Tally()

    def close(self, accuracy: float, seconds: float) -> None:
        """End the epoch; `accuracy` of the validation set, or nan, and how long measuring it took."""
        tally, n = self.tally, self.tally.samples
        row = [tally.loss / n, tally.right / n, accuracy, tally.firing / n, tally.rate, tally.seconds + seconds]
        self.rows.append([self.epoch + 1, *row])
        self.tally = _Tally()
