"""What every trainer shares: inputs and labels, parameters as one vector, read-out, checkpoints, progress."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError

from host.errors import UserError
from host.trainers.checkpoint import CheckpointError, State
from rtl.config import MAX_STEPS, ChipConfig

if TYPE_CHECKING:
    from host.chip import Chip, Output
    from host.die import Die
    from host.network import Network

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Samples: TypeAlias = Any
"""uint8 array (N, n_in) of intensities or, for trainers that take them, :class:`host.events.Events`."""


class TrainingError(UserError):
    """Data or settings that a trainer cannot work with; the message is one sentence."""


class StopTraining(Exception):
    """Raised by a progress callback to end the training early; the fit keeps what it has and returns."""


@dataclass(frozen=True)
class Progress:
    """What a trainer tells its callback; ``nan`` where it does not know.

    Attributes
    ----------
    step, total : work done and to do (proposals of a chain, updates of a gradient method, samples learned on the chip)
    log_likelihood : of the current state, mean per sample in nats
    accuracy : share of the presented samples (or, on the chip, time steps) that were classified correctly, 0..1
    acceptance : share of the recent proposals that were accepted, 0..1 (chains only)
    best_accuracy : accuracy of the best state so far (on the chip: on the validation set)
    """

    step: int
    total: int
    log_likelihood: float
    accuracy: float
    acceptance: float
    best_accuracy: float


Callback = Callable[[Progress], None]


def require(ok: bool, message: str) -> None:
    """Raise :class:`TrainingError` with `message` unless `ok`."""
    if not ok:
        raise TrainingError(message)


def require_number(name: str, value: object, low: float, high: float = np.inf, *, integer: bool = False) -> None:
    """Check one numeric setting; `low` and `high` are allowed values."""
    kinds = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    word = "an integer" if integer else "a number"
    span = f"{word} from {low:g} to {high:g}" if np.isfinite(high) else f"{word} from {low:g} on"
    good = isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high
    require(bool(good), f"Setting {name} = {value!r}: must be {span}.")


def require_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Check one setting that names a choice."""
    require(value in allowed, f"Setting {name} = {value!r}: must be one of {', '.join(allowed)}.")


def require_integer_weights(cfg: ChipConfig) -> None:
    """Refuse a chip of binary weights, which cannot be 0."""
    require(
        not cfg.binary_weights,
        "This chip has binary weights: its trainers are BinaryStraightThrough and BayesianBinary; this one needs a "
        "chip without binary_weights.",
    )


# ---- data -----------------------------------------------------------------------------------------------------------


def check_inputs(X: ArrayLike, n_in: int, taker: str = "chip") -> NDArray[np.uint8]:
    """Intensities as a contiguous uint8 array (N, n_in); anything else gets one sentence, about the `taker`."""
    x = np.asarray(X)
    require(x.ndim == 2, f"Inputs of shape {x.shape}: must be two-dimensional, (samples, {n_in}).")
    require(x.shape[0] > 0, "Inputs hold no samples.")
    require(x.shape[1] == n_in, f"Inputs of shape {x.shape}: this {taker} has {n_in} inputs, so (samples, {n_in}).")
    if x.dtype.kind == "f":
        require(bool(np.isfinite(x).all()), "Inputs hold NaN or infinite values; fill or drop these samples first.")
        raise TrainingError(
            f"Inputs are {x.dtype.name}: the {taker} takes uint8 intensities 0..255 "
            "(host.datasets.to_intensities converts values in [0, 1])."
        )
    require(x.dtype.kind in "iu", f"Inputs of type {x.dtype.name}: must be integers 0..255.")
    if x.dtype != np.uint8:
        low, high = int(x.min()), int(x.max())
        require(low >= 0 and high <= 255, f"Inputs from {low} to {high}: intensities must be within 0..255.")
    return np.ascontiguousarray(x, dtype=np.uint8)


def check_labels(y: ArrayLike, n_samples: int) -> NDArray[Any]:
    """Labels (N,) of one kind, one per sample; anything else gets one sentence."""
    labels = np.asarray(y)
    require(labels.ndim == 1, f"Labels of shape {labels.shape}: must be one-dimensional, one per sample.")
    require(len(labels) == n_samples, f"{len(labels)} labels for {n_samples} samples: must be one per sample.")
    if labels.dtype.kind == "f":
        require(bool(np.isfinite(labels).all()), "Labels hold NaN or infinite values.")
    if labels.dtype.kind == "O":
        try:
            np.unique(labels)
        except TypeError as error:
            raise TrainingError(f"Labels of mixed types: must all be numbers or words, not both ({error}).") from None
    return labels


def index_labels(labels: NDArray[Any], n_out: int, why: str) -> tuple[NDArray[Any], IntArray]:
    """Classes (n_out,) and the labels as indices into them (N,).

    Integer labels within ``0 .. n_out-1`` keep their values, so that a small subset may lack a class; other labels
    must take exactly `n_out` different values, and `why` is what they are told.
    """
    if labels.dtype.kind in "iu" and int(labels.min()) >= 0 and int(labels.max()) < n_out:
        return np.arange(n_out), labels.astype(np.int64)
    classes, index = np.unique(labels, return_inverse=True)
    require(len(classes) == n_out, f"Labels take {len(classes)} different values, but {why}.")
    return classes, index.astype(np.int64)


def fingerprint(*arrays: NDArray[Any]) -> str:
    """Short hash of data, to tell whether a checkpoint belongs to it."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


# ---- read-out -------------------------------------------------------------------------------------------------------


def log_softmax(scores: FloatArray) -> FloatArray:
    """Row-wise logarithm of the softmax, (N, n_out)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def balanced_accuracy(counts: NDArray[Any], labels: IntArray, answered: NDArray[np.bool_] | bool = True) -> float:
    """Mean over the classes of the share of correct samples; a k-fold tie for the most spikes counts 1/k.

    Plain accuracy lets a silent chip pass as a majority-class predictor (ties go to the lowest class); this does not.
    Samples that were not `answered` count as wrong.
    """
    top = counts == counts.max(axis=1, keepdims=True)
    credit = top[np.arange(len(labels)), labels] / top.sum(axis=1) * answered
    return float(np.mean([credit[labels == label].mean() for label in np.unique(labels)]))


# ---- optimiser ------------------------------------------------------------------------------------------------------

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Usual constants of Adam (Kingma and Ba 2015)."""


def adam(
    vector: FloatArray, moments: tuple[FloatArray, FloatArray], gradient: NDArray[Any], rate: Any, count: int
) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
    """Parameters and moments after the update number `count` (from 1); `rate` is a number or one per parameter."""
    first = BETA1 * moments[0] + (1 - BETA1) * gradient
    second = BETA2 * moments[1] + (1 - BETA2) * gradient**2
    scale = np.sqrt(second / (1 - BETA2**count)) + EPSILON
    return vector - rate * first / (1 - BETA1**count) / scale, (first, second)


# ---- the network as one parameter vector ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Neuron:
    """Constants of the neurons that a trainer programs (the same for every layer unless a trainer says otherwise).

    The defaults are the nominal values of the MH study: the synaptic current loses a quarter, the membrane a
    sixteenth per step, a weight counts 16, and 8192 is the threshold as well as what a spike subtracts.
    """

    threshold: int = 8192
    decay_syn: int = 1024
    decay_mem: int = 256
    shift: int = 4
    reset: str = "subtract"

    @classmethod
    def of(cls, value: Neuron | Mapping[str, Any] | None) -> Neuron:
        """`value` as a :class:`Neuron`: a mapping of its fields is accepted, ``None`` means the defaults."""
        if value is None:
            return cls()
        if isinstance(value, Neuron):
            return value
        known = {item.name for item in fields(cls)}
        require(
            isinstance(value, Mapping) and set(value) <= known,
            f"Setting neuron = {value!r}: must be a mapping of {', '.join(sorted(known))}.",
        )
        return cls(**value)


class ParameterMap:
    """Order of all weights and biases of a configuration in one vector.

    Layer after layer, first the weight matrix row by row (rows by source), then the layer's biases. Biases share the
    range of the weights: the chip's are wider, but a bias acts like a weight from a source that spikes in every step.
    """

    def __init__(self, cfg: ChipConfig) -> None:
        self.cfg = cfg
        self.weight_slices: list[slice] = []
        self.bias_slices: list[slice] = []
        at = 0
        for pre, post in cfg.shapes:
            self.weight_slices.append(slice(at, at + pre * post))
            at += pre * post
            self.bias_slices.append(slice(at, at + post))
            at += post
        self.size = at
        self.limit = cfg.weight_range[1]
        """Largest magnitude of a parameter; the range is kept symmetric."""

    def split(self, vector: NDArray[Any]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Weight matrices (n_pre, n_post) and biases (n_post,) as views into `vector`."""
        weights = [vector[part].reshape(shape) for part, shape in zip(self.weight_slices, self.cfg.shapes, strict=True)]
        return weights, [vector[part] for part in self.bias_slices]

    def join(self, weights: list[NDArray[Any]], biases: list[NDArray[Any]]) -> IntArray:
        """Inverse of :meth:`split`."""
        parts = [np.asarray(part).ravel() for pair in zip(weights, biases, strict=True) for part in pair]
        return np.concatenate(parts).astype(np.int64)


def draw_start(map_: ParameterMap, sd: float, seed: int) -> IntArray:
    """Start parameters ``round(N(0, sd**2))``, clipped; the same for every trainer that gets the same seed."""
    values = np.random.default_rng([seed, 0x57A27]).normal(0.0, sd, map_.size)
    return np.clip(np.rint(values), -map_.limit, map_.limit).astype(np.int64)


def make_network(cfg: ChipConfig, map_: ParameterMap, vector: IntArray, neuron: Neuron) -> Network:
    """The network with these parameters and neuron constants."""
    from host.network import Network

    weights, biases = map_.split(vector)
    return Network(
        weights=list(weights),
        biases=list(biases),
        thresholds=neuron.threshold,
        decay_syn=neuron.decay_syn,
        decay_mem=neuron.decay_mem,
        shift=neuron.shift,
        reset=neuron.reset,
        reset_amount=neuron.threshold,
    )


def vector_of(source: Network | ArrayLike, map_: ParameterMap) -> IntArray:
    """Parameter vector of a network, or a checked copy of a vector."""
    from host.network import Network

    if isinstance(source, Network):
        source.check(map_.cfg)
        return map_.join(list(source.weights), list(source.biases))
    vector = np.asarray(source)
    require(
        vector.dtype.kind in "iu" and vector.shape == (map_.size,),
        f"Start parameters of type {vector.dtype} and shape {vector.shape}: must be {map_.size} integers or a Network.",
    )
    return vector.astype(np.int64)


def open_ideal(cfg: ChipConfig, die: Die | None = None) -> Chip:
    """A golden chip of this configuration: ideal, or another simulated die."""
    from host.chip import Chip

    return Chip(cfg, backend="golden", die=die)


# ---- the estimator --------------------------------------------------------------------------------------------------


class Training(Protocol):
    """State of a training that can be interrupted and resumed."""

    def to_state(self) -> State:
        """Everything needed to go on, as plain values and arrays."""
        ...


class Classifier(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier of spiking networks, with or without a chip.

    Subclasses set the parameters ``timesteps, encoding, seed`` in their constructor and implement ``fit``,
    :meth:`predict_proba`, :meth:`_scores` and :attr:`_cfg`.

    Attributes after ``fit``
    ------------------------
    classes_, n_features_in_
    cost_ : what the training asked for, at least samples and timesteps
    history_ : columns of the learning curve, arrays of equal length
    """

    timesteps: int
    encoding: str
    seed: int

    _training: Training

    # ---- settings

    def check_settings(self) -> None:
        """Refuse settings that ``fit`` cannot work with, whatever the data.

        Of a chip only its configuration ``cfg`` is asked, so that settings can be checked before there is one.

        Raises
        ------
        TrainingError
            For the first bad setting.
        """
        self._check_common()
        self._check_settings()

    def _check_common(self) -> None:
        """Settings that several trainers have."""
        require_number("timesteps", self.timesteps, 1, MAX_STEPS, integer=True)
        require_number("seed", self.seed, 0, 2**32 - 1, integer=True)

    def _check_settings(self) -> None:
        """Settings of this trainer alone."""

    @property
    def _cfg(self) -> ChipConfig:
        """Sizes of the network."""
        raise NotImplementedError

    # ---- data

    def _inputs(self, X: Any) -> Samples:
        """Validated inputs."""
        return check_inputs(X, self._cfg.n_in, "network")

    def _index(self, labels: NDArray[Any]) -> tuple[NDArray[Any], IntArray]:
        """Classes and the labels as indices into them, when these are all labels."""
        raise NotImplementedError

    def _prepare(self, X: Any, y: ArrayLike) -> tuple[Samples, IntArray, NDArray[Any]]:
        """Validated inputs, label indices and classes."""
        self.check_settings()
        x = self._inputs(X)
        classes, labels = self._index(check_labels(y, len(x)))
        return x, labels, classes

    def _begin(self, training: Any, classes: NDArray[Any]) -> None:
        """The estimator is that of a new training from here on; whatever could be refused was before."""
        self._training = training
        self.classes_, self.n_features_in_ = classes, self._cfg.n_in

    def _known_labels(self, classes: NDArray[Any], y: ArrayLike, n_samples: int) -> IntArray:
        """Labels as indices into `classes`, of which some may be missing in `y`."""
        index = {label: at for at, label in enumerate(classes.tolist())}
        labels = check_labels(y, n_samples).tolist()
        for label in labels:
            if label not in index:
                raise TrainingError(f"Label {label!r}: must be one of the classes {list(index)}.")
        return np.array([index[label] for label in labels], np.int64)

    def _validation(self, X_val: Any, y_val: ArrayLike | None, classes: NDArray[Any]) -> tuple[Any, IntArray] | None:
        """The validation set that ``fit`` was given."""
        require((X_val is None) == (y_val is None), "A validation set needs both X_val and y_val.")
        if X_val is None or y_val is None:
            return None
        x = self._inputs(X_val)
        return x, self._known_labels(classes, y_val, len(x))

    def _hold_back(
        self, x: Any, labels: IntArray, fraction: float
    ) -> tuple[Any, IntArray, tuple[Any, IntArray] | None]:
        """Cut a validation set off, at random; the others keep their order."""
        held = min(round(float(fraction) * len(labels)), len(labels) - 1)
        if not held:
            return x, labels, None
        order = np.random.default_rng([int(self.seed), 0x56414C]).permutation(len(labels))
        kept, chosen = np.sort(order[held:]), np.sort(order[:held])
        return x[kept], labels[kept], (x[chosen], labels[chosen])

    # ---- predictions

    def _check_fitted(self) -> None:
        if not hasattr(self, "classes_") or not hasattr(self, "cost_"):
            raise NotFittedError(f"This {type(self).__name__} is not fitted yet; call fit(X, y) first.")

    def decide(self, scores: NDArray[Any]) -> IntArray:
        """Index of the output (N,) that scores (N, n_out) name, ties to the lowest; -1 if they name none."""
        return np.argmax(scores, axis=1)

    def _scores(self, X: Any) -> NDArray[Any]:
        """Scores (N, n_out) of the network(s) that predictions use."""
        raise NotImplementedError

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities (N, n_classes)."""
        raise NotImplementedError

    def predict(self, X: Any) -> NDArray[Any]:
        """Class labels (N,); ties go to the lowest class."""
        scores = self._scores(X)
        return self.classes_[np.argmax(scores, axis=1)]

    def decisions(self, X: Any) -> IntArray:
        """Like :meth:`predict`, but indices (N,), and -1 for samples without an answer."""
        return self.decide(self._scores(X))

    def evaluate(self, X: Any, y: ArrayLike) -> tuple[float, float]:
        """Accuracy and balanced accuracy in one presentation per network; balanced accuracy gives a k-fold tie 1/k.

        Samples without an answer are wrong in both.
        """
        return self.accuracies(self._scores(X), np.searchsorted(self.classes_, np.asarray(y)))

    def accuracies(self, scores: NDArray[Any], labels: IntArray) -> tuple[float, float]:
        """Accuracy and balanced accuracy of scores (N, n_out) for the outputs `labels` (N,)."""
        decided = self.decide(scores)
        return float(np.mean(decided == labels)), balanced_accuracy(scores, labels, decided >= 0)

    # ---- checkpoints

    def state_dict(self) -> State:
        """Everything needed to go on with the training, as plain values and arrays."""
        require(hasattr(self, "_training"), "There is no training yet; call fit(X, y) first.")
        state = self._training.to_state()
        state.meta |= self._identity
        return state

    def _meta(self, *data: NDArray[Any]) -> dict[str, Any]:
        """What a checkpoint must agree on with the training that resumes it."""
        return {
            "trainer": type(self).__name__,
            "config": self._cfg.to_dict(),
            "params": {name: value for name, value in self._plain_params().items() if name not in self._free_on_resume},
            "data": fingerprint(*data),
        }

    _free_on_resume: tuple[str, ...] = ()
    """Settings that may differ between a checkpoint and the training that resumes it."""

    def _plain_params(self) -> dict[str, Any]:
        """Settings as they come back from JSON."""
        return {name: _plain(value) for name, value in self.get_params(deep=False).items()}

    def _check_resume(self, state: State, mine: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not belong to the training that `mine` (:meth:`_meta`) describes."""
        meta = state.meta
        if meta.get("trainer") != mine["trainer"]:
            raise CheckpointError(f"The checkpoint is of {meta.get('trainer')!r}, not of {mine['trainer']}.")
        if meta.get("config") != mine["config"]:
            raise CheckpointError("The checkpoint belongs to another chip configuration.")
        theirs = meta.get("params")
        differs = sorted(
            name for name, value in mine["params"].items() if not isinstance(theirs, dict) or theirs.get(name) != value
        )
        if differs:
            raise CheckpointError(f"The checkpoint was made with other settings: {', '.join(differs)} differ.")
        if meta.get("data") != mine["data"]:
            raise CheckpointError("The checkpoint belongs to other training data.")


class ChipClassifier(Classifier):
    """A classifier whose network runs on a :class:`host.chip.Chip`.

    Subclasses set the parameter ``chip`` as well and implement :meth:`scores_of` and :attr:`network_`. Their ``cost_``
    counts samples, timesteps, cycles, synaptic_ops, spikes and gradient_spikes.
    """

    chip: Chip

    def __sklearn_clone__(self) -> ChipClassifier:
        """An unfitted copy that shares the chip: a chip is a device, not a value to be copied."""
        params = {
            name: value if name == "chip" else clone(value, safe=False)
            for name, value in self.get_params(deep=False).items()
        }
        return type(self)(**params)

    def _check_chip(self) -> None:
        good = hasattr(self.chip, "run") and hasattr(self.chip, "load")
        require(good, f"Setting chip = {self.chip!r}: must be a Chip.")

    @property
    def _cfg(self) -> ChipConfig:
        return self.chip.cfg

    def _inputs(self, X: Any) -> Samples:
        return check_inputs(X, self._cfg.n_in)

    def _index(self, labels: NDArray[Any]) -> tuple[NDArray[Any], IntArray]:
        n_out = self._cfg.n_out
        return index_labels(labels, n_out, f"this chip has {n_out} outputs, one per class")

    def _prepare(self, X: Any, y: ArrayLike) -> tuple[Samples, IntArray, NDArray[Any]]:
        self._check_chip()
        return super()._prepare(X, y)

    # ---- network and read-out

    @property
    def network_(self) -> Network:
        """The (first) network that predictions use."""
        raise NotImplementedError

    def present(self, x: Samples, seed: int | None = None, record: tuple[str, ...] = ()) -> Output:
        """What the network that the chip holds now makes of samples, presented as predictions do it."""
        seed = int(self.seed) if seed is None else seed
        return self.chip.run(x, steps=int(self.timesteps), seed=seed, encoding=self.encoding, record=record)

    def scores_of(self, out: Output) -> NDArray[Any]:
        """Score of each class (N, n_out) in the chip's answer; the class with the largest is predicted."""
        raise NotImplementedError

    def _scores(self, X: Any) -> NDArray[Any]:
        self._check_fitted()
        x = self._inputs(X)
        self.chip.load(self.network_)
        return self.scores_of(self.present(x))

    def _plain_params(self) -> dict[str, Any]:
        params = super()._plain_params()
        params.pop("chip")
        return params


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


class VectorClassifier(ChipClassifier):
    """A classifier that searches for the network's weights and biases, one vector, from outside the chip.

    Class k is the one whose output neuron spikes most. Subclasses implement :meth:`_candidates`.
    """

    beta: float
    neuron: Neuron | Mapping[str, Any] | None

    def __init__(
        self,
        chip: Chip,
        *,
        beta: float,
        prior_sd: float,
        start_sd: float,
        encoding: str,
        timesteps: int,
        neuron: Neuron | Mapping[str, Any] | None,
        seed: int,
    ) -> None:
        self.chip = chip
        self.beta = beta
        self.prior_sd = prior_sd
        self.start_sd = start_sd
        self.encoding = encoding
        self.timesteps = timesteps
        self.neuron = neuron
        self.seed = seed

    def _check_common(self) -> None:
        super()._check_common()
        require_integer_weights(self._cfg)
        require_number("beta", self.beta, 1e-6)
        require_number("prior_sd", self.prior_sd, 1e-3)
        require_number("start_sd", self.start_sd, 0)

    @property
    def _map(self) -> ParameterMap:
        return ParameterMap(self.chip.cfg)

    def _start(self, initial: Network | ArrayLike | None) -> IntArray:
        """Start vector: drawn from the seed, or the parameters of a network or a vector that is given."""
        map_ = self._map
        if initial is None:
            return draw_start(map_, self.start_sd, int(self.seed))
        vector = vector_of(initial, map_)
        return np.clip(vector, -map_.limit, map_.limit)

    def network_of(self, vector: IntArray) -> Network:
        """The network with these parameters and this trainer's neuron constants."""
        return make_network(self.chip.cfg, self._map, vector, Neuron.of(self.neuron))

    def _candidates(self) -> list[IntArray]:
        """Parameter vectors whose softmax probabilities a prediction averages (usually one)."""
        raise NotImplementedError

    @property
    def network_(self) -> Network:
        """The (first) network that predictions use."""
        self._check_fitted()
        return self.network_of(self._candidates()[0])

    def scores_of(self, out: Output) -> NDArray[Any]:
        """Output spike counts (N, n_out)."""
        return out.counts[-1]

    def counts(self, X: ArrayLike) -> NDArray[np.int32]:
        """Output spike counts (members, N, n_out) of the network(s) that predictions use."""
        self._check_fitted()
        x = self._inputs(X)
        result = []
        for vector in self._candidates():
            self.chip.load(self.network_of(vector))
            result.append(self.present(x).counts[-1])
        return np.stack(result)

    def _scores(self, X: Any) -> NDArray[Any]:
        counts = self.counts(X)
        return counts[0] if len(counts) == 1 else self._probabilities(counts)

    def _probabilities(self, counts: NDArray[np.int32]) -> FloatArray:
        return np.exp([log_softmax(self.beta * member) for member in counts.astype(float)]).mean(axis=0)

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Class probabilities (N, n_classes): softmax of beta times the counts, averaged over the members."""
        return self._probabilities(self.counts(X))

    def _plain_params(self) -> dict[str, Any]:
        return super()._plain_params() | {"neuron": vars(Neuron.of(self.neuron))}


def chip_totals(chip: Chip) -> dict[str, int]:
    """Snapshot of the chip's running totals."""
    stats = chip.stats
    names = ("samples", "timesteps", "cycles", "synaptic_ops", "spikes", "gradient_spikes")
    return {name: int(getattr(stats, name)) for name in names}


def add_cost(before: dict[str, int], after: dict[str, int], earlier: Mapping[str, int] | None = None) -> dict[str, int]:
    """Totals spent between two snapshots, plus what an earlier part of the training spent."""
    return {name: after[name] - before[name] + int((earlier or {}).get(name, 0)) for name in after}
