"""The jobs of the study. Each gets a job and the folder of the stored results, and gives plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host import calibration, datasets
from host.backends import Backend, open_backend
from host.chip import Chip, Encoded, Output
from host.files import save_arrays
from host.jobs import BACKENDS
from host.network import Network
from host.reproduce.bisnn.settings import BINS, FAR, MOONS, SIDE, SURE, TEMPERED, Answer, Job, die
from host.reproduce.cells import Result, cached
from host.reproduce.numbers import facts, pack
from host.trainers import checkpoint

FOREIGN = 2000
"""Images of each foreign kind at most."""

FloatArray = NDArray[np.float64]
Probabilities = Mapping[Answer, FloatArray]


# ---- data -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """The samples of a setting: intensities for training, and those on which a network is asked, by name.

    What it is asked on has "test" and, of images, "noise" and "shuffled"; of points "grid", the whole unit square.
    """

    split: datasets.Split
    asked: dict[str, NDArray[np.uint8]]
    far: NDArray[np.bool_]
    """Of the points of the grid, which are far from all training points."""

    @classmethod
    def of(cls, job: Job) -> Data:
        setting = job.setting
        back = setting.held_back if job.kind == "held" else 0
        split = datasets.split(setting.dataset, setting.train_size, job.seed, validation_size=back)
        if job.kind == "held":
            return cls(split, {"validation": split.x_validation}, np.zeros(0, bool))
        test = split.x_test
        if setting.dataset not in MOONS:
            return cls(split, {"test": test} | foreign_images(test[:FOREIGN], job.seed), np.zeros(0, bool))
        points = calibration.grid(SIDE)
        return cls(split, {"test": test, "grid": datasets.population_code(points)}, far_from(points, plane(split)))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of the test samples, or of the validation samples where the network is asked on these."""
        return self.split.y_validation if "validation" in self.asked else self.split.y_test


def plane(split: datasets.Split) -> FloatArray:
    """Training points (n, 2) in the unit square."""
    return split.scale.unit(split.rows_train)


def far_from(points: FloatArray, known: FloatArray) -> NDArray[np.bool_]:
    """Which points (n, 2) are more than :data:`FAR` from all known ones."""
    apart = np.linalg.norm(points[:, None] - known[None], axis=2)
    return np.asarray(apart.min(axis=1) > FAR)


def foreign_images(images: NDArray[np.uint8], seed: int) -> dict[str, NDArray[np.uint8]]:
    """Uniform noise, and images each of which has its pixels in an order of its own."""
    rng = np.random.default_rng([seed, 0xF0E])
    noise = rng.integers(0, 256, images.shape).astype(np.uint8)
    return {"noise": noise, "shuffled": rng.permuted(images, axis=1)}


# ---- asking a network -----------------------------------------------------------------------------------------------


def ask(trainer: Any, answers: Sequence[Answer], x: NDArray[np.uint8]) -> dict[Answer, FloatArray]:
    """Probabilities (n, classes) of each answer; the members of ensembles are asked once, whatever their number."""
    most = max((answer.members for answer in answers if answer.prediction == "ensemble"), default=0)
    members = trainer.member_probabilities(x, most) if most else np.zeros(0)
    found = {}
    for answer in answers:
        if answer.prediction == "ensemble":
            found[answer] = members[: answer.members].mean(axis=0)
        elif answer.prediction == "mode":
            found[answer] = trainer.probabilities(x, prediction="mode")
        else:
            found[answer] = trainer.predict_proba(x)
    return found


def ask_all(trainer: Any, answers: Sequence[Answer], data: Data) -> dict[str, dict[Answer, FloatArray]]:
    """Probabilities of each answer on everything that the network is asked on."""
    found = ask(trainer, answers, np.concatenate(list(data.asked.values())))
    ends = np.cumsum([len(x) for x in data.asked.values()])[:-1]
    parts = {answer: np.split(p, ends) for answer, p in found.items()}
    return {name: {answer: parts[answer][at] for answer in answers} for at, name in enumerate(data.asked)}


def scores(p: FloatArray, labels: NDArray[np.int64], outside: Mapping[str, FloatArray]) -> dict[str, Any]:
    """Accuracy, calibration and confidence of probabilities, also on foreign inputs."""
    curve = calibration.reliability(p, labels, BINS)
    return calibration.measures(p, labels) | {
        "right": pack(p.argmax(axis=1) == labels),
        "bins": [
            {"n": int(n), "confidence": _plain(confidence), "accuracy": _plain(accuracy)}
            for n, confidence, accuracy in zip(curve.counts, curve.confidence, curve.accuracy, strict=True)
        ],
        "foreign": {
            name: {
                "auroc": calibration.out_of_distribution_auroc(p, other),
                "confidence": float(other.max(axis=1).mean()),
                "sure": float(np.mean(other.max(axis=1) > SURE)),
                "n": len(other),
            }
            for name, other in outside.items()
            if len(other)
        },
    }


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def judged(asked: Mapping[str, Probabilities], data: Data, temperatures: Mapping[str, float]) -> dict[str, Any]:
    """Scores of each answer by name, and of the same answer with its temperature if there is one."""
    found: dict[str, Any] = {}
    first = next(iter(asked))
    for answer in asked[first]:
        exponents = {"": 1.0} | ({TEMPERED: temperatures[answer.name]} if answer.name in temperatures else {})
        for suffix, exponent in exponents.items():
            p = {name: calibration.apply_temperature(each[answer], exponent) for name, each in asked.items()}
            outside = {name: each for name, each in p.items() if name not in (first, "grid")}
            if "grid" in p:
                outside["far"] = p["grid"][data.far]
            found[answer.name + suffix] = scores(p[first], data.labels, outside) | {"temperature": exponent}
    return found


# ---- training -------------------------------------------------------------------------------------------------------


@contextmanager
def opened(job: Job, data: Data, backend: str | Backend) -> Iterator[Chip | None]:
    """The chip of a job, with its die; ``None`` for a network that needs no chip."""
    setting = job.setting
    if setting.rule == "float":
        yield None
        return
    mismatch = setting.mismatch or job.mismatch
    with Watched(setting.config(data.split.n_features, mismatch), backend, die(mismatch, job.seed)) as chip:
        yield chip


class Watched(Chip):
    """A chip that counts how often samples are encoded, and keeps what it answered if it is told to."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.encodings = 0
        self.outputs: list[Output] | None = None

    def encode(self, *args: Any, **options: Any) -> Encoded:
        self.encodings += 1
        return super().encode(*args, **options)

    def run(self, *args: Any, **options: Any) -> Output:
        self.encodings += 1
        return self._kept(super().run(*args, **options))

    def run_encoded(self, encoded: Encoded) -> Output:
        return self._kept(super().run_encoded(encoded))

    def _kept(self, out: Output) -> Output:
        if self.outputs is not None:
            self.outputs.append(out)
        return out


def do(folder: Path, job: Job) -> Result:
    """Do a job."""
    return JOBS[job.kind](folder, job)


def fitted(job: Job, data: Data, chip: Chip | None, state: checkpoint.State | None = None, **settings: Any) -> Any:
    """The trained estimator of a job, continued from `state` if there is one, with other `settings` if there are."""
    split = data.split
    trainer = job.setting.trainer(chip, split.n_features, split.n_classes, job.seed).set_params(**settings)
    return trainer.fit(split.x_train, split.y_train, resume=state)


def hold_back(folder: Path, job: Job) -> Result:
    """Train without the samples held back; scores on these, and the temperature of each answer."""
    data = Data.of(job)
    with opened(job, data, BACKENDS[0]) as chip:
        trainer = fitted(job, data, chip)
        checkpoint.save(_state(folder, job), trainer.state_dict())
        asked = ask_all(trainer, job.answers, data)
    temperatures = {
        answer.name: calibration.fit_temperature(p, data.labels) for answer, p in asked["validation"].items()
    }
    held = {"n_held": len(data.labels), "temperatures": temperatures}
    return facts(data.split) | held | {"answers": judged(asked, data, temperatures)}


def train(folder: Path, job: Job, backend: str = BACKENDS[0]) -> Result:
    """Train, by default on the golden model; the state goes to ``<key>.state``, maps to ``<key>.npz``."""
    data = Data.of(job)
    with opened(job, data, backend) as chip:
        trainer = fitted(job, data, chip)
        checkpoint.save(_state(folder, job), trainer.state_dict())
        asked = ask_all(trainer, job.answers, data)
    if "grid" in asked:
        maps = {f"map_{answer.name}": p.reshape(SIDE, SIDE, -1) for answer, p in asked["grid"].items()}
        points = {"points": plane(data.split), "labels": data.split.y_train}
        save_arrays(folder / f"{job.key()}.npz", maps | points)
    history = {name: np.asarray(column).tolist() for name, column in trainer.history_.items()}
    seconds = history.pop("seconds", [])
    return facts(data.split) | {
        "answers": judged(asked, data, temperatures_of(folder, job)),
        "history": history,
        "training_seconds": float(np.sum(seconds)),
        "cost": {name: int(value) for name, value in trainer.cost_.items()},
        "weights": digest(trainer.latent_),
    }


def temperatures_of(folder: Path, job: Job) -> dict[str, float]:
    """The temperatures that were fitted for the answers of a training; none if it holds no samples back."""
    if job.held is None:
        return {}
    found = cached(folder, job.held) or hold_back(folder, job.held)
    temperatures: dict[str, float] = found["temperatures"]
    return temperatures


def digest(arrays: Sequence[NDArray[Any]]) -> str:
    """Hash of the parameters of a training, to the bit."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _state(folder: Path, job: Job) -> Path:
    return folder / f"{job.key()}.state"


@contextmanager
def trained(folder: Path, training: Job | None, **settings: Any) -> Iterator[tuple[Any, Data]]:
    """The estimator of a training, on the golden chip that it learned on; trained again if its state is gone."""
    assert training is not None
    path, data = _state(folder, training), Data.of(training)
    if not path.is_file():
        do(folder, training)
    with opened(training, data, BACKENDS[0]) as chip:
        yield fitted(training, data, chip, checkpoint.load(path), **settings), data


# ---- looking at what was trained ------------------------------------------------------------------------------------


def tried(folder: Path, job: Job) -> Result:
    """Ask a network in more ways; their temperatures are fitted as those of the usual ones."""
    training = job.training
    assert training is not None
    answers: dict[str, Any] = {}
    for sharpness in dict.fromkeys(answer.sharpness for answer in job.answers):
        mine = [answer for answer in job.answers if answer.sharpness == sharpness]
        drawn = {"sharpness": sharpness, "members": max(answer.members for answer in mine)}
        temperatures = {}
        if training.held is not None:
            with trained(folder, training.held, **drawn) as (trainer, data):
                validated = ask(trainer, mine, data.asked["validation"])
            temperatures = {answer.name: calibration.fit_temperature(p, data.labels) for answer, p in validated.items()}
        with trained(folder, training, **drawn) as (trainer, data):
            answers |= judged(ask_all(trainer, mine, data), data, temperatures)
    return facts(data.split) | {"answers": answers}


def deploy(folder: Path, job: Job) -> Result:
    """Test an ideal-trained network on the die of its seed."""
    with trained(folder, job.training) as (trainer, data), opened(job, data, BACKENDS[0]) as chip:
        trainer.set_params(chip=chip)
        asked = ask_all(trainer, job.answers, data)
    assert job.training is not None
    return facts(data.split) | {"answers": judged(asked, data, temperatures_of(folder, job.training))}


def confirm_test(folder: Path, job: Job) -> Result:
    """Test a network, or mode and ensemble of a posterior, on the golden model and on the simulated chip."""
    found: list[dict[Answer, FloatArray]] = []
    outs: list[list[Output]] = []
    encodings: list[int] = []
    with trained(folder, job.training) as (trainer, data):
        for backend in BACKENDS:
            with opened(job, data, backend) as chip:
                assert isinstance(chip, Watched)
                trainer.set_params(chip=chip)
                chip.outputs = []
                answers: dict[Answer, FloatArray] = {}
                for answer in job.answers:
                    chip.encodings = 0
                    answers |= ask(trainer, [answer], data.asked["test"])
                    encodings.append(chip.encodings)
                found.append(answers)
                outs.append(chip.outputs)
    golden, sim = outs
    return facts(data.split) | {
        "networks": len(sim),
        "most_encodings": max(encodings),
        "presentations": sum(len(out.cycles) for out in sim),
        "spikes": int(sum(count.sum() for out in sim for count in out.counts)),
        "different_counts": sum(
            int(np.count_nonzero(a != b))
            for one, other in zip(golden, sim, strict=True)
            for a, b in zip(one.counts, other.counts, strict=True)
        ),
        "equal_outputs": len(golden) == len(sim)
        and all(
            np.array_equal(a, b)
            for one, other in zip(golden, sim, strict=True)
            for a, b in zip(_arrays(one), _arrays(other), strict=True)
        ),
        "equal_probabilities": all(np.array_equal(found[0][answer], found[1][answer]) for answer in job.answers),
        "accuracy": {
            answer.name: [float(np.mean(p[answer].argmax(axis=1) == data.labels)) for p in found]
            for answer in job.answers
        },
        "cycles": [int(sum(out.cycles.sum() for out in each)) for each in outs],
        "steps": [int(sum(out.steps.sum() for out in each)) for each in outs],
    }


def _arrays(out: Output) -> list[NDArray[Any]]:
    """Everything that the chip answered."""
    values = [getattr(out, field.name) for field in fields(out)]
    return [array for value in values for array in (value if isinstance(value, list) else [value])]


# ---- the simulated chip ---------------------------------------------------------------------------------------------


def build(_folder: Path, job: Job) -> Result:
    """Build the simulated chip, so that the jobs that need it find it."""
    Chip(job.setting.config(datasets.split(job.setting.dataset).n_features), BACKENDS[1]).close()
    return {}


class Counted:
    """A backend that counts the words sent to it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.words = 0

    def exchange(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        self.words += len(words)
        return self.backend.exchange(words)

    def close(self) -> None:
        self.backend.close()


def load(_folder: Path, job: Job) -> Result:
    """Load other weights into the simulated chip, all of them random, and count the words that it takes."""
    setting = job.setting
    cfg = setting.config(datasets.split(setting.dataset).n_features)
    rng = np.random.default_rng(0)
    link = Counted(open_backend(BACKENDS[1], cfg)[0])
    words = []
    with Chip(cfg, link) as chip:
        for _ in range(3):
            network = Network([rng.choice([-1, 1], shape) for shape in cfg.shapes])
            link.words = 0
            chip.load(network)
            chip.flush()
            words.append(link.words)
        link.words = 0
        chip.flush()
        empty = link.words
        equal = all(np.array_equal(a, b) for a, b in zip(chip.weights(), network.weights, strict=True))
    return {
        "layers": list(cfg.layers),
        "synapses": cfg.n_synapses,
        "words": max(words[1:]) - empty,  # the first load brings all constants, too
        "least": -(-cfg.n_synapses // 32),
        "memory_bits": cfg.weight_depth * cfg.lanes * cfg.weight_bits,
        "equal": equal,
    }


def operations(folder: Path, job: Job) -> Result:
    """Synaptic operations per lane and clock cycle of the simulated chip, on test samples of a trained network."""
    with trained(folder, job.training) as (trainer, data):
        cfg = job.setting.config(data.split.n_features)
        backend = open_backend(BACKENDS[1], cfg)[0]
        with Chip(cfg, backend) as chip:
            chip.load(trainer.network_)
            chip.flush()
            trainer.set_params(chip=chip)
            before = getattr(backend, "cycles", 0)
            trainer.present(data.asked["test"][: job.samples])
            clock = getattr(backend, "cycles", 0) - before
            stats = chip.stats.to_dict()
    # The golden model has no clock of its own.
    clock = clock or stats["cycles"]
    return {
        "layers": list(cfg.layers),
        "lanes": cfg.lanes,
        "samples": stats["samples"],
        "rate": stats["synaptic_ops"] / cfg.lanes / clock,
        "sample_rate": stats["synaptic_ops"] / cfg.lanes / stats["cycles"],
        "clock_cycles": clock,
        "cycles_per_step": stats["cycles"] / stats["timesteps"],
        "input_spikes_per_step": stats["input_spikes"] / stats["timesteps"],
    }


JOBS: dict[str, Callable[[Path, Job], Result]] = {
    "held": hold_back,
    "train": train,
    "tried": tried,
    "deploy": deploy,
    "build": build,
    "load": load,
    "operations": operations,
    "confirm-training": lambda folder, job: train(folder, job, BACKENDS[1]),
    "confirm-test": confirm_test,
}
