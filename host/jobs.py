"""A training from its settings to its run folder: data, chip, trainer, baselines, evaluation, report."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from types import FrameType, SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from host import calibration, datasets
from host.backends import is_serial, open_backend
from host.die import SINGLES, Die
from host.errors import ChipMismatch, UserError
from host.events import Events
from host.runs import NETWORK, RunFolder, versions
from host.trainers import (
    BayesianBinary,
    BinaryStraightThrough,
    CheckpointError,
    DelGrad,
    FullPrecision,
    MetropolisHastings,
    Progress,
    SpikeBackprop,
    State,
    SurrogateGradient,
)
from host.trainers.base import ChipClassifier, add_cost, chip_totals
from host.trainers.binary import GRADIENTS, PREDICTIONS
from host.trainers.binary import READ_OUTS as BINARY_READ_OUTS
from host.trainers.delgrad import DELAYS
from host.trainers.spike_backprop import READ_OUTS as SPIKE_READ_OUTS
from rtl.config import ChipConfig

TRAINERS = ("mh", "surrogate", "ssnn-bp", "delgrad", "bisnn-st", "bisnn-bayes")
BINARY = ("bisnn-st", "bisnn-bayes")
"""Trainers of chips with binary weights."""

ON_EPOCHS = ("ssnn-bp", "delgrad", *BINARY)
"""Trainers whose work is counted in epochs and that take a validation set."""

MODES = ("ideal", "domain-randomised", "in-loop", "in-loop-naive")
BACKENDS = ("golden", "sim")

STARTS = ("random", "backprop")
READ_OUTS = ("best", "vote", "mean", "last", "map")
ENCODINGS = ("rate", "bernoulli", "events")

BINARY_OPTIONS = ("batch_size", "gradient", "gain", "temperature")
BAYES_OPTIONS = ("rate", "kappa", "prior", "members", "prediction", "sharpness")
OPTIONS = {"bisnn-st": BINARY_OPTIONS, "bisnn-bayes": BINARY_OPTIONS + BAYES_OPTIONS}
"""Further settings of a trainer, by the names of its constructor's arguments."""

BINARY_USUAL: dict[str, Any] = {
    "dataset": "digits",
    "train_size": None,
    "epochs": 60,
    "timesteps": 25,
    "hidden": (128,),
    "lanes": 64,
    "weight_bits": 1,
    "read_out": "raster+gate",
}

USUAL: dict[str, dict[str, Any]] = {
    "ssnn-bp": {
        "dataset": "digits",
        "train_size": None,
        "timesteps": 10,
        "hidden": (64,),
        "lanes": 16,
        "weight_bits": 10,
        "encoding": "bernoulli",
    },
    "delgrad": {
        "dataset": "yin-yang",
        "train_size": None,
        "epochs": 50,
        "hidden": (30,),
        "lanes": 16,
    },
    "bisnn-st": BINARY_USUAL,
    "bisnn-bayes": BINARY_USUAL,
}
"""Settings of a trainer that differ from the defaults of :class:`RunSpec`."""

IMAGES = {"silent_below": 0.3, "t_late": 1.0}
"""Latency code of images: bright pixels spike early, dark ones not at all."""

BATCH = 250
"""Samples that a chip learns from between two looks at Ctrl-C and at the time of the next checkpoint."""

LOGISTIC_VALUES = 2_000_000
"""Largest training set, in intensities, for which logistic regression is fitted without being asked."""

CHECKPOINT_SECONDS = 5.0
"""Time between two checkpoints while training."""

RASTER_SAMPLES = 3
"""Test samples whose spikes are drawn in the report."""


Data: TypeAlias = datasets.Split | datasets.EventSplit


class SpecError(UserError):
    """Settings of a training that make no sense; the message is one sentence."""


def allowed(what: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a `value` outside `choices` with a sentence that lists them."""
    if value not in choices:
        raise SpecError(f"Unknown {what} {value!r}; allowed are {', '.join(choices)}.")


@dataclass(frozen=True)
class RunSpec:
    """Everything that defines a training; equal specs give equal results.

    `die` is the seed of the distorted die, `mismatch` its level and `distortions` are single ones by name
    (:data:`host.die.SINGLES`); without any of them the chip is ideal. `start` is "random", or "backprop": begin with
    weights that backpropagation found on the ideal model. `train_size` is ``None`` for the whole training pool.
    `epochs` and `validation_size` are those of :data:`ON_EPOCHS`, `steps` those of the others; `delays` and
    `steps_per_tau` are those of "delgrad", whose time code leaves `timesteps` and `encoding` no meaning. `options` are
    pairs of name and value, see :data:`OPTIONS`; what is left out is as the trainer has it.
    """

    trainer: str = "mh"
    mode: str = "in-loop"
    dataset: str = "breast-cancer"
    backend: str = "sim"
    die: int | None = None
    mismatch: float | None = None
    distortions: tuple[tuple[str, float], ...] = ()
    seed: int = 0
    train_size: int | None = 100
    validation_size: int = 0
    steps: int | None = None
    epochs: int = 10
    timesteps: int = 32
    hidden: tuple[int, ...] = (15,)
    lanes: int = 8
    weight_bits: int = 8
    state_bits: int = 24
    start: str = "random"
    beta: float = 0.5
    prior_sd: float = 32.0
    start_sd: float = 24.0
    read_out: str = "best"
    encoding: str = "rate"
    greedy: bool = False
    remeasure: bool = False
    delays: str = "axonal"
    steps_per_tau: int = 50
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "options", tuple((str(name), value) for name, value in self.options))
        object.__setattr__(self, "distortions", tuple((str(name), value) for name, value in self.distortions))
        allowed("trainer", self.trainer, TRAINERS)
        allowed("mode", self.mode, MODES)
        allowed("data set", self.dataset, tuple(datasets.REGISTRY))
        if not is_serial(self.backend):
            allowed("backend", self.backend, (*BACKENDS, "serial:DEVICE"))
        allowed("read-out", self.read_out, tuple(BINARY_READ_OUTS) if self.trainer in BINARY else READ_OUTS)
        allowed("start", self.start, STARTS)
        allowed("encoding", self.encoding, ENCODINGS)
        names = [name for name, _ in self.distortions]
        for name in names:
            allowed("distortion", name, tuple(SINGLES))
            if names.count(name) > 1:
                raise SpecError(f"Distortion {name}: is given {names.count(name)} times, must be once.")
            if name == "jitter" and not self.delayed:
                raise SpecError(
                    "Distortion jitter: must be with delays, that is with --trainer delgrad and not --delays none."
                )
        allowed("kind of delays", self.delays, DELAYS)
        if self.trainer != "ssnn-bp" and self.encoding == "events":
            raise SpecError(f"Timed events: must be with the trainer ssnn-bp, not {self.trainer}.")
        if self.trainer not in ON_EPOCHS and self.validation_size:
            raise SpecError(f"A validation set: must be with the trainer {_either(ON_EPOCHS)}, not {self.trainer}.")
        if self.trainer in ON_EPOCHS and self.start != "random":
            raise SpecError(f"Start {self.start!r}: must be 'random' with the trainer {self.trainer}.")
        self._check_options()
        if self.mismatch is not None and not 0 <= self.mismatch <= 4:
            raise SpecError(f"Mismatch {self.mismatch!r}: must be a level from 0 to 4.")
        if self.die is not None and not 0 <= self.die < 2**32:
            raise SpecError(f"Die {self.die!r}: must be a seed from 0 to {2**32 - 1}.")
        if not 0 <= self.seed < 2**32:
            raise SpecError(f"Seed {self.seed!r}: must be from 0 to {2**32 - 1}.")
        if self.steps is not None and self.steps < 1:
            raise SpecError(f"Steps {self.steps!r}: must be an integer from 1 on.")
        if self.epochs < 1:
            raise SpecError(f"Epochs {self.epochs!r}: must be an integer from 1 on.")
        if not 2 <= self.steps_per_tau <= 1000:
            raise SpecError(f"Steps per tau {self.steps_per_tau!r}: must be from 2 to 1000.")
        if not 1 <= self.timesteps <= 65_534:
            raise SpecError(f"Time steps {self.timesteps!r}: must be from 1 to 65534.")

    def _check_options(self) -> None:
        for name, _ in self.options:
            allowed("setting", name, BINARY_OPTIONS + BAYES_OPTIONS)
            of = tuple(trainer for trainer, names in OPTIONS.items() if name in names)
            if self.trainer not in of:
                raise SpecError(f"Setting {name}: must be with the trainer {_either(of)}, not {self.trainer}.")
        if self.trainer not in BINARY:
            return
        if self.weight_bits != 1:
            raise SpecError(f"Weight bits {self.weight_bits!r}: must be 1 with the trainer {self.trainer}.")
        if not self.hidden:
            raise SpecError(
                f"Hidden layers: must be one or more with the trainer {self.trainer}, the last for the read-out."
            )
        for name, choices in (("gradient", GRADIENTS), ("prediction", PREDICTIONS)):
            for value in (value for option, value in self.options if option == name):
                allowed(name, value, choices)
        temperature = dict(self.options).get("temperature", "none")
        if isinstance(temperature, str):
            allowed("temperature", temperature, ("none", "validation"))
        if temperature == "validation" and not self.validation_size:
            raise SpecError("Temperature 'validation': must be with a validation set, so with a validation size.")

    @classmethod
    def usual(cls, trainer: str, **given: Any) -> RunSpec:
        """A spec with the trainer's usual settings where none is given (``None`` counts as not given).

        Names that are no field of a spec become `options`.
        """
        given = {name: value for name, value in given.items() if value is not None}
        known = {item.name for item in fields(cls)}
        options = tuple((name, given.pop(name)) for name in sorted(set(given) - known))
        return cls(**{**USUAL.get(trainer, {}), "trainer": trainer, "options": options, **given})

    @property
    def n_steps(self) -> int:
        """Proposals or updates, with the trainer's usual number where none was asked for."""
        return self.steps if self.steps is not None else {"mh": 3000, "surrogate": 400}[self.trainer]

    def to_dict(self) -> dict[str, Any]:
        pairs = {name: [list(pair) for pair in getattr(self, name)] for name in ("distortions", "options")}
        return asdict(self) | {"hidden": list(self.hidden)} | pairs

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSpec:
        """Inverse of :meth:`to_dict`; refuses anything else."""
        known = {item.name for item in fields(cls)}
        if not isinstance(values, Mapping) or not set(values) <= known:
            raise CheckpointError("The checkpoint does not say how its training was set up.")
        try:
            return cls(**dict(values))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"The checkpoint's settings are damaged ({error}).") from None

    def split(self) -> datasets.Split:
        """The data as intensities; DelGrad gets the official validation set if there is one."""
        held: int | None = self.validation_size
        if self.trainer == "delgrad" and not held and datasets.load(self.dataset).validation:
            held = None
        return datasets.split(self.dataset, self.train_size, self.seed, validation_size=held)

    def samples(self, split: datasets.Split) -> Data:
        """The data as the trainer gets them: intensities, timed events if the encoding says so, or real numbers."""
        if self.trainer == "delgrad" and datasets.load(self.dataset).features.dtype != np.uint8:
            real: dict[str, Any] = {
                "x_train": split.features_train,
                "x_validation": split.features_validation,
                "x_test": split.features_test,
            }
            return replace(split, **real)
        return datasets.event_split(split, self.timesteps) if self.encoding == "events" else split

    def config(self, split: datasets.Split) -> ChipConfig:
        """The chip: inputs and outputs from the data, hidden layers from the settings, learning and delays if needed.

        A chip with one of these has tables of a die only if there is one, for it is large without. A chip with binary
        weights has no outputs; its tables are small.
        """
        if self.trainer in BINARY:
            return ChipConfig(
                layers=(split.n_features, *self.hidden),
                lanes=self.lanes,
                weight_bits=self.weight_bits,
                state_bits=self.state_bits,
                binary_weights=True,
            )
        learning = self.trainer == "ssnn-bp"
        return ChipConfig(
            layers=(split.n_features, *self.hidden, split.n_classes),
            lanes=self.lanes,
            weight_bits=self.weight_bits,
            state_bits=self.state_bits,
            die_tables=self.trainer not in ("ssnn-bp", "delgrad") or self.distorted,
            learning=learning,
            delay_slots=self.steps_per_tau + 1 if self.delayed else 0,
            axonal_delays=self.delayed and self.delays == "axonal",
        )

    @property
    def delayed(self) -> bool:
        """Whether the chip has delays."""
        return self.trainer == "delgrad" and self.delays != "none"

    @property
    def distorted(self) -> bool:
        """Whether the chip has a die."""
        return self.die is not None or self.mismatch is not None or bool(self.distortions)

    def draw_die(self) -> Any:
        """The distorted die, or ``None`` for the ideal chip."""
        if not self.distorted:
            return None
        level = self.mismatch if self.mismatch is not None else 0.0 if self.distortions else 1.0
        singles: dict[str, Any] = dict(self.distortions)
        kinds = ("threshold", "leak") if self.trainer in BINARY else None
        return Die(seed=self.die or 0, level=level, kinds=kinds, **singles)

    def make_trainer(self, chip: Any) -> ChipClassifier:
        if self.trainer == "ssnn-bp":
            encoding = "bernoulli" if self.encoding == "events" else self.encoding
            return SpikeBackprop(
                chip, self.epochs, timesteps=self.timesteps, encoding=encoding, batch_size=BATCH, seed=self.seed
            )
        if self.trainer == "delgrad":
            code: dict[str, Any] = IMAGES if datasets.load(self.dataset).images else {}
            return DelGrad(
                chip,
                self.epochs,
                delays=self.delays,
                steps_per_tau=self.steps_per_tau,
                seed=self.seed,
                **code,
            )
        if self.trainer in BINARY:
            kind = BinaryStraightThrough if self.trainer == "bisnn-st" else BayesianBinary
            return kind(chip, self.epochs, **self.binary_settings)
        common: dict[str, Any] = {
            "beta": self.beta,
            "prior_sd": self.prior_sd,
            "start_sd": self.start_sd,
            "timesteps": self.timesteps,
            "encoding": self.encoding,
            "seed": self.seed,
        }
        if self.trainer == "mh":
            return MetropolisHastings(
                chip,
                self.n_steps,
                read_out=self.read_out,
                greedy=self.greedy,
                remeasure=self.remeasure,
                **common,
            )
        level = 1.0 if self.mismatch is None else self.mismatch
        return SurrogateGradient(chip, self.mode, updates=self.n_steps, dies=level, **common)

    @property
    def binary_settings(self) -> dict[str, Any]:
        """Arguments of the trainers of binary weights but for chip and epochs."""
        return {
            "read_out": self.read_out,
            "timesteps": self.timesteps,
            "encoding": self.encoding,
            "seed": self.seed,
            **dict(self.options),
        }


def _either(names: tuple[str, ...]) -> str:
    """Names as a sentence lists them: "a, b or c"."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


class Interrupted(Exception):
    """The user asked to stop; the checkpoint is written."""

    def __init__(self, step: int, total: int) -> None:
        super().__init__(f"stopped after {step} of {total} steps")
        self.step, self.total = step, total


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a request that the training answers between two steps; the second one interrupts."""
    asked = False

    def handler(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    try:
        previous = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread: leave signals alone
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, previous)


# ---- training -------------------------------------------------------------------------------------------------------


def chip_config(spec: RunSpec, split: datasets.Split) -> ChipConfig:
    """The chip of a run: the one that its settings describe, or the one at the serial port if that will do.

    Raises
    ------
    ChipMismatch
        If the chip at the port has other layers, narrower weights, or lacks something that the run needs.
    """
    from host.selftest import read_config

    asked = spec.config(split)
    if not is_serial(spec.backend):
        return asked
    backend, _ = open_backend(spec.backend, asked)
    try:
        found = read_config(backend)
    finally:
        backend.close()
    # The time code of delgrad leaves the encoding no meaning.
    draws = spec.encoding == "bernoulli" and spec.trainer != "delgrad"
    for name, fits, more in (
        ("layers", found.layers == asked.layers, ""),
        ("learning", found.learning >= asked.learning, ""),
        ("delay_slots", found.delay_slots >= asked.delay_slots, " or more"),
        ("axonal_delays", found.axonal_delays == asked.axonal_delays or not asked.delay_slots, ""),
        ("binary_weights", found.binary_weights == asked.binary_weights, ""),
        ("weight_bits", found.weight_bits >= asked.weight_bits, " or more"),
        ("bernoulli", found.bernoulli or not draws, ""),
    ):
        if not fits:
            raise ChipMismatch(
                f"the chip at {spec.backend} has {name} = {getattr(found, name)}: "
                f"this run needs {getattr(asked, name)}{more}"
            )
    return found


def train(
    spec: RunSpec,
    run: RunFolder,
    *,
    resume: State | None = None,
    baselines: tuple[str, ...] | None = None,
    watch: Callable[[str, Progress], None] | None = None,
    report: bool = True,
) -> dict[str, Any]:
    """Train as `spec` says, evaluate, and write the run folder; returns the result.

    Parameters
    ----------
    resume : checkpoint of an interrupted training of the same spec
    baselines : names from :data:`BASELINES` to train beside it, on the same split and chip; default: those that need
        no chip and little time
    watch : called with a title and the progress, for progress bars
    report : write report.html and its plots

    Raises
    ------
    Interrupted
        After Ctrl-C; the checkpoint in the folder resumes the training.
    """
    from host.chip import Chip

    for name in baselines or ():
        allowed("baseline", name, tuple(BASELINES))
    split = spec.split()
    data = spec.samples(split)
    if baselines is None:
        small = split.x_train.size <= LOGISTIC_VALUES
        baselines = WITHOUT_CHIP if small else ("majority class",)
    cfg = chip_config(spec, split)
    die = spec.draw_die()
    spec.make_trainer(SimpleNamespace(cfg=cfg)).check_settings()
    started = time.perf_counter()
    with Chip(cfg, backend=spec.backend, die=die) as chip, stop_on_interrupt() as stopped:
        trainer = spec.make_trainer(chip)
        earlier = float(resume.meta.get("wall_s", 0.0)) if resume is not None else 0.0
        last = [time.perf_counter()]

        def save() -> None:
            state = trainer.state_dict()
            state.meta |= {"spec": spec.to_dict(), "wall_s": earlier + time.perf_counter() - started}
            run.write_checkpoint(state)
            last[0] = time.perf_counter()

        def callback(progress: Progress) -> None:
            if watch is not None:
                watch(title_of(spec), progress)
            if stopped():
                save()
                raise Interrupted(progress.step, progress.total)
            if time.perf_counter() - last[0] > CHECKPOINT_SECONDS:
                save()

        try:
            initial = None
            if spec.start == "backprop" and resume is None:
                pretrained = replace(spec, trainer="surrogate", mode="ideal", steps=None, encoding="rate")
                initial = pretrained.make_trainer(chip).fit(split.x_train, split.y_train).network_
            _fit(trainer, data, initial=initial, resume=resume, callback=callback)
        except KeyboardInterrupt:
            save()
            raise
        save()
        wall = earlier + time.perf_counter() - started
        probabilities = class_probabilities(trainer, data)
        test, balanced = _accuracies(trainer, data, probabilities)
        train_accuracy, _ = trainer.evaluate(data.x_train, data.y_train)
        result: dict[str, Any] = {
            "system": spec.trainer,
            "dataset": spec.dataset,
            "backend": spec.backend,
            "seed": spec.seed,
            "config": cfg.to_dict(),
            "die": None if die is None else die.to_dict() | {"severity": die.severity()},
            "accuracy": {"train": train_accuracy, "test": test},
            "balanced_accuracy": {"test": balanced},
            "baselines": {},
            "chip": trainer.cost_,
            "wall_s": wall,
            "versions": versions(),
            "settings": spec.to_dict(),
            "class_names": list(split.class_names),
        }
        if isinstance(trainer, MetropolisHastings):
            result["acceptance"] = trainer.acceptance_
            result["read_outs"] = read_outs(trainer, data)
        if isinstance(trainer, SpikeBackprop):
            result["read_outs"] = spike_read_outs(trainer, data)
        if probabilities:
            result["calibration"] = calibrations(probabilities, data)
            result["temperature"] = trainer.temperature_
        for name in baselines:
            result["baselines"][name] = BASELINES[name](spec, split, chip, _named(watch, name))
        evaluation = evaluation_arrays(trainer, chip, data, die, probabilities)
        trainer.network_.save(run.path / NETWORK)
        run.write_history(trainer.history_)
        run.write_evaluation(evaluation)
        run.write_result(result)
    if report:
        from host.report import write_report

        write_report(run)
    return result


def _fit(trainer: Any, data: Data, **settings: Any) -> None:
    """Train on the data's training set; the validation set, if there is one, goes with it."""
    extra = {"X_val": data.x_validation, "y_val": data.y_validation} if len(data.y_validation) else {}
    trainer.fit(data.x_train, data.y_train, **extra, **settings)


def title_of(spec: RunSpec) -> str:
    """What a progress bar calls the training."""
    names = {
        "mh": "MH in the loop",
        "ssnn-bp": "SSNN-BP on the chip",
        "delgrad": f"DelGrad in the loop, delays {spec.delays}",
        "bisnn-st": "BiSNN in the loop, straight-through",
        "bisnn-bayes": "BiSNN in the loop, Bayesian",
    }
    return names.get(spec.trainer, f"backprop, {spec.mode}")


def _named(watch: Callable[[str, Progress], None] | None, name: str) -> Callable[[Progress], None] | None:
    return None if watch is None else lambda progress: watch(name, progress)


def read_outs(trainer: MetropolisHastings, data: Data) -> dict[str, float]:
    """Test accuracy of every read-out of the chain."""
    chosen, found = trainer.read_out, {}
    for name in READ_OUTS:
        trainer.read_out = name
        found[name] = trainer.evaluate(data.x_test, data.y_test)[0]
    trainer.read_out = chosen
    return found


def spike_read_outs(trainer: SpikeBackprop, data: Data) -> dict[str, float]:
    """Test accuracy of both read-outs of a winner-take-all layer, in one presentation."""
    trainer.chip.load(trainer.network_)
    out = trainer.present(data.x_test)
    chosen, found = trainer.read_out, {}
    for name in SPIKE_READ_OUTS:
        trainer.read_out = name
        found[name] = float(np.mean(trainer.scores_of(out).argmax(axis=1) == data.y_test))
    trainer.read_out = chosen
    return found


def class_probabilities(trainer: ChipClassifier, data: Data) -> dict[str, NDArray[np.float64]]:
    """Class probabilities (N, n_classes) of the test set by kind of prediction, that of the settings first.

    Empty for trainers whose read-out says nothing about how sure it is.
    """
    if isinstance(trainer, BayesianBinary):
        kinds = sorted(PREDICTIONS, key=lambda kind: kind != trainer.prediction)
        return {kind: trainer.probabilities(data.x_test, prediction=kind) for kind in kinds}
    return {"network": trainer.predict_proba(data.x_test)} if isinstance(trainer, BinaryStraightThrough) else {}


def calibrations(probabilities: Mapping[str, NDArray[np.float64]], data: Data) -> dict[str, dict[str, float]]:
    """Accuracy and calibration on the test set by kind of prediction."""
    return {kind: calibration.measures(p, data.y_test) for kind, p in probabilities.items()}


def _accuracies(
    trainer: ChipClassifier, data: Data, probabilities: Mapping[str, NDArray[np.float64]]
) -> tuple[float, float]:
    """Accuracy and balanced accuracy on the test set, from the first of `probabilities` if there are some."""
    if not probabilities:
        return trainer.evaluate(data.x_test, data.y_test)
    return trainer.accuracies(next(iter(probabilities.values())), data.y_test)


def evaluation_arrays(
    trainer: ChipClassifier, chip: Any, data: Data, die: Any, probabilities: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[Any]]:
    """What the report draws, so that it can be drawn again without the chip."""
    predicted = next((trainer.decide(p) for p in probabilities.values()), None)
    arrays: dict[str, NDArray[Any]] = {
        "labels": data.y_test,
        "predicted": trainer.decisions(data.x_test) if predicted is None else predicted,
    }
    arrays |= {f"probabilities_{kind}": p for kind, p in probabilities.items()}
    if isinstance(trainer, (BinaryStraightThrough, BayesianBinary)):
        means = np.tanh if isinstance(trainer, BayesianBinary) else np.asarray
        arrays |= {f"latent_{layer}": means(matrix) for layer, matrix in enumerate(trainer.latent_)}
    network = trainer.network_
    chip.load(network)
    # One sample of each class first, so that the rasters can be compared.
    order = np.argsort([np.sum(data.y_test[:index] == label) for index, label in enumerate(data.y_test)], kind="stable")
    picked = np.sort(order[:RASTER_SAMPLES])
    out = trainer.present(data.x_test[picked], record=("raster",))
    arrays["raster_samples"], arrays["raster_labels"] = picked, data.y_test[picked]
    arrays["raster_predicted"] = trainer.decide(trainer.scores_of(out))
    if not isinstance(data.x_test, Events) and data.x_test.dtype == np.uint8:
        arrays["raster_inputs"] = data.x_test[picked]
    for layer, raster in enumerate(out.raster):
        arrays[f"raster_{layer}"] = raster
        arrays[f"mean_counts_{layer}"] = out.counts[layer]
    for layer, weights in enumerate(network.weights):
        arrays[f"weights_{layer}"] = np.asarray(weights)
    if any(delays.any() for delays in network.delays):
        arrays |= {f"delays_{layer}": delays for layer, delays in enumerate(network.delays)}
    return arrays | die_arrays(die, chip.cfg)


def die_arrays(die: Any, cfg: ChipConfig) -> dict[str, NDArray[Any]]:
    """How far the die is from the ideal, for people to look at afterwards (the trainers never see it).

    Factors of thresholds and membrane decays (n_neurons,) and, where synapses can be distorted, gains of positive and
    negative weights (n_synapses,).
    """
    if die is None:
        return {}
    tables = die.tables(cfg)

    def real(values: NDArray[np.int64], base: tuple[int, ...], rows: tuple[int, ...]) -> NDArray[np.int64]:
        """Entries of real neurons, without the padding of the last word."""
        parts = []
        for layer, (size, words) in enumerate(zip(cfg.neuron_layers, cfg.words, strict=True)):
            first, width = base[layer] * cfg.lanes, words * cfg.lanes
            parts.append(values[first : first + rows[layer] * width].reshape(-1, width)[:, :size].ravel())
        return np.concatenate(parts)

    def signed(values: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
        half = 1 << (bits - 1)
        return ((values & ((1 << bits) - 1)) ^ half) - half

    neurons = real(tables.neuron, cfg.neuron_base, (1,) * len(cfg.neuron_layers))
    found = {"die_threshold": signed(neurons, 16) / 1024.0, "die_leak": (neurons >> 16) / 1024.0}
    if not cfg.distorts_synapses:
        return found
    synapses = real(tables.synapse, cfg.weight_base, tuple(pre for pre, _ in cfg.shapes))
    return found | {
        "die_gain_positive": signed(synapses, 14) / 256.0,
        "die_gain_negative": signed(synapses >> 14, 14) / 256.0,
    }


# ---- baselines ------------------------------------------------------------------------------------------------------


def _logistic(spec: RunSpec, split: datasets.Split, chip: Any, watch: Any) -> float:
    """Logistic regression on the same intensities, no chip."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=2000).fit(split.x_train / 255.0, split.y_train)
    return float(model.score(split.x_test / 255.0, split.y_test))


def _majority(spec: RunSpec, split: datasets.Split, chip: Any, watch: Any) -> float:
    """Always the training subset's most frequent class."""
    return float(np.mean(split.y_test == np.bincount(split.y_train).argmax()))


def _ann(spec: RunSpec, split: datasets.Split, chip: Any, watch: Any) -> float:
    """A network of the same size with real weights and no spikes, trained for as many epochs, no chip."""
    from host.baseline import train_ann

    def show(entry: dict[str, Any]) -> None:
        if watch is not None:
            nan = float("nan")
            watch(Progress(entry["epoch"], spec.epochs, nan, entry["accuracy_train"], nan, nan))

    return train_ann(split, hidden=spec.hidden, epochs=spec.epochs, seed=spec.seed, callback=show).accuracy_test


def _backprop(mode: str) -> Callable[[RunSpec, datasets.Split, Any, Any], float]:
    def run(spec: RunSpec, split: datasets.Split, chip: Any, watch: Any) -> float:
        other = replace(spec, trainer="surrogate", mode=mode, steps=None, encoding="rate")
        trainer = other.make_trainer(chip)
        trainer.fit(split.x_train, split.y_train, callback=watch)
        return trainer.evaluate(split.x_test, split.y_test)[0]

    return run


def _full_precision(spec: RunSpec, split: datasets.Split, chip: Any, watch: Any) -> float:
    """The network of the binary trainers with real weights, same read-out and gradients, no chip."""
    without = ("temperature", *BAYES_OPTIONS)
    settings = {name: value for name, value in spec.binary_settings.items() if name not in without}
    model = FullPrecision((split.n_features, *spec.hidden), spec.epochs, **settings)
    model.fit(split.x_train, split.y_train, callback=watch)
    return float(model.score(split.x_test, split.y_test))


BASELINES: dict[str, Callable[[RunSpec, datasets.Split, Any, Any], float]] = {
    "backprop, ideal-trained, deployed": _backprop("ideal"),
    "backprop, domain-randomised": _backprop("domain-randomised"),
    "backprop, in the loop": _backprop("in-loop"),
    "backprop, in the loop, naive": _backprop("in-loop-naive"),
    "ANN of the same size": _ann,
    "the same network, full precision": _full_precision,
    "logistic regression": _logistic,
    "majority class": _majority,
}
"""Baselines by name: what they score on the test set, trained on the same split and measured on the same chip."""


WITHOUT_CHIP = ("logistic regression", "majority class")
"""What every training is compared with."""

DEMO_BASELINES = ("backprop, ideal-trained, deployed", "backprop, in the loop", *WITHOUT_CHIP)
"""What the main job is compared with."""


def baselines_for(spec: RunSpec) -> tuple[str, ...]:
    """All baselines that make sense beside a training; a chip that learns is compared with networks off the chip."""
    if spec.trainer in ("ssnn-bp", "delgrad"):
        return ("ANN of the same size", *WITHOUT_CHIP)
    if spec.trainer in BINARY:
        return ("the same network, full precision", *WITHOUT_CHIP)
    return (*(name for name in BASELINES if name.startswith("backprop")), *WITHOUT_CHIP)


# ---- evaluating a finished run --------------------------------------------------------------------------------------


def evaluate_run(
    run: RunFolder,
    *,
    backend: str | None = None,
    die: int | None = None,
    mismatch: float | None = None,
    distortions: tuple[tuple[str, float], ...] = (),
) -> dict[str, Any]:
    """Measure a run's network on its test set again, by default on the backend and die of its training.

    A run through a serial port took the chip that was there; without a port it is measured on a model of that chip.
    Trainers of binary weights are restored from the run's checkpoint, so that an ensemble is measured as one; an
    exponent of their probabilities that comes from validation data is fitted anew, on the chip that is measured.
    """
    from host.chip import Chip
    from host.network import Network

    result = run.read_result()
    spec = RunSpec.from_dict(result.get("settings", {}))
    at_port = is_serial(spec.backend)
    if backend is not None:
        spec = replace(spec, backend=backend)
    if die is not None or mismatch is not None:
        spec = replace(spec, die=die if die is not None else spec.die, mismatch=mismatch)
    if distortions:
        spec = replace(spec, distortions=distortions)
    split = spec.split()
    data = spec.samples(split)
    found: dict[str, Any] = {}
    recorded = at_port and not is_serial(spec.backend)
    cfg = ChipConfig.from_dict(result.get("config", {})) if recorded else chip_config(spec, split)
    with Chip(cfg, backend=spec.backend, die=spec.draw_die()) as chip:
        trainer = spec.make_trainer(chip)
        if spec.trainer in BINARY:
            _fit(trainer, data, resume=run.read_checkpoint())
            before = chip_totals(chip)
            probabilities = class_probabilities(trainer, data)
            accuracy, balanced = _accuracies(trainer, data, probabilities)
            found["calibration"] = calibrations(probabilities, data)
        else:
            before = chip_totals(chip)
            chip.load(Network.load(run.path / NETWORK))
            scores = trainer.scores_of(trainer.present(data.x_test))
            accuracy, balanced = trainer.accuracies(scores, data.y_test)
        spent = add_cost(before, chip_totals(chip))
    return {
        "backend": spec.backend,
        "die": repr(spec.draw_die()) if spec.distorted else "ideal die",
        "accuracy": accuracy,
        "balanced_accuracy": balanced,
        "samples": len(data.y_test),
        "presentations": spent["samples"],
        "cycles": spent["cycles"],
        **found,
    }
