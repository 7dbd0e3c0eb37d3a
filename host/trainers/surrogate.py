"""Surrogate-gradient backpropagation through time on the chip's integer arithmetic.

Float weights are rounded to integers for every forward pass and the gradient passes straight through the rounding.
The forward pass is always *measured*: spikes come from some chip. What the modes differ in is which one:

=====================  ===================================================  ==========================  ==============
mode                   forward pass on                                      membrane rebuilt by         kept weights
=====================  ===================================================  ==========================  ==============
``ideal``              the ideal chip (then deployed; the chip is not seen)  ideal model (here exact)    last
``domain-randomised``  another random simulated die in every update          ideal model, clamped        last
``in-loop``            the chip                                             ideal model, clamped        lowest loss
``in-loop-naive``      the chip                                             ideal model                 last
=====================  ===================================================  ==========================  ==============

The membrane is not read out but rebuilt: the ideal model runs on the measured input spikes and is reset by the
measured output spikes. The surrogate derivative of a spike is ``1 / (theta * (1 + 2 |u - theta| / theta)^2)`` with u
the membrane before the reset (a fast sigmoid, Zenke and Ganguli 2018); the reset itself is not differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from host.encoding import input_spikes
from host.trainers.base import (
    Callback,
    FloatArray,
    IntArray,
    Neuron,
    ParameterMap,
    Progress,
    StopTraining,
    VectorClassifier,
    add_cost,
    chip_totals,
    log_softmax,
    open_ideal,
    require,
    require_choice,
    require_number,
)
from host.trainers.checkpoint import CheckpointError, State
from host.trainers.kernels import (
    RESET_NONE,
    RESET_SUBTRACT,
    RESET_ZERO,
    backward,
    reconstruct,
    weighted_input,
)

if TYPE_CHECKING:
    from host.chip import Chip
    from host.die import Die
    from host.network import Network

MODES = ("ideal", "domain-randomised", "in-loop", "in-loop-naive")
BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-8
"""Constants of Adam (Kingma and Ba 2015)."""
SLOPE = 2.0
"""Steepness of the surrogate derivative."""

_RESETS = {"none": RESET_NONE, "zero": RESET_ZERO, "subtract": RESET_SUBTRACT}


class Gradient:
    """Loss and gradient of a batch from measured spikes; no state but the constants.

    Parameters
    ----------
    map_ : order of the parameters
    neuron : constants of the neurons
    beta : inverse temperature of the read-out
    clamp : limit the rebuilt membrane after the reset to theta
    """

    def __init__(self, map_: ParameterMap, neuron: Neuron, beta: float, *, clamp: bool) -> None:
        self.map, self.neuron, self.beta, self.clamp = map_, neuron, float(beta), clamp
        self.low, self.high = map_.cfg.state_range

    def __call__(
        self, vector: IntArray, inputs: NDArray[np.float32], rasters: Sequence[NDArray[np.bool_]], labels: IntArray
    ) -> tuple[float, float, FloatArray]:
        """Mean cross-entropy (nats), accuracy, and the gradient (n_parameters,) of the former.

        Parameters
        ----------
        vector : integer parameters that the chip held
        inputs : (N, T, n_in) input spikes
        rasters : per layer of neurons, (N, T, n_l) measured spikes
        labels : (N,)
        """
        cell = self.neuron
        theta_value, shift, reset = int(cell.threshold), int(cell.shift), _RESETS[cell.reset]
        weights, biases = self.map.split(vector)
        sources = [inputs, *(raster.astype(np.float32) for raster in rasters[:-1])]
        counts = rasters[-1].sum(axis=1)
        log_p = log_softmax(self.beta * counts.astype(np.float64))
        n = len(labels)
        rows = np.arange(n)
        loss = -float(log_p[rows, labels].mean())
        accuracy = float(np.mean(np.argmax(counts, axis=1) == labels))
        error = np.exp(log_p)
        error[rows, labels] -= 1.0
        error *= self.beta / n
        grad_spikes = np.ascontiguousarray(np.broadcast_to(error[:, None, :], rasters[-1].shape))
        gradient = np.empty(self.map.size)
        scale = float(1 << shift)
        for layer in range(len(rasters) - 1, -1, -1):
            pre, raster = sources[layer], np.ascontiguousarray(rasters[layer])
            theta = np.full(raster.shape[2], theta_value, dtype=np.int64)
            x = weighted_input(pre, weights[layer], biases[layer], shift)
            u = reconstruct(
                x, raster, theta, cell.decay_syn, cell.decay_mem, reset, theta_value, self.low, self.high, self.clamp
            )
            grad_x = backward(u, raster, grad_spikes, theta, cell.decay_syn, cell.decay_mem, reset, SLOPE)
            flat = grad_x.reshape(-1, raster.shape[2])
            gradient[self.map.weight_slices[layer]] = (scale * (pre.reshape(len(flat), -1).T @ flat)).ravel()
            gradient[self.map.bias_slices[layer]] = scale * flat.sum(axis=0)
            if layer:
                back = flat @ weights[layer].T.astype(np.float64)
                grad_spikes = scale * back.reshape(*raster.shape[:2], -1)
        return loss, accuracy, gradient


class SurrogateGradient(VectorClassifier):
    """Trains integer weights and biases by backpropagation; see the module's table for the modes.

    Parameters
    ----------
    chip : Chip
        The chip that predictions run on; in the in-loop modes also the one that is trained on.
    mode : {"ideal", "domain-randomised", "in-loop", "in-loop-naive"}
    updates, batch_size : int
        Adam updates, and samples of one update (all of them if there are fewer).
    learning_rate, final_learning_rate : float
        In weight units; the rate falls geometrically from one to the other.
    beta, prior_sd, start_sd : float
        As in :class:`MetropolisHastings`: the loss is the mean cross-entropy of ``softmax(beta * counts)`` plus
        ``|w|^2 / (2 prior_sd^2 n)``.
    dies : callable or float, optional
        For ``domain-randomised``: ``dies(k)`` gives the k-th random :class:`host.die.Die`; a number is the level at
        which they are drawn. Default: level 1.
    n_dies : int
        How many of them.
    timesteps, neuron, seed
        As in :class:`MetropolisHastings`. The encoding is always the deterministic rate code.

    Attributes
    ----------
    last_, best_ : int64 arrays (n_parameters,), the last weights and those with the lowest measured batch loss
    history_ : dict of arrays (updates,): step, loss, accuracy, best_loss
    """

    def __init__(
        self,
        chip: Chip,
        mode: str = "ideal",
        *,
        updates: int = 400,
        batch_size: int = 64,
        learning_rate: float = 4.0,
        final_learning_rate: float = 0.4,
        beta: float = 0.5,
        prior_sd: float = 32.0,
        start_sd: float = 24.0,
        dies: Callable[[int], Die] | float | None = None,
        n_dies: int = 16,
        encoding: str = "rate",
        timesteps: int = 32,
        neuron: Neuron | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            chip,
            beta=beta,
            prior_sd=prior_sd,
            start_sd=start_sd,
            encoding=encoding,
            timesteps=timesteps,
            neuron=neuron,
            seed=seed,
        )
        self.mode = mode
        self.updates = updates
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.final_learning_rate = final_learning_rate
        self.dies = dies
        self.n_dies = n_dies

    _training: _Descent

    # ---- training

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        initial: Network | ArrayLike | None = None,
        resume: State | None = None,
        callback: Callback | None = None,
    ) -> SurrogateGradient:
        """Train; the arguments are those of :meth:`MetropolisHastings.fit`."""
        x, labels, classes = self._prepare(X, y)
        if resume is None:
            start = self._start(initial)
            descent = _Descent(start.astype(np.float64), np.random.default_rng([int(self.seed), 0x5347]))
        else:
            self._check_resume(resume, self._meta(x, labels))
            descent = _Descent.from_state(resume, self._map.size)
        self._begin(descent, classes)
        self._identity = self._meta(x, labels)
        chips, owned = self._forward_chips()
        try:
            self._run(x, labels, chips, callback)
        except StopTraining:
            pass
        finally:
            for chip in chips if owned else ():
                chip.close()
        self._finish()
        return self

    def _check_settings(self) -> None:
        require_choice("mode", self.mode, MODES)
        require_number("updates", self.updates, 1, integer=True)
        require_number("batch_size", self.batch_size, 1, integer=True)
        require_number("learning_rate", self.learning_rate, 1e-9)
        require_number("final_learning_rate", self.final_learning_rate, 1e-9)
        require_number("n_dies", self.n_dies, 1, integer=True)
        require(
            self.encoding == "rate",
            f"Setting encoding = {self.encoding!r}: must be 'rate', whose input spikes the host can compute.",
        )

    def _plain_params(self) -> dict[str, Any]:
        params = super()._plain_params()
        if callable(params["dies"]):
            params["dies"] = "given"
        return params

    def _forward_chips(self) -> tuple[list[Chip], bool]:
        """Chips that forward passes run on, in turn or at random, and whether this trainer opened them."""
        if self.mode == "ideal":
            return [open_ideal(self.chip.cfg)], True
        if self.mode == "domain-randomised":
            return [open_ideal(self.chip.cfg, die) for die in self._draw_dies()], True
        return [self.chip], False

    def _draw_dies(self) -> list[Die]:
        """The random dies; their seeds are far from those that people give to the chip under test."""
        from host.die import Die

        if callable(self.dies):
            return [self.dies(index) for index in range(int(self.n_dies))]
        level = 1.0 if self.dies is None else float(self.dies)
        return [
            Die(seed=1_000_000 + int(self.n_dies) * int(self.seed) + index, level=level)
            for index in range(int(self.n_dies))
        ]

    def _run(self, x: NDArray[np.uint8], labels: IntArray, chips: list[Chip], callback: Callback | None) -> None:
        descent, map_ = self._training, self._map
        clamp = self.mode in ("in-loop", "domain-randomised")
        gradient = Gradient(map_, Neuron.of(self.neuron), self.beta, clamp=clamp)
        inputs = input_spikes(self.chip.cfg, x, int(self.timesteps)).astype(np.float32)
        n, total = len(labels), int(self.updates)
        decay = (float(self.final_learning_rate) / float(self.learning_rate)) ** (1.0 / max(1, total - 1))
        pull = 1.0 / (float(self.prior_sd) ** 2 * n)
        earlier, start = dict(descent.cost), chip_totals(self.chip)
        every = max(1, min(10, total // 40))
        while descent.step < total:
            drawn = descent.rng.bit_generator.state
            try:
                rows = (
                    np.arange(n) if n <= self.batch_size else descent.rng.choice(n, int(self.batch_size), replace=False)
                )
                chip = chips[int(descent.rng.integers(len(chips)))] if len(chips) > 1 else chips[0]
                vector = np.rint(descent.weights).astype(np.int64)
                chip.load(self.network_of(vector))
                out = chip.run(
                    np.ascontiguousarray(x[rows]),
                    steps=int(self.timesteps),
                    seed=(int(self.seed) + descent.step * 0x9E3779B1) & 0xFFFF_FFFF,
                    record=("raster",),
                )
                loss, accuracy, grad = gradient(vector, inputs[rows], out.raster, labels[rows])
            except BaseException:
                # An interrupted update leaves the training as it was before it.
                descent.rng.bit_generator.state = drawn
                raise
            rate = float(self.learning_rate) * decay**descent.step
            descent.record(vector, loss, accuracy)
            descent.update(grad + pull * descent.weights, rate, map_.limit)
            descent.cost = add_cost(start, chip_totals(self.chip), earlier)
            if callback is not None and (descent.step % every == 0 or descent.step == total):
                callback(Progress(descent.step, total, -loss, accuracy, float("nan"), descent.best_accuracy))

    def _finish(self) -> None:
        descent = self._training
        self.last_ = np.rint(descent.weights).astype(np.int64)
        self.best_ = descent.best.copy()
        self.history_ = descent.columns()
        self.cost_ = dict(descent.cost) or dict.fromkeys(chip_totals(self.chip), 0)

    # ---- prediction

    def _candidates(self) -> list[IntArray]:
        self._check_fitted()
        return [self.best_ if self.mode == "in-loop" else self.last_]


class _Descent:
    """State of one training by Adam; converts to and from a checkpoint without loss."""

    _ARRAYS = ("weights", "first", "second", "best")
    _HISTORY = ("losses", "accuracies", "best_losses")

    def __init__(self, weights: FloatArray, rng: np.random.Generator) -> None:
        self.weights, self.rng = weights, rng
        self.first, self.second = np.zeros_like(weights), np.zeros_like(weights)
        self.best = np.rint(weights).astype(np.int64)
        self.best_loss, self.best_accuracy = np.inf, 0.0
        self.step = 0
        self.cost: dict[str, int] = {}
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self.best_losses: list[float] = []

    def record(self, vector: IntArray, loss: float, accuracy: float) -> None:
        """Note the measured loss of the present integer weights."""
        if loss < self.best_loss:
            self.best, self.best_loss, self.best_accuracy = vector.copy(), loss, accuracy
        self.losses.append(loss)
        self.accuracies.append(accuracy)
        self.best_losses.append(self.best_loss)

    def update(self, gradient: FloatArray, rate: float, limit: int) -> None:
        """One step of Adam, clipped to the range of the weights."""
        self.step += 1
        self.first = BETA1 * self.first + (1 - BETA1) * gradient
        self.second = BETA2 * self.second + (1 - BETA2) * gradient**2
        first = self.first / (1 - BETA1**self.step)
        second = self.second / (1 - BETA2**self.step)
        self.weights = np.clip(self.weights - rate * first / (np.sqrt(second) + EPSILON), -limit, limit)

    def columns(self) -> dict[str, NDArray[Any]]:
        return {
            "step": np.arange(1, self.step + 1),
            "loss": np.array(self.losses),
            "accuracy": np.array(self.accuracies),
            "best_loss": np.array(self.best_losses),
        }

    def to_state(self) -> State:
        meta = {
            "descent": {
                "step": self.step,
                "best_loss": self.best_loss,
                "best_accuracy": self.best_accuracy,
                "cost": self.cost,
            },
            "rng": self.rng.bit_generator.state,
        }
        arrays = {name: getattr(self, name) for name in self._ARRAYS}
        arrays |= {name: np.array(getattr(self, name)) for name in self._HISTORY}
        return State(meta, arrays)

    @classmethod
    def from_state(cls, state: State, size: int) -> _Descent:
        try:
            scalars, arrays = state.meta["descent"], state.arrays
            rng = np.random.default_rng()
            rng.bit_generator.state = state.meta["rng"]
            descent = cls(arrays["weights"].copy(), rng)
            for name in ("step", "best_loss", "best_accuracy", "cost"):
                setattr(descent, name, scalars[name])
            for name in cls._ARRAYS:
                setattr(descent, name, arrays[name].copy())
            for name in cls._HISTORY:
                setattr(descent, name, arrays[name].tolist())
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"The checkpoint lacks parts of the training ({error}).") from None
        if {getattr(descent, name).shape for name in cls._ARRAYS} != {(size,)} or len(descent.losses) != descent.step:
            raise CheckpointError("The checkpoint's arrays do not fit this chip configuration.")
        return descent
