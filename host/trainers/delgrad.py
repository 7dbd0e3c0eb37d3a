"""DelGrad: weights and transmission delays trained by exact gradients of spike times, with the chip in the loop.

Samples are spikes whose times say something (latency code), every neuron counts with its first spike, and the output
that spikes first names the class. The chip reports nothing but the steps of first spikes; the host computes from them,
and from the integer weights and delays that the chip held, what every weight and every delay should change
(:mod:`host.trainers.spike_times`), and keeps float values of both that are rounded for the chip. What makes the chip
differ from its ideal thus shapes the spikes and is learned, but never needs to be known.

After Göltz, Weber, Kriener et al., "DelGrad: Exact event-based gradients for training delays and weights on spiking
neuromorphic hardware", Nature Communications 16:8245 (2025), arXiv 2404.19165. Different here: the clock, integer
states, tables of the impulse response in place of closed forms, and a loss that leaves late outputs alone.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from host.events import Events, latency
from host.network import Network
from host.trainers.base import (
    Callback,
    ChipClassifier,
    FloatArray,
    IntArray,
    Progress,
    StopTraining,
    adam,
    add_cost,
    check_inputs,
    chip_totals,
    log_softmax,
    require,
    require_choice,
    require_integer_weights,
    require_number,
)
from host.trainers.checkpoint import State
from host.trainers.course import Course
from host.trainers.spike_times import (
    NEVER,
    ONE,
    Continuous,
    Discrete,
    Loss,
    Rule,
    backward,
    cross_entropy,
    double,
    lambert,
    one_sided,
    two_sided,
)
from rtl.config import MAX_DELAY_SLOTS, MAX_STEPS, ChipConfig

if TYPE_CHECKING:
    from host.chip import Chip, Output

DELAYS = ("none", "axonal", "dendritic", "synaptic")
GRADIENTS = ("discrete", "lambert", "double")
LOSSES: dict[str, Loss] = {"one-sided": one_sided, "two-sided": two_sided, "cross-entropy": cross_entropy}

CLOSED_FORMS = {"lambert": (lambert, 1), "double": (double, 2)}
"""Closed forms and the ratio tau_m / tau_s that each is for."""

CLIP = 0.5
"""Largest derivative of a sample's loss by a weight of a neuron, else the neuron's error is scaled down."""

DECLINE, STAIRS = 0.9, 33
"""The rates are multiplied by DECLINE, STAIRS times in a training, after equal numbers of epochs."""

BUMP_HIDDEN, BUMP_LABEL, SILENT_HIDDEN = 0.005, 0.015, 0.3
"""Weights into a hidden neuron grow by BUMP_HIDDEN times what its share of samples without a spike exceeds
SILENT_HIDDEN by, those into an output by BUMP_LABEL times the share of samples of its class without its spike."""

MOST_SHIFT, HEADROOM = 6, 2
"""The shift of the weights is at most MOST_SHIFT, and such that HEADROOM thresholds fit the states."""

DELAY_SPREAD = 0.25
"""Standard deviation of the start values whose sigmoid gives the delays."""


class DelGrad(ChipClassifier):
    """Trains weights and delays by exact gradients of first-spike times; see the module.

    The class is that of the output that spikes first; ties go to the lowest class, and a sample without an output spike
    counts as wrong. A neuron's threshold is 1 in the units of weights; times and delays count synaptic time constants
    tau_s. Delays of all layers, the inputs' and the hidden neurons', come from the same range.

    Parameters
    ----------
    chip : Chip
        The chip to train on and to predict with; its ``delay_slots`` must hold the longest delay.
    epochs, batch_size : int
        Presentations of the training set, and samples of one update.
    delays : {"none", "axonal", "dendritic", "synaptic"}
        No delays, one for every source, for every target, or for every synapse.
    train_delays : bool
        ``False``: the random delays of the start stay, a control.
    delay_range : (float, float)
        Shortest and longest delay in tau_s.
    gradient : {"discrete", "lambert", "double"}
        Tables of the impulse response for any `tau_ratio`, or the closed forms of the paper for a ratio of 1 or 2.
    loss : {"one-sided", "two-sided", "cross-entropy"}
        By how much the label's output should lead: shift-invariant squared error that leaves late outputs alone, the
        authors' one, which does not, or the cross-entropy of times to first spike.
    margin : float
        That lead (Delta) in tau_s, in the cross-entropy its time scale xi; also the time scale of probabilities.
    steps_per_tau : int
        N, steps of the chip in tau_s.
    tau_ratio : float
        tau_m / tau_s.
    time_out : float
        Length of a sample in tau_s, unless all outputs have spiked before.
    weight_limit : float
        Largest magnitude of a weight; the chip's integer range covers just this.
    shift : int, optional
        Left shift of the weights on the chip. Default: as large as its states allow, up to 6; small ones learn worse.
    lr_weights, lr_delays : float
        Rates of Adam at the start, for weights and for what the sigmoid turns into delays; they fall to 3 %.
    init : sequence of (float, float), optional
        Mean and standard deviation of the start weights of each layer. Default, with n sources: ``min(1, 10 / n)`` and
        ``min(1, 2 / sqrt(n))`` in the first layer, then ``min(1, 6 / n)`` and ``min(0.5, 1.65 / sqrt(n))``. Outputs
        that spike early, on few of the hidden spikes, learn worse.
    t_early, t_late : float
        Earliest and latest input spike in tau_s.
    silent_below : float, optional
        ``None``: small values spike early, as Yin-Yang wants it. A number: large ones do, as bright pixels should, and
        values below the number not at all (0: every input spikes). See :func:`host.events.latency`.
    keep_best : bool
        Keep the parameters of the epoch with the best validation accuracy, not the last ones.
    validation_fraction : float
        Share of the training samples that ``fit`` holds back as validation set, unless it is given one.
    seed : int
        Seed of start parameters, order, and all random numbers of the chip.

    Attributes
    ----------
    network_ : Network
        With the integer weights and delays of predictions.
    history_ : dict of arrays, one entry per epoch
        epoch, loss (mean over the samples whose label's output spiked; nan if none did), training_accuracy,
        validation_accuracy (nan without a validation set), silent_hidden (share of hidden neurons without a spike
        before the sample ended), silent_labels (share of samples whose label's output did not spike), steps (mean
        length of a sample), cycles_per_sample, rate (of the weights), seconds.
    """

    def __init__(
        self,
        chip: Chip,
        epochs: int = 50,
        *,
        batch_size: int = 50,
        delays: str = "axonal",
        train_delays: bool = True,
        delay_range: Sequence[float] = (0.0, 1.0),
        gradient: str = "discrete",
        loss: str = "one-sided",
        margin: float = 0.2,
        steps_per_tau: int = 50,
        tau_ratio: float = 1.0,
        time_out: float = 4.0,
        weight_limit: float = 8.0,
        shift: int | None = None,
        lr_weights: float = 0.02,
        lr_delays: float = 0.02,
        init: Sequence[Sequence[float]] | None = None,
        t_early: float = 0.15,
        t_late: float = 2.0,
        silent_below: float | None = None,
        keep_best: bool = True,
        validation_fraction: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.chip = chip
        self.epochs = epochs
        self.batch_size = batch_size
        self.delays = delays
        self.train_delays = train_delays
        self.delay_range = delay_range
        self.gradient = gradient
        self.loss = loss
        self.margin = margin
        self.steps_per_tau = steps_per_tau
        self.tau_ratio = tau_ratio
        self.time_out = time_out
        self.weight_limit = weight_limit
        self.shift = shift
        self.lr_weights = lr_weights
        self.lr_delays = lr_delays
        self.init = init
        self.t_early = t_early
        self.t_late = t_late
        self.silent_below = silent_below
        self.keep_best = keep_best
        self.validation_fraction = validation_fraction
        self.seed = seed

    _training: _Course

    # ---- training

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
        *,
        initial: Network | None = None,
        resume: State | None = None,
        callback: Callback | None = None,
    ) -> DelGrad:
        """Train.

        Parameters
        ----------
        X : (N, n_in) floats from 0 to 1 or integers from 0 to 255, or Events with one spike at most of an input
        y : (N,) labels
        X_val, y_val : validation set, measured after every epoch; default: what `validation_fraction` holds back
        initial : network to start from, of this trainer's kind of delays, threshold, shift and decays; its delays come
            to within 1 % to 99 % of the range. Drawn from the seed if ``None``
        resume : state of an interrupted training (:meth:`state_dict`); the training goes on as if never interrupted
        callback : called after every batch with the number of finished epochs; may raise :class:`StopTraining`
        """
        x, labels, classes = self._prepare(X, y)
        validation = self._validation(X_val, y_val, classes)
        if validation is None:
            x, labels, validation = self._hold_back(x, labels, self.validation_fraction)
        data = [x.words, x.offsets, labels]
        if validation is not None:
            data += [validation[0].words, validation[0].offsets, validation[1]]
        identity = self._meta(*data)
        latent = self._latent
        if resume is None:
            course = _Course(self._start(initial), len(self.chip.cfg.neuron_layers))
        else:
            self._check_resume(resume, identity)
            course = _Course.from_state(resume, latent.size, len(self.chip.cfg.neuron_layers))
        self._begin(course, classes)
        self._identity = identity
        self._warned: set[int] = set()
        with suppress(StopTraining):
            self._run(x, labels, validation, callback)
        self._finish()
        return self

    def _check_common(self) -> None:
        require_integer_weights(self._cfg)
        require_number("seed", self.seed, 0, 2**32 - 1, integer=True)
        require_number("epochs", self.epochs, 1, 2**31 - 2, integer=True)
        require_number("batch_size", self.batch_size, 1, integer=True)
        for name in ("train_delays", "keep_best"):
            require(isinstance(getattr(self, name), bool), f"Setting {name} = {getattr(self, name)!r}: must be a bool.")
        require_choice("delays", self.delays, DELAYS)
        require_choice("gradient", self.gradient, GRADIENTS)
        require_choice("loss", self.loss, tuple(LOSSES))
        require_number("margin", self.margin, 1e-3, 1e3)
        require_number("steps_per_tau", self.steps_per_tau, 2, 1000, integer=True)
        require_number("tau_ratio", self.tau_ratio, 0.1, 10)
        require_number("weight_limit", self.weight_limit, 1e-3, 1e6)
        require_number("lr_weights", self.lr_weights, 0, 1e3)
        require_number("lr_delays", self.lr_delays, 0, 1e3)
        require_number("validation_fraction", self.validation_fraction, 0, 0.9)
        if self.gradient in CLOSED_FORMS:
            wanted = CLOSED_FORMS[self.gradient][1]
            require(
                self.tau_ratio == wanted,
                f"Setting gradient = {self.gradient!r}: is for tau_ratio = {wanted}, not {self.tau_ratio:g}; "
                "'discrete' is for any.",
            )
        for name, decay in zip(("steps_per_tau", "tau_ratio"), self._decays, strict=True):
            require(
                decay > 0,
                f"Setting {name} = {getattr(self, name):g}: a time constant of "
                f"{self.steps_per_tau * (1 if name == 'steps_per_tau' else self.tau_ratio):g} steps is too long for "
                f"decays in 1/{ONE}; lower steps_per_tau or tau_ratio.",
            )
        self._check_times()
        self._check_delays()
        self._check_init()
        self._scale()

    def _check_times(self) -> None:
        longest = MAX_STEPS / int(self.steps_per_tau)
        require_number("time_out", self.time_out, 1.0 / int(self.steps_per_tau), longest)
        for name in ("t_early", "t_late"):
            value, steps = getattr(self, name), self._steps
            require_number(name, value, 0, MAX_STEPS)
            require(
                np.rint(float(value) * int(self.steps_per_tau)) < steps,
                f"Setting {name} = {value!r}: an input spike at {value:g} tau_s comes after the end of the sample, "
                f"time_out = {self.time_out:g}.",
            )
        require(
            self.t_early <= self.t_late,
            f"Setting t_early = {self.t_early!r}: must not be above t_late = {self.t_late!r}.",
        )
        if self.silent_below is not None:
            require_number("silent_below", self.silent_below, 0, 1)

    def _check_delays(self) -> None:
        if self.delays == "none":
            return
        good = isinstance(self.delay_range, (tuple, list)) and len(self.delay_range) == 2
        require(good, f"Setting delay_range = {self.delay_range!r}: must be two numbers, the shortest and the longest.")
        for value in self.delay_range:
            require_number("delay_range", value, 0, MAX_STEPS)
        low, high = self.delay_range
        require(low < high, f"Setting delay_range = {self.delay_range!r}: the first must be below the second.")
        cfg, longest = self.chip.cfg, round(float(high) * int(self.steps_per_tau))
        require(
            longest < MAX_DELAY_SLOTS,
            f"Setting delay_range = {self.delay_range!r}: up to {longest} steps, but no chip has delays of more than "
            f"{MAX_DELAY_SLOTS - 1}; lower it or steps_per_tau.",
        )
        build = f"ChipConfig(delay_slots={max(2, longest + 1)})"
        require(cfg.delay_slots > 0, f"Setting delays = {self.delays!r}: needs a chip with delays, {build}.")
        require(
            longest < cfg.delay_slots,
            f"Setting delay_range = {self.delay_range!r}: up to {longest} steps, but this chip's delays go up to "
            f"{cfg.delay_slots - 1}; {build} has them.",
        )
        require(
            self.delays == "axonal" or not cfg.axonal_delays,
            f"Setting delays = {self.delays!r}: this chip has one delay per source (axonal_delays), which is 'axonal'.",
        )

    def _check_init(self) -> None:
        if self.init is None:
            return
        n_layers = len(self.chip.cfg.neuron_layers)
        pairs = isinstance(self.init, (tuple, list)) and all(
            isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in self.init
        )
        require(
            pairs and len(self.init) == n_layers,
            f"Setting init = {self.init!r}: must be a mean and a standard deviation for each of {n_layers} layers.",
        )
        for mean, spread in self.init:
            require_number("init", mean, -1e6, 1e6)
            require_number("init", spread, 0, 1e6)

    # ---- data

    def _inputs(self, X: Any) -> Events:
        """Input spikes, one for every input at most."""
        cfg = self.chip.cfg
        if isinstance(X, Events):
            require(len(X) > 0, "Inputs hold no samples.")
            X.check(self._steps, cfg.n_in)
            first = first_steps(X, cfg.n_in)
            require(
                int((first < NEVER).sum()) == len(X.words),
                "Events with several spikes of an input in a sample: this trainer takes one at most.",
            )
            return X
        x = np.asarray(X)
        if x.dtype.kind in "iu":
            x = check_inputs(x, cfg.n_in)
        good = x.ndim == 2 and len(x) > 0 and x.shape[1] == cfg.n_in
        require(good, f"Inputs of shape {x.shape}: this chip has {cfg.n_in} inputs, so (samples, {cfg.n_in}).")
        n = int(self.steps_per_tau)
        return latency(x, n * float(self.t_early), n * float(self.t_late), self.silent_below)

    # ---- settings as the chip has them

    @property
    def _steps(self) -> int:
        """Steps of a sample at most."""
        return round(float(self.time_out) * int(self.steps_per_tau))

    @property
    def _decays(self) -> tuple[int, int]:
        """Decay of current and membrane per step, in 1/4096."""
        n = int(self.steps_per_tau)
        syn, mem = (round(ONE * -np.expm1(-1.0 / (tau * n))) for tau in (1.0, float(self.tau_ratio)))
        return syn, mem

    @property
    def _unit(self) -> float:
        """Integer weight that stands for a weight of 1."""
        return self.chip.cfg.weight_range[1] / float(self.weight_limit)

    def _scale(self) -> tuple[int, int]:
        """Shift of the weights and threshold on the chip."""
        low = round(self._unit * int(self.steps_per_tau))
        top, bits = self.chip.cfg.state_range[1], self.chip.cfg.state_bits
        if self.shift is None:
            fitting = [shift for shift in range(MOST_SHIFT + 1) if HEADROOM * (low << shift) <= top]
            require(
                bool(fitting),
                f"A threshold of {low} (steps_per_tau = {self.steps_per_tau}, a weight of 1 is {self._unit:.4g}) does "
                f"not fit {bits} state bits: lower steps_per_tau, raise weight_limit, or use a chip with wider states.",
            )
            shift = fitting[-1]
        else:
            require_number("shift", self.shift, 0, 15, integer=True)
            shift = int(self.shift)
        threshold = round(self._unit * int(self.steps_per_tau) * 2**shift)
        require(
            1 <= threshold <= top,
            f"Setting shift = {shift}: a threshold of {threshold} does not fit {bits} state bits; use another shift.",
        )
        return shift, threshold

    @property
    def _latent(self) -> _Latent:
        low, high = (0.0, 0.0) if self.delays == "none" else (float(value) for value in self.delay_range)
        return _Latent(self.chip.cfg, self.delays, self._unit, int(self.steps_per_tau), low, high)

    def network_of(self, vector: FloatArray) -> Network:
        """The network that float weights and delay parameters, in one vector, are rounded to."""
        return self._network(self._latent, vector)

    def start_network(self) -> Network:
        """The network that a training without `initial` starts from."""
        return self.network_of(self._start(None))

    def encode(self, X: Any) -> Events:
        """Input spikes of samples, as `fit` and predictions present them."""
        return self._inputs(X)

    def _network(self, latent: _Latent, vector: FloatArray) -> Network:
        shift, threshold = self._scale()
        decay_syn, decay_mem = self._decays
        return Network(
            latent.weights(vector),
            thresholds=threshold,
            delays=latent.delays(vector),
            decay_syn=decay_syn,
            decay_mem=decay_mem,
            shift=shift,
            reset="none",
            fire_once=True,
        )

    def _start(self, initial: Network | None) -> FloatArray:
        latent, rng = self._latent, np.random.default_rng([int(self.seed), 0x57A27])
        if initial is not None:
            require(isinstance(initial, Network), f"Start from {initial!r}: must be a Network.")
            initial.check(self.chip.cfg)
            vector = latent.of(initial)
            mine = self._network(latent, vector)
            for name in ("decay_syn", "decay_mem", "shift"):
                theirs, ours = initial.constants[name], mine.constants[name]
                require(theirs == ours, f"The start network has {name} = {theirs}: must be {ours} as the settings say.")
            threshold = int(mine.thresholds[0][0])
            require(
                all((each == threshold).all() for each in initial.thresholds),
                f"The start network's thresholds: must be {threshold} as the settings say.",
            )
            for layer, (delays, shape) in enumerate(zip(initial.delays, latent.delay_shapes, strict=True)):
                kept = delays[: shape[0], : shape[1]] if latent.delayed else 0
                require(
                    bool((delays == kept).all()),
                    f"The start network's delays of layer {layer + 1} are not of the kind {self.delays!r}.",
                )
            return vector
        vector = np.zeros(latent.size)
        for layer, (pre, _) in enumerate(self.chip.cfg.shapes):
            mean, spread = usual_start(pre, layer == 0) if self.init is None else self.init[layer]
            part = latent.weight_parts[layer]
            vector[part] = rng.normal(mean, spread, part.stop - part.start)
        n_weights = latent.n_weights
        vector[n_weights:] = rng.normal(0.0, DELAY_SPREAD, latent.size - n_weights)
        return latent.clip(vector, float(self.weight_limit))

    def _rule(self) -> Rule:
        if self.gradient in CLOSED_FORMS:
            return Continuous(CLOSED_FORMS[self.gradient][0], int(self.steps_per_tau))
        return Discrete(*self._decays, int(self.steps_per_tau), self._steps)

    # ---- the loop

    def _run(
        self, x: Events, labels: IntArray, validation: tuple[Events, IntArray] | None, callback: Callback | None
    ) -> None:
        course, n, epochs = self._training, len(labels), int(self.epochs)
        first, worker = first_steps(x, self.n_features_in_), _Worker(self)
        order, order_of = np.arange(n), -1
        while course.epoch < epochs:
            if course.position < n:
                if order_of != course.epoch:
                    order_of = course.epoch
                    order = np.random.default_rng([int(self.seed), 0x6F72, order_of]).permutation(n)
                rows = order[course.position : course.position + int(self.batch_size)]
                self._learn(worker, x[rows], first[rows], labels[rows])
            tally = course.tally
            if course.position == n:
                self._close_epoch(validation)
            if callback is not None:
                best = course.best_accuracy if course.best_accuracy >= 0 else np.nan
                callback(Progress(course.epoch, epochs, np.nan, tally.right / tally.samples, np.nan, best))

    def _learn(self, worker: _Worker, x: Events, first: IntArray, labels: IntArray) -> None:
        """One update; when interrupted, the training is as it was before."""
        course, began, before = self._training, time.perf_counter(), chip_totals(self.chip)
        self.chip.load(self._network(worker.latent, course.vector))
        seed = int(self.seed) << 32 | (course.updates + 1)
        out = self.chip.run(x, steps=self._steps, seed=seed, early_end=True)
        step = worker.step(course, [first, *out.first_spike], labels, self._rates())
        right = int((self.decide(self.scores_of(out)) == labels).sum())
        cost = add_cost(before, chip_totals(self.chip), course.cost)
        # From here on nothing can fail: commit.
        course.vector, course.first, course.second = step.vector, step.first, step.second
        course.updates, course.position, course.cost = course.updates + 1, course.position + len(labels), cost
        tally = course.tally
        tally.samples += len(labels)
        tally.right += right
        tally.loss += step.loss
        tally.silent_labels += step.silent_labels
        tally.silent = [a + b for a, b in zip(tally.silent, step.silent, strict=True)]
        tally.steps += int(out.steps.sum())
        tally.cycles += int(out.cycles.sum())
        tally.seconds += time.perf_counter() - began

    def _close_epoch(self, validation: tuple[Events, IntArray] | None) -> None:
        course, accuracy, before = self._training, np.nan, chip_totals(self.chip)
        if validation is not None:
            began = time.perf_counter()
            self.chip.load(self.network_of(course.vector))
            scores = self.scores_of(self.present(validation[0]))
            accuracy = float(np.mean(self.decide(scores) == validation[1]))
            course.tally.seconds += time.perf_counter() - began
            course.cost = add_cost(before, chip_totals(self.chip), course.cost)
        self._warn(course.epoch + 1, course.tally)
        course.close(accuracy, self._rates()[0], self.chip.cfg.neuron_layers)

    def _rates(self) -> tuple[float, float]:
        """Rates of weights and of delay parameters in this epoch."""
        factor = DECLINE ** (self._training.epoch * STAIRS // int(self.epochs))
        return float(self.lr_weights) * factor, float(self.lr_delays) * factor

    def _warn(self, epoch: int, tally: _Tally) -> None:
        """Say once in a training that a layer is silent."""
        for layer, size in enumerate(self.chip.cfg.neuron_layers):
            if tally.silent[layer] == tally.samples * size and layer not in self._warned:
                self._warned.add(layer)
                warnings.warn(
                    f"Epoch {epoch}: layer {layer + 1} did not spike in any sample, so nothing could be learned through"
                    " it; its weights are being raised.",
                    RuntimeWarning,
                    stacklevel=5,
                )

    def _finish(self) -> None:
        course = self._training
        best = course.best if self.keep_best and course.best_epoch else course.vector
        self._kept = self.network_of(best)
        self.history_ = course.columns()
        self.cost_ = dict(course.cost) or dict.fromkeys(chip_totals(self.chip), 0)
        silent = self.history_["silent_labels"][-1:]
        if len(silent) and silent[0] > 0.1:
            warnings.warn(
                f"In {100 * silent[0]:.0f} % of the samples of the last epoch the label did not spike; a longer "
                "time_out or larger start weights (init) may help.",
                RuntimeWarning,
                stacklevel=3,
            )

    # ---- prediction

    @property
    def network_(self) -> Network:
        """The trained network."""
        self._check_fitted()
        return self._kept.replace()

    def present(self, x: Any, seed: int | None = None, record: tuple[str, ...] = ()) -> Output:
        # Updates are counted from 1 in the seeds of the training, so that these are different ones.
        seed = int(self.seed) << 32 if seed is None else seed
        return self.chip.run(self._inputs(x), steps=self._steps, seed=seed, record=record, early_end=True)

    def scores_of(self, out: Output) -> NDArray[Any]:
        """Minus the step of the first spike (N, n_out), the most steps of a sample for outputs without one."""
        first = out.first_spike[-1]
        return -np.where(first < 0, self._steps, first)

    def decide(self, scores: NDArray[Any]) -> IntArray:
        """Index of the output (N,) that spiked first; -1 where none did."""
        return np.where(scores.max(axis=1) > -self._steps, scores.argmax(axis=1), -1)

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities (N, n_classes): softmax of ``-t / margin``."""
        scores = self._scores(X) / (float(self.margin) * int(self.steps_per_tau))
        return np.exp(log_softmax(scores))

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy; samples without an output spike are wrong."""
        scores = self._scores(X)
        right = self.decide(scores) == self._known_labels(self.classes_, y, len(scores))
        weights = np.ones(len(right)) if sample_weight is None else np.asarray(sample_weight, float)
        return float(np.average(right.astype(float), weights=weights))


def usual_start(n_pre: int, first: bool) -> tuple[float, float]:
    """Mean and standard deviation of the start weights of a layer."""
    if first:
        return min(1.0, 10 / n_pre), min(1.0, 2 / np.sqrt(n_pre))
    return min(1.0, 6 / n_pre), min(0.5, 1.65 / np.sqrt(n_pre))


def first_steps(events: Events, n_in: int) -> IntArray:
    """Step of the first spike of every input (N, n_in), NEVER if there is none."""
    first = np.full((len(events), n_in), NEVER, np.int64)
    samples = np.repeat(np.arange(len(events)), np.diff(events.offsets))
    np.minimum.at(first, (samples, events.words & 0xFFFF), events.words >> 16)
    return first


class _Latent:
    """Float parameters in one vector: the weights of all layers, then what the sigmoid turns into their delays."""

    def __init__(self, cfg: ChipConfig, delays: str, unit: float, steps_per_tau: int, low: float, high: float) -> None:
        self.unit, self.steps_per_tau, self.low, self.reach = unit, steps_per_tau, low, high - low
        self.shapes = cfg.shapes
        self.limit = cfg.weight_range[1]
        kinds = {"axonal": (1, 0), "dendritic": (0, 1), "synaptic": (1, 1)}
        rows, columns = kinds.get(delays, (0, 0))
        self.delay_shapes = [(pre if rows else 1, post if columns else 1) for pre, post in cfg.shapes]
        self.delayed = delays != "none"
        self.weight_parts: list[slice] = []
        self.delay_parts: list[slice] = []
        at = 0
        for pre, post in cfg.shapes:
            self.weight_parts.append(slice(at, at + pre * post))
            at += pre * post
        self.n_weights = at
        for rows, columns in self.delay_shapes if self.delayed else ():
            self.delay_parts.append(slice(at, at + rows * columns))
            at += rows * columns
        self.size = at

    def weights(self, vector: FloatArray) -> list[NDArray[np.int32]]:
        """Integer weights (n_pre, n_post) of every layer."""
        whole = np.clip(np.rint(vector[: self.n_weights] * self.unit), -self.limit, self.limit).astype(np.int32)
        return [whole[part].reshape(shape) for part, shape in zip(self.weight_parts, self.shapes, strict=True)]

    def delays(self, vector: FloatArray) -> list[NDArray[np.int32]]:
        """Delays in steps of every layer, to be broadcast to (n_pre, n_post)."""
        if not self.delayed:
            return [np.zeros(shape, np.int32) for shape in self.delay_shapes]
        tau = self.low + self.reach * expit(vector)
        whole = np.rint(self.steps_per_tau * tau).astype(np.int32)
        return [whole[part].reshape(shape) for part, shape in zip(self.delay_parts, self.delay_shapes, strict=True)]

    def slopes(self, vector: FloatArray) -> FloatArray:
        """Derivatives of the delays, in tau_s, by their parameters."""
        sigmoid = expit(vector[self.n_weights :])
        return self.reach * sigmoid * (1.0 - sigmoid)

    def of(self, network: Network) -> FloatArray:
        """Parameters of a network; delays beyond the range come to its ends."""
        vector = np.zeros(self.size)
        for part, matrix in zip(self.weight_parts, network.weights, strict=True):
            vector[part] = matrix.ravel() / self.unit
        for part, shape, matrix in zip(self.delay_parts, self.delay_shapes, network.delays, strict=False):
            share = (matrix[: shape[0], : shape[1]].ravel() / self.steps_per_tau - self.low) / self.reach
            vector[part] = logit(np.clip(share, 0.01, 0.99))
        return vector

    def clip(self, vector: FloatArray, limit: float) -> FloatArray:
        """`vector` with the weights limited."""
        vector[: self.n_weights] = np.clip(vector[: self.n_weights], -limit, limit)
        return vector


@dataclass(frozen=True)
class _Step:
    """What one update gives: parameters, moments, and what the spikes were like."""

    vector: FloatArray
    first: FloatArray
    second: FloatArray
    loss: float
    """Summed over the samples."""
    silent: list[int]
    """Neurons without a spike, per layer."""
    silent_labels: int


class _Worker:
    """The host's share of an update: from spike steps to new parameters, without changing anything."""

    def __init__(self, trainer: DelGrad) -> None:
        self.latent, self.rule, self.loss = trainer._latent, trainer._rule(), LOSSES[trainer.loss]
        self.margin, self.limit = float(trainer.margin), float(trainer.weight_limit)
        self.steps_per_tau = int(trainer.steps_per_tau)
        self.trains_delays = self.latent.delayed and trainer.train_delays

    def step(
        self, course: _Course, times: Sequence[NDArray[Any]], labels: IntArray, rates: tuple[float, float]
    ) -> _Step:
        """New parameters from the measured steps (B, n_l) of inputs and layers; -1 or NEVER if there was no spike."""
        last = times[-1]
        loss, error = self.loss(np.where(last < 0, np.inf, last / self.steps_per_tau), labels, self.margin)
        gradient = self._gradient(course.vector, error, times)
        vector, moments = adam(course.vector, course.moments, gradient, self._rates(rates), course.updates + 1)
        missing = [times_of_layer < 0 for times_of_layer in times[1:]]
        silent_labels = missing[-1][np.arange(len(labels)), labels]
        self._bump(vector, missing, np.bincount(labels[silent_labels], minlength=last.shape[1]))
        self.latent.clip(vector, self.limit)
        silent = [int(layer.sum()) for layer in missing]
        return _Step(vector, *moments, float(loss.sum()), silent, int(silent_labels.sum()))

    def _gradient(self, vector: FloatArray, error: FloatArray, times: Sequence[NDArray[Any]]) -> FloatArray:
        """Mean gradient by all parameters; rounding is passed straight through."""
        latent = self.latent
        weights = [matrix / latent.unit for matrix in latent.weights(vector)]
        gradient = np.zeros(latent.size)
        for layer, (by_weight, by_delay) in enumerate(
            backward(error, times, weights, latent.delays(vector), self.rule, CLIP)
        ):
            gradient[latent.weight_parts[layer]] = by_weight.ravel()
            if self.trains_delays:
                shared = tuple(axis for axis in (0, 1) if latent.delay_shapes[layer][axis] == 1)
                gradient[latent.delay_parts[layer]] = by_delay.sum(axis=shared).ravel()
        if self.trains_delays:
            gradient[latent.n_weights :] *= latent.slopes(vector)
        return gradient

    def _rates(self, rates: tuple[float, float]) -> FloatArray:
        counts = [self.latent.n_weights, self.latent.size - self.latent.n_weights]
        return np.repeat([rates[0], rates[1] if self.trains_delays else 0.0], counts)

    def _bump(self, vector: FloatArray, missing: list[NDArray[np.bool_]], silent_of_class: IntArray) -> None:
        """Raise the weights into neurons that spike too rarely: they have no gradient.

        In a sample that ended early, with the last output spike, a hidden neuron may just have been late; it then
        counts only if it was silent in the whole batch.
        """
        latent, n_last = self.latent, len(missing) - 1
        to_the_end = missing[-1].any(axis=1, keepdims=True)
        for layer, silent in enumerate(missing):
            if layer < n_last:
                share = np.where(silent.all(axis=0), 1.0, (silent & to_the_end).mean(axis=0))
                raised = BUMP_HIDDEN * np.maximum(0.0, share - SILENT_HIDDEN)
            else:
                raised = BUMP_LABEL * silent_of_class / len(silent)
            vector[latent.weight_parts[layer]].reshape(latent.shapes[layer])[...] += raised


class _Tally:
    """What happened in an epoch so far; `silent` counts neurons without a spike, per layer."""

    FIELDS = ("samples", "right", "loss", "silent", "silent_labels", "steps", "cycles", "seconds")

    def __init__(self, n_layers: int) -> None:
        self.samples = self.right = self.silent_labels = self.steps = self.cycles = 0
        self.silent = [0] * n_layers
        self.loss = self.seconds = 0.0


class _Course(Course):
    """State of one training; `position` counts the samples of the present epoch that were learned."""

    _SCALARS = (*Course._SCALARS, "position", "best_accuracy", "best_epoch")
    _VECTORS = (*Course._VECTORS, "best")
    _COLUMNS = (
        "epoch",
        "loss",
        "training_accuracy",
        "validation_accuracy",
        "silent_hidden",
        "silent_labels",
        "steps",
        "cycles_per_sample",
        "rate",
        "seconds",
    )

    def __init__(self, vector: FloatArray, n_layers: int) -> None:
        super().__init__(vector)
        self.best, self.best_accuracy, self.best_epoch = vector.copy(), -1.0, 0
        self.position = 0
        self.n_layers = n_layers
        self.tally = _Tally(n_layers)

    def close(self, accuracy: float, rate: float, sizes: tuple[int, ...]) -> None:
        """End the epoch; `accuracy` of the validation set, or nan."""
        tally, n = self.tally, self.tally.samples
        hidden = n * sum(sizes[:-1])
        spiked = n - tally.silent_labels
        self.rows.append(
            [
                self.epoch + 1,
                tally.loss / spiked if spiked else np.nan,
                tally.right / n,
                accuracy,
                sum(tally.silent[:-1]) / hidden if hidden else 0.0,
                tally.silent_labels / n,
                tally.steps / n,
                tally.cycles / n,
                rate,
                tally.seconds,
            ]
        )
        self.position, self.tally = 0, _Tally(self.n_layers)
        if accuracy > self.best_accuracy:
            self.best, self.best_accuracy, self.best_epoch = self.vector, accuracy, self.epoch
