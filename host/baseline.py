"""The ordinary network to compare a chip with: same layers, same number of epochs, floating point, backpropagation.

Hidden layers of rectified linear units, softmax at the output, cross-entropy, stochastic gradient descent; scikit-learn
does the work.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from host.datasets import Split
from host.errors import UserError

ACTIVATIONS = ("relu", "tanh", "logistic", "identity")

FINAL_SHARE = 0.1
"""Learning rate at the end of the training as a share of that at its beginning; it falls in a straight line."""

PARTS, PART_BATCHES = 10, 100
"""Most parts of an epoch between which the rate falls, and fewest batches of a part, for its momentum starts from zero.

Falling from epoch to epoch only costs up to 0.3 points where epochs are few.
"""

MOMENTUM = 0.9
"""Nesterov momentum."""

# First learning rates for batches of 16, chosen by the accuracy on validation sets held back from the training pool and
# never on a test set: 10000 samples of MNIST and of Fashion-MNIST at 3 and 10 epochs, 240 of the digits, 500 of
# Yin-Yang and 200 of N-MNIST at 3 to 30; two to four seeds. Without momentum, or with 0.5, the best rates (0.15 to 0.6)
# do as well on images, but N-MNIST and small layers then want a rate for each shape. Weight decay (1e-4, 1e-3) changes
# nothing.
RATES = {
    "mnist": 0.03,
    "fashion-mnist": 0.015,
    "digits": 0.1,
    "yin-yang": 0.08,
    "nmnist": 0.04,
}
"""First learning rate by data set."""

OTHER_RATE = 0.03
"""First learning rate for all other data, in the middle of those above."""


class BaselineError(UserError):
    """Data or settings that no baseline can be trained with; the message is one sentence."""


@dataclass(frozen=True)
class AnnResult:
    """What :func:`train_ann` found.

    Attributes
    ----------
    accuracy_train, accuracy_validation, accuracy_test : shares of the samples classified correctly after the last
        epoch, 0..1; ``None`` for the validation set if there is none
    history : for each epoch a dict of ``epoch`` (from 1), ``learning_rate`` at its end, ``loss`` (mean cross-entropy
        of the epoch's samples as they were learnt), ``accuracy_train``, ``accuracy_validation`` and ``seconds`` since
        the start
    settings : everything that defines the training
    seconds : wall time of training and evaluation
    predictions : int64 array (n_test,), the class that each test sample was given
    """

    accuracy_train: float
    accuracy_test: float
    accuracy_validation: float | None
    history: list[dict[str, Any]]
    settings: dict[str, Any]
    seconds: float
    predictions: NDArray[np.int64] = field(repr=False)


Arrays = Sequence[ArrayLike]


def train_ann(
    split: Split | Arrays,
    hidden: Sequence[int] = (128,),
    epochs: int = 10,
    *,
    seed: int = 0,
    learning_rate: float | None = None,
    batch_size: int = 16,
    activation: str = "relu",
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> AnnResult:
    """Train and measure the network; equal arguments give equal results on the same machine.

    The test set is looked at once, after the last epoch.

    Parameters
    ----------
    split : a :class:`~host.datasets.Split`, or the arrays ``(x_train, y_train, x_test, y_test)`` or ``(x_train,
        y_train, x_validation, y_validation, x_test, y_test)``; integer inputs are intensities 0..255, floats lie in
        [0, 1]
    hidden : neurons of each hidden layer; none at all makes it a softmax regression
    learning_rate : of the first epoch; default: the data set's in :data:`RATES`
    callback : called with the entry of `history` after each epoch; what it raises ends the training

    Raises
    ------
    BaselineError
        For data or settings that make no sense.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    started = time.perf_counter()
    if isinstance(hidden, str) or not isinstance(hidden, Sequence):
        raise BaselineError(f"Hidden layers {hidden!r}: must be a list of sizes.")
    for size in hidden:
        _number("Hidden layer size", size, 1, integer=True)
    _number("Epochs", epochs, 1, integer=True)
    _number("Batch size", batch_size, 1, integer=True)
    _number("Seed", seed, 0, 2**32 - 1, integer=True)
    if activation not in ACTIVATIONS:
        raise BaselineError(f"Unknown activation {activation!r}; allowed are {', '.join(ACTIVATIONS)}.")
    name, data = _arrays(split)
    if learning_rate is None:
        learning_rate = RATES.get(name or "", OTHER_RATE)
    _number("Learning rate", learning_rate, 0)
    (x_train, y_train), validation, test = data["training"], data.get("validation"), data["test"]

    generator = np.random.RandomState(seed)
    model = MLPClassifier(
        tuple(hidden),
        activation=activation,
        solver="sgd",
        alpha=0.0,
        batch_size=min(batch_size, len(y_train)),
        momentum=MOMENTUM,
        nesterovs_momentum=True,
        max_iter=1,
        warm_start=True,  # each call of fit passes over its samples once and goes on where the last one ended
        random_state=generator,  # an instance, so that every pass has an order of its own
    )
    smallest = int(np.unique(y_train, return_counts=True)[1].min())
    parts = max(1, min(PARTS, smallest, len(y_train) // (PART_BATCHES * batch_size)))
    history: list[dict[str, Any]] = []
    for epoch in range(epochs):
        loss = 0.0
        for part, rows in enumerate(_deal(y_train, parts, generator)):
            done = (epoch * parts + part) / max(1, epochs * parts - 1)
            rate = learning_rate * (1 - (1 - FINAL_SHARE) * done)
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore", ConvergenceWarning)  # a single pass never converges
                try:
                    model.set_params(learning_rate_init=rate).fit(x_train[rows], y_train[rows])
                except ValueError as error:
                    if "non-finite" not in str(error):
                        raise
                    raise BaselineError(
                        f"Learning rate {learning_rate:g}: too large, the weights became infinite."
                    ) from None
            loss += float(model.loss_) * len(rows) / len(y_train)
        entry = {
            "epoch": epoch + 1,
            "learning_rate": rate,
            "loss": loss,
            "accuracy_train": float(model.score(x_train, y_train)),
            "accuracy_validation": None if validation is None else float(model.score(*validation)),
            "seconds": time.perf_counter() - started,
        }
        history.append(entry)
        if callback is not None:
            callback(entry)
    predictions = np.asarray(model.predict(test[0]), dtype=np.int64)
    return AnnResult(
        accuracy_train=history[-1]["accuracy_train"],
        accuracy_test=float(np.mean(predictions == test[1])),
        accuracy_validation=history[-1]["accuracy_validation"],
        history=history,
        settings={
            "dataset": name,
            "layers": [x_train.shape[1], *(int(size) for size in hidden), len(np.unique(y_train))],
            "epochs": int(epochs),
            "seed": int(seed),
            "learning_rate": float(learning_rate),
            "final_share": FINAL_SHARE,
            "momentum": MOMENTUM,
            "batch_size": int(batch_size),
            "activation": activation,
            "train_size": len(y_train),
        },
        seconds=time.perf_counter() - started,
        predictions=predictions,
    )


def _deal(labels: NDArray[np.int64], parts: int, generator: np.random.RandomState) -> list[NDArray[np.int64]]:
    """All rows in random order, dealt out to parts of equal size that all hold every class."""
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return [order[part::parts] for part in range(parts)]


# ---- checks ---------------------------------------------------------------------------------------------------------


def _number(what: str, value: object, low: float, high: float = np.inf, *, integer: bool = False) -> None:
    kinds = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    good = isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high
    if not good or (not integer and (value == low or not np.isfinite(value))):  # type: ignore[call-overload]
        word = f"an integer from {low:g}" + (f" to {high:g}" if np.isfinite(high) else " on")
        raise BaselineError(f"{what} {value!r}: must be {word if integer else f'a number above {low:g}'}.")


def _arrays(split: Split | Arrays) -> tuple[str | None, dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]]:
    """Name of the data set, if known, and its checked parts, inputs in [0, 1]."""
    name = None
    if isinstance(split, Split):
        name = split.dataset
        pairs = {"training": (split.x_train, split.y_train), "test": (split.x_test, split.y_test)}
        if len(split.y_validation):
            pairs["validation"] = (split.x_validation, split.y_validation)
    elif isinstance(split, (tuple, list)) and len(split) in (4, 6):
        parts = ("training", "test") if len(split) == 4 else ("training", "validation", "test")
        pairs = {part: (split[2 * i], split[2 * i + 1]) for i, part in enumerate(parts)}
    else:
        raise BaselineError("Data for the baseline: must be a Split, or 4 or 6 arrays of inputs and labels.")
    checked = {part: _checked(part, x, y) for part, (x, y) in pairs.items()}
    x_train, y_train = checked["training"]
    known = np.unique(y_train)
    if len(known) < 2:
        raise BaselineError("The training labels hold a single class; two are needed.")
    for part, (x, _) in checked.items():
        if x.shape[1] != x_train.shape[1]:
            raise BaselineError(
                f"The {part} inputs have {x.shape[1]} features, the training inputs {x_train.shape[1]}."
            )
    return name, checked


def _checked(part: str, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    inputs, labels = np.asarray(x), np.asarray(y)
    if inputs.ndim != 2 or not inputs.size:
        raise BaselineError(f"The {part} inputs are of shape {inputs.shape}: must be (samples, features).")
    if labels.shape != inputs.shape[:1] or labels.dtype.kind not in "iu":
        raise BaselineError(
            f"The {part} labels are {labels.dtype} of shape {labels.shape}: must be {len(inputs)} integers."
        )
    highest = 1.0 if inputs.dtype.kind == "f" else 255.0
    if inputs.dtype.kind not in "fiu" or not (inputs.min() >= 0 and inputs.max() <= highest):
        raise BaselineError(f"The {part} inputs ({inputs.dtype}) must be integers from 0 to 255 or floats from 0 to 1.")
    scaled = inputs.astype(np.float32)  # half the memory of float64, and faster
    scaled /= np.float32(highest)
    return scaled, labels.astype(np.int64)
