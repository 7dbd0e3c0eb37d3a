"""SSNN-BP: backpropagation with spikes, computed by the chip itself while it runs.

The hidden neurons fire stochastically, the last layer is winner-take-all. In every time step whose winner is wrong two
error spikes travel back, gated by the neurons' derivative windows, become gradient spikes, and change every weight by
one where a presynaptic spike meets a gradient spike: no batches, no second memory, no floating point. The host sends
samples with labels and sets the learning rates; ``docs/chip.md`` (Learning) has the equations.

The rules are a reconstruction that is consistent with the abstract of Biswas, Saraswat and Ganguly (Neuromorphic
Computing and Engineering 2023, arXiv 2207.09755); the paper's own equations are not used.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from host.chip import sample_seeds
from host.events import Events
from host.network import Network
from host.trainers.base import (
    Callback,
    ChipClassifier,
    FloatArray,
    IntArray,
    Progress,
    Samples,
    StopTraining,
    add_cost,
    check_labels,
    chip_totals,
    log_softmax,
    require,
    require_choice,
    require_number,
)
from host.trainers.checkpoint import CheckpointError, State
from rtl.config import MAX_STEPS
from rtl.registers import RATE_ONE

if TYPE_CHECKING:
    from host.chip import Chip, Output

Weights = list[NDArray[np.int32]]

READ_OUTS = ("potential", "count")
ENCODINGS = ("bernoulli", "rate")
NOISES = ("flat", "gumbel", "none")

THIRDS = (1.0, 0.5, 0.12)
"""Factors of the rates in the three thirds of a training of up to three epochs."""
DECLINE = (1.0, 1.0, 1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.12, 0.06)
"""Factors of the rates in ten epochs; other numbers of epochs interpolate."""


class SpikeBackprop(ChipClassifier):
    """Trains on the chip by spike-based backpropagation; needs a chip with ``ChipConfig(learning=True)``.

    A reconstruction that is consistent with the abstract of arXiv 2207.09755, see the module.

    Layers are counted from the first one of neurons. Where a setting is "per layer" or "per hidden layer", a single
    value means all of them.

    Parameters
    ----------
    chip : Chip
        The chip to train on and to predict with.
    epochs : int
        Presentations of the training set.
    timesteps, test_timesteps : int
        Steps of a presentation in training and, default the same, in prediction.
    encoding : {"bernoulli", "rate"}
        How intensities become spikes. Inputs may also be :class:`host.events.Events`, which need none.
    schedule : sequence, optional
        For every epoch a factor of the rates from 0 to 1, or one factor per layer. Default: 1, 1/2 and 0.12 in the
        three thirds of up to three epochs, else a decline from 1 to 0.06.
    rates : float per layer
        Start of the learning rates: the probability, 0 to 1, that a presynaptic spike takes part in an update.
    fire_bits : int per hidden layer, optional
        K: a neuron fires with probability ``V / 2^K``, clipped. Default: weight bits - 1 (of the forward pass).
    noise, noise_shift : {"flat", "gumbel", "none"}, int
        Noise of the winner-take-all layer and its scale 2^G. With Gumbel noise the winner samples the softmax; flat
        noise needs no table in the hardware and learns nearly as well. Default G: weight bits - 3 (of the forward
        pass).
    gradient_bits : int per hidden layer
        KG: an error E becomes a gradient spike with probability ``|E| / 2^KG``, clipped.
    gate_extension : int per hidden layer, optional
        How far the derivative window reaches beyond the linear range of firing on both sides. Default: half of it.
    offset : int per hidden layer
        Membrane at which firing begins (the neurons' threshold).
    decay_mem : int per layer
        Decay of the membrane in 1/4096; 4096: no memory.
    forward_shift : int per layer
        Right shift of the weights in the forward pass, so that more bits are learned than added.
    init : float
        Scale of the random start weights.
    shuffle : bool
        Another order of the samples in every epoch.
    validation_fraction : float
        Share of the training samples that ``fit`` holds back as validation set, unless it is given one.
    early_stopping, patience : bool, int
        Stop after `patience` epochs without a better validation accuracy and keep the weights of the best epoch.
        Without `early_stopping` the last weights are kept.
    batch_size : int
        Samples between two calls of the callback; does not change the result.
    read_out : {"potential", "count"}
        Class with the largest summed membrane, or with the most steps won.
    seed : int
        Seed of start weights, order and all random numbers of the chip.

    Attributes
    ----------
    weights_ : list of int32 arrays (n_pre, n_post)
    history_ : dict of arrays, one entry per epoch (or call of ``partial_fit``)
        epoch, training_error (share of steps with a wrong winner), gradient_spikes (of hidden neurons, per step),
        validation_accuracy (nan without a validation set), cycles_per_sample, saturated (share of weights at a limit
        of their range), seconds, and rate_1, rate_2, ... (at the epoch's end).
    """

    def __init__(
        self,
        chip: Chip,
        epochs: int = 10,
        *,
        timesteps: int = 10,
        test_timesteps: int | None = None,
        encoding: str = "bernoulli",
        schedule: Sequence[Any] | None = None,
        rates: float | Sequence[float] = 1.0,
        fire_bits: int | Sequence[int] | None = None,
        noise: str = "gumbel",
        noise_shift: int | None = None,
        gradient_bits: int | Sequence[int] = 6,
        gate_extension: int | Sequence[int] | None = None,
        offset: int | Sequence[int] = 0,
        decay_mem: int | Sequence[int] = 4096,
        forward_shift: int | Sequence[int] = 0,
        init: float = 1.0,
        shuffle: bool = True,
        validation_fraction: float = 0.0,
        early_stopping: bool = False,
        patience: int = 3,
        batch_size: int = 1000,
        read_out: str = "potential",
        seed: int = 0,
    ) -> None:
        self.chip = chip
        self.epochs = epochs
        self.timesteps = timesteps
        self.test_timesteps = test_timesteps
        self.encoding = encoding
        self.schedule = schedule
        self.rates = rates
        self.fire_bits = fire_bits
        self.noise = noise
        self.noise_shift = noise_shift
        self.gradient_bits = gradient_bits
        self.gate_extension = gate_extension
        self.offset = offset
        self.decay_mem = decay_mem
        self.forward_shift = forward_shift
        self.init = init
        self.shuffle = shuffle
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.patience = patience
        self.batch_size = batch_size
        self.read_out = read_out
        self.seed = seed

    _training: _Course
    _free_on_resume = ("batch_size",)

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
    ) -> SpikeBackprop:
        """Train.

        Parameters
        ----------
        X : (N, n_in) uint8 intensities, or Events
        y : (N,) labels
        X_val, y_val : validation set, measured after every epoch; default: what `validation_fraction` holds back
        initial : network, or list of weight matrices, to start from; drawn from the seed if ``None``
        resume : state of an interrupted training (:meth:`state_dict`); the training goes on as if never interrupted
        callback : called after every batch; may raise :class:`StopTraining`
        """
        x, labels, classes = self._prepare(X, y)
        validation = self._validation(X_val, y_val, classes)
        if validation is None:
            x, labels, validation = self._hold_back(x, labels, self.validation_fraction)
        require(
            not self.early_stopping or validation is not None,
            "Setting early_stopping = True: needs a validation set, or validation_fraction above 0.",
        )
        n_in = self._cfg.n_in
        data = [*_arrays(x, int(self.timesteps), n_in), labels]
        if validation is not None:
            data += [*_arrays(validation[0], self._test_timesteps, n_in), validation[1]]
        identity = self._meta(*data)
        if resume is None:
            course = _Course(self._start(initial))
        else:
            self._check_resume(resume, identity)
            course = _Course.from_state(resume, self.chip.cfg.shapes)
        self._begin(course, classes)
        self._identity = identity
        with suppress(StopTraining):
            self._run(x, labels, validation, callback)
        self._finish()
        return self

    def partial_fit(
        self, X: Any, y: ArrayLike, classes: ArrayLike | None = None, *, callback: Callback | None = None
    ) -> SpikeBackprop:
        """Learn from samples once, in their order, from the present weights on and at the present rates.

        The first call starts a training at the first rates of the schedule; `classes` names all labels if `y` does not
        have them all. Pieces give the same weights as the whole.
        """
        if hasattr(self, "_training"):
            classes = self.classes_
        if classes is None:
            x, labels, found = self._prepare(X, y)
        else:
            self._check_chip()
            self.check_settings()
            x = self._inputs(X)
            found, _ = self._index(check_labels(classes, np.size(classes)))
            labels = self._known_labels(found, y, len(x))
        _arrays(x, int(self.timesteps), self._cfg.n_in)
        self._begin(self._training if hasattr(self, "_training") else _Course(self._start(None)), found)
        self._identity = self._meta() | {"data": "given piece by piece"}
        course, phases, done = self._training, self._phases(), 0
        tally = course.tally = _Tally()
        with suppress(StopTraining):
            while done < len(labels):
                rows = np.arange(done, min(len(labels), done + int(self.batch_size)))
                self._learn(x, labels, rows, phases[min(course.phase, len(phases) - 1)])
                done += len(rows)
                if callback is not None:
                    callback(self._progress(done, len(labels), tally))
        course.record(self._saturated(course.weights), np.nan)
        self._finish()
        return self

    def _check_common(self) -> None:
        super()._check_common()
        require(
            bool(getattr(self.chip.cfg, "learning", False)),
            "This trainer learns on the chip: it needs a chip with ChipConfig(learning=True).",
        )

    def _check_settings(self) -> None:
        require_number("epochs", self.epochs, 1, 2**31, integer=True)
        if self.test_timesteps is not None:
            require_number("test_timesteps", self.test_timesteps, 1, MAX_STEPS, integer=True)
        require_choice("encoding", self.encoding, ENCODINGS)
        require_choice("noise", self.noise, NOISES)
        require_choice("read_out", self.read_out, READ_OUTS)
        if self.noise_shift is not None:
            require_number("noise_shift", self.noise_shift, 0, 15, integer=True)
        require_number("init", self.init, 0, 1 << 16)
        require_number("validation_fraction", self.validation_fraction, 0, 0.9)
        require_number("patience", self.patience, 1, integer=True)
        require_number("batch_size", self.batch_size, 1, integer=True)
        for name in ("shuffle", "early_stopping"):
            require(isinstance(getattr(self, name), bool), f"Setting {name} = {getattr(self, name)!r}: must be a bool.")
        self._phases()
        self._options()

    # ---- data

    def _inputs(self, X: Any) -> Samples:
        if not isinstance(X, Events):
            return super()._inputs(X)
        require(len(X) > 0, "Inputs hold no samples.")
        longest, room = int(np.diff(X.offsets).max()), self.chip.cfg.max_payload - 1
        require(longest <= room, f"A sample has {longest} events: this chip takes at most {room} with a label.")
        return X

    # ---- settings

    @property
    def _test_timesteps(self) -> int:
        return int(self.timesteps if self.test_timesteps is None else self.test_timesteps)

    def _phases(self) -> FloatArray:
        """Learning rates (n_phases, n_layers), 0 to 1, of the equally long phases of a training."""
        n_layers = len(self.chip.cfg.neuron_layers)
        start = _each("rates", self.rates, n_layers, 0, 1, integer=False)
        epochs = int(self.epochs)
        if self.schedule is None:
            middles = (np.arange(epochs) + 0.5) / epochs
            factors: Any = THIRDS if epochs <= 3 else np.interp(middles, (np.arange(10) + 0.5) / 10, DECLINE)
        else:
            require(
                isinstance(self.schedule, (list, tuple, np.ndarray)) and len(self.schedule) == epochs,
                f"Setting schedule = {self.schedule!r}: must be a list of {epochs} entries, one per epoch.",
            )
            factors = self.schedule
        rows = [_each(f"schedule[{i}]", factor, n_layers, 0, 1, integer=False) for i, factor in enumerate(factors)]
        return np.array(rows, dtype=float) * np.array(start)

    @property
    def _noise_shift(self) -> int:
        if self.noise_shift is not None:
            return int(self.noise_shift)
        shift = _each("forward_shift", self.forward_shift, len(self.chip.cfg.neuron_layers), 0, 7)[-1]
        return max(0, self.chip.cfg.weight_bits - 3 - shift)

    def _options(self) -> dict[str, Any]:
        """Options of the network besides weights and rates."""
        cfg = self.chip.cfg
        n_layers = len(cfg.neuron_layers)
        hidden = n_layers - 1
        shifts = _each("forward_shift", self.forward_shift, n_layers, 0, 7)
        usual = [max(1, cfg.weight_bits - 1 - shift) for shift in shifts[:-1]]
        fire_bits = _each("fire_bits", self.fire_bits, hidden, 1, 16, usual)
        halves = [1 << (bits - 1) for bits in fire_bits]
        extension = _each("gate_extension", self.gate_extension, hidden, 0, 1 << 24, halves)
        low, high = cfg.state_range
        offset = _each("offset", self.offset, hidden, low, high)
        return {
            "thresholds": [*offset, 0],
            "decay_syn": 4096,
            "decay_mem": _each("decay_mem", self.decay_mem, n_layers, 0, 4096),
            "shift": 0,
            "reset": "none",
            "reset_amount": 0,
            "gate_centre": [*(first + half for first, half in zip(offset, halves, strict=True)), 0],
            "gate_window": [*(half + more for half, more in zip(halves, extension, strict=True)), 0],
            "fire": ["stochastic"] * hidden + ["winner"],
            "fire_bits": [*fire_bits, 0],
            "noise": ["none"] * hidden + [self.noise],
            "noise_shift": [0] * hidden + [self._noise_shift],
            "gradient_bits": [*_each("gradient_bits", self.gradient_bits, hidden, 0, 16), 0],
            "forward_shift": shifts,
        }

    def network_of(self, weights: Weights, rates: Sequence[float] | FloatArray) -> Network:
        """The network with these weights and learning rates (one per layer, 0 to 1)."""
        coins = np.rint(np.asarray(rates) * RATE_ONE).astype(int).tolist()
        return Network(weights, rate=coins, **self._options())

    def _start(self, initial: Network | Sequence[ArrayLike] | None) -> Weights:
        """Start weights: of a network or matrices that are given, or uniform integers from the seed."""
        cfg, options = self.chip.cfg, self._options()
        if initial is not None:
            network = Network(initial.weights if isinstance(initial, Network) else list(initial), **options)
            network.check(cfg)
            return network.weights
        rng = np.random.default_rng([int(self.seed), 0x57A27])
        reach = [0.25 * 2.0**bits / 10 for bits in options["fire_bits"][:-1]]
        reach.append(2.0**self._noise_shift / np.sqrt(cfg.shapes[-1][0]))
        weights: Weights = []
        for shape, scale, shift in zip(cfg.shapes, reach, options["forward_shift"], strict=True):
            limit = min(cfg.weight_range[1], max(1, round(float(self.init) * scale * 2**shift)))
            weights.append(rng.integers(-limit, limit + 1, shape).astype(np.int32))
        Network(weights, **options).check(cfg)
        return weights

    # ---- the loop

    def _run(
        self, x: Samples, labels: IntArray, validation: tuple[Samples, IntArray] | None, callback: Callback | None
    ) -> None:
        course, n, epochs, phases = self._training, len(labels), int(self.epochs), self._phases()
        total, order, order_of = n * epochs, np.arange(n), -1
        while course.epoch < epochs and not self._stale():
            if course.position < n:
                if self.shuffle and order_of != course.epoch:
                    order_of = course.epoch
                    order = np.random.default_rng([int(self.seed), 0x6F72, order_of]).permutation(n)
                at = course.epoch * n + course.position
                course.phase = at * len(phases) // total
                # A batch ends where the rates change.
                change = -(-(course.phase + 1) * total // len(phases)) - course.epoch * n
                stop = min(n, change, course.position + int(self.batch_size))
                self._learn(x, labels, order[course.position : stop], phases[course.phase])
            tally = course.tally
            if course.position == n:
                self._close_epoch(validation, phases[course.phase])
            if callback is not None:
                callback(self._progress(course.epoch * n + course.position, total, tally))

    def _learn(self, x: Samples, labels: IntArray, rows: IntArray, rates: FloatArray) -> None:
        """Let the chip learn from some samples; when interrupted, the training is as it was before them."""
        course, began, before = self._training, time.perf_counter(), chip_totals(self.chip)
        seeds = sample_seeds(int(self.seed) << 32 | (course.epoch + 1), len(rows), first=course.position)
        self.chip.load(self.network_of(course.weights, rates))
        steps = int(self.timesteps)
        wanted = labels[rows]
        out = self.chip.learn(x[rows], wanted, steps, seeds=seeds, encoding=self.encoding)
        weights = self.chip.network.weights
        right = int(out.winners[np.arange(len(rows)), wanted].sum())
        spikes = sum(int(part.sum()) for part in (*out.positive[:-1], *out.negative[:-1]))
        cost = add_cost(before, chip_totals(self.chip), course.cost)
        # From here on nothing can fail: commit.
        course.weights, course.cost, course.rates = weights, cost, rates.tolist()
        course.position += len(rows)
        seconds = time.perf_counter() - began
        course.tally.add(len(rows), len(rows) * steps, right, spikes, int(out.cycles.sum()), seconds)

    def _close_epoch(self, validation: tuple[Samples, IntArray] | None, rates: FloatArray) -> None:
        course, accuracy, before = self._training, np.nan, chip_totals(self.chip)
        if validation is not None:
            began = time.perf_counter()
            self.chip.load(self.network_of(course.weights, rates))
            scores = self.scores_of(self.present(validation[0]))
            accuracy = float(np.mean(np.argmax(scores, axis=1) == validation[1]))
            course.tally.seconds += time.perf_counter() - began
            course.cost = add_cost(before, chip_totals(self.chip), course.cost)
        course.close(self._saturated(course.weights), accuracy)

    def _stale(self) -> bool:
        """Whether the validation accuracy has not grown for too long."""
        course = self._training
        return bool(self.early_stopping) and course.epoch - course.best_epoch >= int(self.patience)

    def _saturated(self, weights: Weights) -> float:
        low, high = self.chip.cfg.weight_range
        at_limit = sum(int(np.count_nonzero((matrix == low) | (matrix == high))) for matrix in weights)
        return at_limit / sum(matrix.size for matrix in weights)

    def _progress(self, step: int, total: int, tally: _Tally) -> Progress:
        best = self._training.best_accuracy
        return Progress(step, total, np.nan, 1.0 - tally.error, np.nan, best if best >= 0 else np.nan)

    def _finish(self) -> None:
        course = self._training
        kept = course.best if self.early_stopping and course.best else course.weights
        self.weights_ = [matrix.copy() for matrix in kept]
        self.history_ = course.columns(len(self.chip.cfg.neuron_layers))
        self.cost_ = dict(course.cost) or dict.fromkeys(chip_totals(self.chip), 0)

    # ---- prediction

    @property
    def network_(self) -> Network:
        """The trained network, with the learning rates that its training ended with."""
        self._check_fitted()
        return self.network_of(self.weights_, self._training.rates or self._phases()[0])

    def present(self, x: Samples, seed: int | None = None, record: tuple[str, ...] = ()) -> Output:
        # Epochs are counted from 1 in the seeds of the training, so that these are different ones.
        seed = int(self.seed) << 32 if seed is None else seed
        return self.chip.run(x, steps=self._test_timesteps, seed=seed, encoding=self.encoding, record=record)

    def scores_of(self, out: Output) -> NDArray[Any]:
        """Summed membranes or numbers of steps won (N, n_out), as `read_out` says."""
        require_choice("read_out", self.read_out, READ_OUTS)
        return out.potential_sum if self.read_out == "potential" else out.winners

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities (N, n_classes): softmax of the mean membrane / 2^G, or shares of the steps won."""
        mean = self._scores(X) / self._test_timesteps
        return mean if self.read_out == "count" else np.exp(log_softmax(mean / 2.0**self._noise_shift))


def _each(
    name: str, value: Any, n: int, low: float, high: float, usual: list[Any] | None = None, *, integer: bool = True
) -> list[Any]:
    """A setting as one plain number per layer, checked; `usual` stands for ``None``."""
    if value is None and usual is not None:
        return usual
    if not isinstance(value, (list, tuple, np.ndarray)):
        value = [value] * n
        names = [name] * n
    else:
        require(len(value) == n, f"Setting {name} = {value!r}: must be one number, or one for each of {n} layers.")
        names = [f"{name}[{index}]" for index in range(n)]
    for each, number in zip(names, value, strict=True):
        require_number(each, number, low, high, integer=integer)
    return [number.item() if isinstance(number, np.generic) else number for number in value]


def _arrays(x: Samples, steps: int, n_in: int) -> tuple[NDArray[Any], ...]:
    """What samples consist of, for a fingerprint; events must fit the steps."""
    if not isinstance(x, Events):
        return (x,)
    x.check(steps, n_in)
    return x.words, x.offsets


class _Tally:
    """What happened in an epoch so far."""

    FIELDS = ("samples", "steps", "right", "spikes", "cycles", "seconds")

    def __init__(self) -> None:
        self.samples = self.steps = self.right = self.spikes = self.cycles = 0
        self.seconds = 0.0

    def add(self, samples: int, steps: int, right: int, spikes: int, cycles: int, seconds: float) -> None:
        self.samples += samples
        self.steps += steps
        self.right += right
        self.spikes += spikes
        self.cycles += cycles
        self.seconds += seconds

    @property
    def error(self) -> float:
        """Share of steps with a wrong winner."""
        return 1.0 - self.right / max(1, self.steps)


class _Course:
    """State of one training; converts to and from a checkpoint without loss.

    `epoch` counts finished epochs, `position` the samples of the present one that were learned.
    """

    _SCALARS = ("epoch", "position", "phase", "rates", "best_accuracy", "best_epoch", "cost")
    _COLUMNS = (
        "epoch",
        "training_error",
        "gradient_spikes",
        "validation_accuracy",
        "cycles_per_sample",
        "saturated",
        "seconds",
    )

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.best: Weights = []
        self.best_accuracy, self.best_epoch = -1.0, 0
        self.epoch = self.position = self.phase = 0
        self.rates: list[float] = []
        self.tally = _Tally()
        self.cost: dict[str, int] = {}
        self.rows: list[list[float]] = []
        """Of every epoch the values of _COLUMNS, then the rates."""

    def record(self, saturated: float, accuracy: float) -> None:
        """Add what was tallied to the history; `accuracy` of the validation set, or nan."""
        tally = self.tally
        samples, steps = max(1, tally.samples), max(1, tally.steps)
        self.rows.append(
            [
                self.epoch + 1,
                tally.error,
                tally.spikes / steps,
                accuracy,
                tally.cycles / samples,
                saturated,
                tally.seconds,
                *self.rates,
            ]
        )
        self.tally = _Tally()

    def close(self, saturated: float, accuracy: float) -> None:
        """End the epoch."""
        self.record(saturated, accuracy)
        self.epoch, self.position = self.epoch + 1, 0
        if accuracy > self.best_accuracy:
            self.best, self.best_accuracy, self.best_epoch = self.weights, accuracy, self.epoch

    def columns(self, n_layers: int) -> dict[str, NDArray[Any]]:
        table = self._table(n_layers)
        found: dict[str, NDArray[Any]] = dict(zip(self._COLUMNS, table.T, strict=False))
        found["epoch"] = found["epoch"].astype(np.int64)
        rates = table.T[len(self._COLUMNS) :]
        return found | {f"rate_{layer + 1}": rates[layer] for layer in range(n_layers)}

    def _table(self, n_layers: int) -> FloatArray:
        return np.array(self.rows, dtype=float).reshape(len(self.rows), len(self._COLUMNS) + n_layers)

    def to_state(self) -> State:
        meta = {
            "course": {name: getattr(self, name) for name in self._SCALARS},
            "tally": {name: getattr(self.tally, name) for name in _Tally.FIELDS},
        }
        arrays: dict[str, NDArray[Any]] = {"rows": self._table(len(self.weights))}
        arrays |= {f"weights_{layer}": matrix for layer, matrix in enumerate(self.weights)}
        arrays |= {f"best_{layer}": matrix for layer, matrix in enumerate(self.best)}
        return State(meta, arrays)

    @classmethod
    def from_state(cls, state: State, shapes: tuple[tuple[int, int], ...]) -> _Course:
        try:
            scalars, arrays, layers = state.meta["course"], state.arrays, range(len(shapes))
            course = cls([arrays[f"weights_{layer}"].astype(np.int32) for layer in layers])
            for name in cls._SCALARS:
                setattr(course, name, scalars[name])
            for name in _Tally.FIELDS:
                setattr(course.tally, name, state.meta["tally"][name])
            if course.best_epoch:
                course.best = [arrays[f"best_{layer}"].astype(np.int32) for layer in layers]
            course.rows = arrays["rows"].tolist()
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"The checkpoint lacks parts of the training ({error}).") from None
        kept = [matrix.shape for matrix in (*course.weights, *course.best)]
        if kept != list(shapes) * (2 if course.best else 1) or len(course.rows) != course.epoch:
            raise CheckpointError("The checkpoint's arrays do not fit this chip configuration.")
        return course
