"""The jobs of the study. Each gets a job and the folder of the stored results, and gives plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host import datasets
from host.chip import Chip, Output
from host.die import Die
from host.events import Events
from host.files import save_arrays
from host.jobs import BACKENDS
from host.network import Network
from host.reproduce.cells import Result
from host.reproduce.delgrad import settings
from host.reproduce.delgrad.settings import Job, Setting
from host.reproduce.numbers import facts, pack
from host.trainers.delgrad import first_steps
from host.trainers.spike_times import NEVER
from rtl.config import ChipConfig

HELD_BACK = {"yin-yang": None, "digits": 200}
"""Samples of the validation sets; Yin-Yang has its own."""


@dataclass(frozen=True)
class Data:
    """The samples of a setting; its features are floats from 0 to 1."""

    split: datasets.Split

    @classmethod
    def of(cls, setting: Setting, seed: int) -> Data:
        held = HELD_BACK[setting.dataset]
        return cls(datasets.split(setting.dataset, setting.train_size, seed, validation_size=held))

    def config(self, setting: Setting) -> ChipConfig:
        return setting.config(self.split.n_features, self.split.n_classes)


def do(folder: Path, job: Job) -> Result:
    """Do a job."""
    return JOBS[job.kind](folder, job)


# ---- training -------------------------------------------------------------------------------------------------------


def train(folder: Path, job: Job, backend: str | None = None) -> Result:
    """Train, by default on the golden model; the network goes to ``<key>.npz``."""
    setting, data = job.setting, Data.of(job.setting, job.seed)
    split = data.split
    with Chip(data.config(setting), backend or BACKENDS[0], setting.die(job.seed)) as chip:
        trainer = setting.trainer(chip, job.seed)
        trainer.fit(split.features_train, split.y_train, split.features_validation, split.y_validation)
        network = trainer.network_
        chip.load(network)
        out = trainer.present(split.features_test)
    network.save(folder / f"{job.key()}.npz")
    history = {name: np.asarray(column).tolist() for name, column in trainer.history_.items()}
    seconds = history.pop("seconds")
    return (
        facts(data.split)
        | tested(out, split.y_test)
        | {
            "parameters": setting.parameters(data.split.n_features, data.split.n_classes),
            "history": history,
            "validation": max(history["validation_accuracy"]),
            "training_seconds": float(np.sum(seconds)),
            "network": digest(network),
            "largest": [int(np.abs(matrix).max()) for matrix in network.weights],
        }
    )


def classes(out: Output) -> NDArray[np.int64]:
    """Output that spiked first, the lowest on ties; -1 if none did."""
    first = np.where(out.first_spike[-1] < 0, NEVER, out.first_spike[-1])
    return np.where(first.min(axis=1) == NEVER, -1, first.argmin(axis=1))


def tested(out: Output, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy, and what a test was like on average."""
    right = classes(out) == labels
    first, hidden = (np.where(each < 0, NEVER, each) for each in (out.first_spike[-1], out.first_spike[-2]))
    decision = first.min(axis=1)
    decided = decision < NEVER
    return {
        "accuracy": float(right.mean()),
        "right": pack(right),
        "silent": float(1 - decided.mean()),
        "decision": float(decision[decided].mean()) if decided.any() else None,
        "hidden_before": float((hidden < decision[:, None]).sum(axis=1).mean()),
        "hidden_spikes": float((hidden < NEVER).sum(axis=1).mean()),
        "steps": float(out.steps.mean()),
        "cycles": float(out.cycles.mean()),
    }


def digest(network: Network) -> str:
    """Hash of all weights, delays and thresholds."""
    found = hashlib.sha256()
    for array in (*network.weights, *network.delays, *network.thresholds):
        found.update(np.ascontiguousarray(array).astype("<i4").tobytes())
    return found.hexdigest()


def trained(folder: Path, job: Job) -> Network:
    """The network of the training that `job` needs; trained again if the file is gone."""
    training = job.training
    assert training is not None
    path = folder / f"{training.key()}.npz"
    if not path.is_file():
        train(folder, training)
    return Network.load(path)


def logistic(_folder: Path, job: Job) -> Result:
    """Logistic regression on the same samples."""
    from sklearn.linear_model import LogisticRegression

    data = Data.of(job.setting, job.seed)
    split = data.split
    model = LogisticRegression(max_iter=5000).fit(split.features_train, split.y_train)
    right = model.predict(split.features_test) == split.y_test
    size = data.split.n_classes * (data.split.n_features + 1)
    return facts(data.split) | {"accuracy": float(right.mean()), "right": pack(right), "parameters": size}


# ---- looking at what was trained ------------------------------------------------------------------------------------


def deploy(folder: Path, job: Job) -> Result:
    """Test a network on dies that it did not learn on."""
    data, network = Data.of(job.setting, job.seed), trained(folder, job)
    cfg, found = data.config(replace(job.setting, noise=job.noise)), []
    for die in range(job.dies):
        with Chip(cfg, die=Die.only(seed=die, **dict(job.noise))) as chip:
            chip.load(network)
            out = job.setting.trainer(chip, job.seed).present(data.split.features_test)
        found.append(facts(data.split) | tested(out, data.split.y_test))
    return {"dies": found}


def spikes(folder: Path, job: Job) -> Result:
    """First spikes of a test sample of each class, before and after the training."""
    setting, data = job.setting, Data.of(job.setting, job.seed)
    labels = data.split.y_test
    rows = np.array([np.flatnonzero(labels == label)[0] for label in range(data.split.n_classes)])
    arrays: dict[str, Any] = {}
    predicted: dict[str, list[int]] = {}
    with Chip(data.config(setting)) as chip:
        trainer = setting.trainer(chip, job.seed)
        for name, network in (("before", trainer.start_network()), ("after", trained(folder, job))):
            chip.load(network)
            out = trainer.present(data.split.features_test[rows])
            arrays |= {f"hidden_{name}": out.first_spike[-2], f"output_{name}": out.first_spike[-1]}
            arrays |= {f"delays_{layer}_{name}": delays for layer, delays in enumerate(network.delays)}
            predicted[name] = classes(out).tolist()
        arrays["inputs"] = first_steps(trainer.encode(data.split.features_test[rows]), data.split.n_features)
    _keep(folder, job, arrays)
    names = list(data.split.class_names)
    return facts(data.split) | {"rows": rows.tolist(), "class_names": names, "predicted": predicted}


def decision_map(folder: Path, job: Job) -> Result:
    """The class of every point of the plane, of a Yin-Yang network on the die that it learned on."""
    setting, data = job.setting, Data.of(job.setting, job.seed)
    at = (np.arange(job.samples) + 0.5) / job.samples
    y, x = (axis.ravel() for axis in np.meshgrid(at, at, indexing="ij"))
    with Chip(data.config(setting), die=setting.die(job.seed)) as chip:
        chip.load(trained(folder, job))
        out = setting.trainer(chip, job.seed).present(np.stack([x, y, 1 - x, 1 - y], axis=1))
    _keep(folder, job, {"classes": classes(out).reshape(job.samples, job.samples).astype(np.int8)})
    return facts(data.split) | {"class_names": list(data.split.class_names)}


def _keep(folder: Path, job: Job, arrays: Mapping[str, Any]) -> None:
    save_arrays(folder / f"{job.key()}.npz", arrays)


# ---- stored networks ------------------------------------------------------------------------------------------------


def known(_folder: Path, job: Job, backend: str | None = None) -> Result:
    """Compare the first spikes of all neurons with those that a stored network should give."""
    with np.load(datasets.data_folder() / settings.KNOWN_FOLDER / job.name) as archive:
        stored = {name: archive[name] for name in archive.files}
    weights = [stored["W1q"], stored["W2q"]]
    # On the chip a spike may arrive in the step in which it was made; the stored times are of `lat` steps later.
    delays = [stored["D1"], stored["D2"] + stored["lat"]]
    bits = int(max(np.abs(matrix).max() for matrix in weights)).bit_length() + 1
    cfg = ChipConfig(
        (len(weights[0]), *(matrix.shape[1] for matrix in weights)),
        lanes=settings.LANES,
        weight_bits=bits,
        state_bits=int(stored["state_bits"]),
        die_tables=False,
        delay_slots=int(max(matrix.max() for matrix in delays)) + 1,
    )
    network = Network(
        weights,
        thresholds=[int(stored["theta1"]), int(stored["theta2"])],
        delays=delays,
        decay_syn=int(stored["ds"]),
        decay_mem=int(stored["dm"]),
        shift=int(stored["sh"]),
        reset="none",
        fire_once=True,
    )
    with Chip(cfg, backend or BACKENDS[0]) as chip:
        chip.load(network)
        out = chip.run(Events.from_times(stored["t_in"]), steps=int(stored["T"]))
    right = classes(out) == stored["labels"]
    pairs = zip(out.first_spike, (stored["t_hid"], stored["t_out"]), strict=True)
    return {
        "name": job.name,
        "shape": list(cfg.layers),
        "bits": bits,
        "samples": len(right),
        "times": int(stored["t_hid"].size + stored["t_out"].size),
        "different": sum(int(np.count_nonzero(mine != theirs)) for mine, theirs in pairs),
        "accuracy": float(right.mean()),
        "stored_accuracy": float(stored["acc"]),
        "cycles": int(out.cycles.sum()),
        "steps": int(out.steps.sum()),
    }


# ---- the simulated chip ---------------------------------------------------------------------------------------------


def build(_folder: Path, job: Job) -> Result:
    """Build the simulated chip, so that the jobs that need it find it."""
    Chip(Data.of(job.setting, 0).config(job.setting), BACKENDS[1]).close()
    return {}


def confirm_test(folder: Path, job: Job) -> Result:
    """Test a trained network on the golden model and on the simulated chip."""
    setting, data, network = job.setting, Data.of(job.setting, job.seed), trained(folder, job)
    outs = []
    for backend in BACKENDS:
        with Chip(data.config(setting), backend, setting.die(job.seed)) as chip:
            chip.load(network)
            outs.append(setting.trainer(chip, job.seed).present(data.split.features_test))
    golden, sim = outs
    return facts(data.split) | {
        "accuracy": [float(np.mean(classes(out) == data.split.y_test)) for out in outs],
        "spikes": int(sum((first >= 0).sum() for first in sim.first_spike)),
        "different_times": sum(
            int(np.count_nonzero(a != b)) for a, b in zip(golden.first_spike, sim.first_spike, strict=True)
        ),
        "equal_outputs": all(np.array_equal(a, b) for a, b in zip(_arrays(golden), _arrays(sim), strict=True)),
        "cycles": [int(out.cycles.sum()) for out in outs],
        "steps": [int(out.steps.sum()) for out in outs],
    }


def _arrays(out: Output) -> list[NDArray[Any]]:
    return [*out.counts, *out.first_spike, out.potential_sum, out.cycles, out.input_spikes, out.steps]


JOBS: dict[str, Callable[[Path, Job], Result]] = {
    "train": train,
    "logistic": logistic,
    "deploy": deploy,
    "spikes": spikes,
    "map": decision_map,
    "known": known,
    "known-sim": lambda folder, job: known(folder, job, BACKENDS[1]),
    "build": build,
    "confirm-training": lambda folder, job: train(folder, job, BACKENDS[1]),
    "confirm-test": confirm_test,
}
