"""The jobs of the study. Each gets a job and the folder of the stored results, and gives plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host import datasets
from host.baseline import train_ann
from host.chip import Chip, Output, sample_seeds
from host.events import Events
from host.files import save_arrays
from host.reproduce.cells import Result
from host.reproduce.numbers import facts, pack
from host.reproduce.ssnn_bp.cycles import closed_form, input_spikes
from host.reproduce.ssnn_bp.settings import BATCH, LANES, Job, Setting
from host.trainers import Progress, SpikeBackprop, StopTraining
from rtl.config import ChipConfig

COUNTED = 100
"""Samples after each of which the changed weights are counted."""
BACKENDS = ("golden", "sim")
"""What the simulated chip is compared with, and the simulated chip."""

Samples = Any
"""uint8 array of intensities, or events."""


@dataclass(frozen=True)
class Data:
    """Samples as the chip gets them, and the split they come from."""

    split: datasets.Split
    x_train: Samples
    y_train: NDArray[np.int64]
    x_test: Samples
    y_test: NDArray[np.int64]

    @classmethod
    def of(cls, setting: Setting, seed: int) -> Data:
        split = datasets.split(setting.dataset, setting.train_size, seed)
        if setting.test_size is not None:
            cut = slice(setting.test_size)
            split = replace(split, x_test=split.x_test[cut], y_test=split.y_test[cut], rows_test=split.rows_test[cut])
        if setting.encoding == "events":
            events = datasets.event_split(split, setting.timesteps)
            return cls(split, events.x_train, events.y_train, events.x_test, events.y_test)
        return cls(split, split.x_train, split.y_train, split.x_test, split.y_test)

    def config(self, setting: Setting) -> ChipConfig:
        return setting.config(self.split.n_features, self.split.n_classes)


def do(folder: Path, job: Job) -> Result:
    """Do a job."""
    return KINDS[job.kind](folder, job)


# ---- training -------------------------------------------------------------------------------------------------------


def train_chip(folder: Path, job: Job) -> Result:
    """Train on the golden model; the weights go to ``<key>.npz``."""
    setting, data = job.setting, Data.of(job.setting, job.seed)
    curve: list[tuple[int, float]] = []
    n, before = len(data.y_train), [0.0, 0.0]

    def watch(progress: Progress) -> None:
        # The trainer's figure is that of the epoch so far; a point of the curve is the samples since the last one.
        at = (progress.step - 1) % n + 1
        if at <= before[0]:
            before[:] = 0.0, 0.0
        wrong = at * (1.0 - progress.accuracy)
        curve.append((progress.step, (wrong - before[1]) / (at - before[0])))
        before[:] = at, wrong

    with Chip(data.config(setting)) as chip:
        trainer = setting.trainer(chip, job.seed)
        # What serves as validation set here decides nothing: the last weights are kept.
        trainer.fit(data.x_train, data.y_train, data.x_test, data.y_test, callback=watch)
        chip.load(trainer.network_)
        out = trainer.present(data.x_test)
        history = trainer.history_
        limits = chip.cfg.weight_range
    rates = [float(history[f"rate_{layer + 1}"][-1]) for layer in range(len(trainer.weights_))]
    _save(folder, job, trainer.weights_, rates)
    right = np.argmax(out.potential_sum, axis=1) == data.y_test
    epochs = [
        {
            "epoch": int(history["epoch"][e]),
            "test": float(history["validation_accuracy"][e]),
            "wrong": float(history["training_error"][e]),
            "gradient_spikes": float(history["gradient_spikes"][e]),
            "cycles": float(history["cycles_per_sample"][e]),
        }
        for e in range(len(history["epoch"]))
    ]
    digest = hashlib.sha256()
    for matrix in trainer.weights_:
        digest.update(np.ascontiguousarray(matrix).astype("<i4").tobytes())
    return facts(data.split) | {
        "accuracy": float(right.mean()),
        "accuracy_count": float(np.mean(np.argmax(out.winners, axis=1) == data.y_test)),
        "right": pack(right),
        "epochs": epochs,
        "curve": curve,
        "largest": [int(np.abs(matrix).max()) for matrix in trainer.weights_],
        "saturated": [float(np.mean((m == limits[0]) | (m == limits[1]))) for m in trainer.weights_],
        "limit": limits[1],
        "weights": digest.hexdigest(),
        "cycles_learned": float(np.mean([entry["cycles"] for entry in epochs])),
        "cycles_tested": float(out.cycles.mean()),
    }


def train_baseline(_folder: Path, job: Job) -> Result:
    """Train the ordinary network of the same shape."""
    setting, data = job.setting, Data.of(job.setting, job.seed)
    # As above: nothing is chosen by the accuracy after each epoch.
    split = replace(data.split, x_validation=data.split.x_test, y_validation=data.split.y_test)
    found = train_ann(split, setting.hidden, setting.epochs, seed=job.seed)
    right = found.predictions == data.split.y_test
    return facts(data.split) | {
        "accuracy": found.accuracy_test,
        "right": pack(right),
        "epochs": [
            {"epoch": entry["epoch"], "test": entry["accuracy_validation"], "wrong": 1.0 - entry["accuracy_train"]}
            for entry in found.history
        ],
        "learning_rate": found.settings["learning_rate"],
    }


def _save(folder: Path, job: Job, weights: list[NDArray[np.int32]], rates: list[float]) -> None:
    arrays: dict[str, Any] = {f"weights_{layer}": matrix for layer, matrix in enumerate(weights)}
    save_arrays(folder / f"{job.key()}.npz", {"rates": np.array(rates)} | arrays)


def trained(folder: Path, job: Job) -> tuple[list[NDArray[np.int32]], list[float]]:
    """Weights and last rates of the training that `job` needs; trained again if the file is gone."""
    training = job.training
    assert training is not None
    path = folder / f"{training.key()}.npz"
    if not path.is_file():
        train_chip(folder, training)
    with np.load(path) as archive:
        weights = [archive[f"weights_{layer}"] for layer in range(len(archive.files) - 1)]
        return weights, archive["rates"].tolist()


def learn_some(trainer: SpikeBackprop, data: Data, n: int) -> None:
    """The first `n` samples of the training."""

    def enough(progress: Progress) -> None:
        if progress.step >= n:
            raise StopTraining

    trainer.set_params(batch_size=min(n, BATCH))
    trainer.fit(data.x_train, data.y_train, callback=enough)


# ---- looking at what was trained ------------------------------------------------------------------------------------


def infer(folder: Path, job: Job) -> Result:
    """Test accuracy with other numbers of time steps, by both read-outs."""
    setting, data = job.setting, Data.of(job.setting, job.seed)
    weights, rates = trained(folder, job)
    found = []
    with Chip(data.config(setting)) as chip:
        for steps in job.steps:
            trainer = setting.trainer(chip, job.seed, test_timesteps=steps)
            chip.load(trainer.network_of(weights, rates))
            out = trainer.present(data.x_test)
            scores: dict[str, NDArray[Any]] = {"potential": out.potential_sum, "count": out.winners}
            found.append(
                {"steps": steps, "cycles": float(out.cycles.mean())}
                | {name: float(np.mean(np.argmax(each, axis=1) == data.y_test)) for name, each in scores.items()}
            )
    return facts(data.split) | {"test_steps": found}


def probe(folder: Path, job: Job) -> Result:
    """Spikes, gradients and clock cycles of samples being learned, early in the training and at its end."""
    setting, data = job.setting, Data.of(job.setting, job.seed)
    n = min(job.samples or BATCH, len(data.y_train))
    moments = {}
    with Chip(data.config(setting)) as chip:
        trainer = setting.trainer(chip, job.seed)
        early = min(BATCH, len(data.y_train))
        learn_some(trainer, data, early)
        moments["early"] = _moment(setting, chip, trainer.network_, data, n)
        moments["end"] = _moment(setting, chip, trainer.network_of(*trained(folder, job)), data, n)
    return facts(data.split) | {"samples": n, "early_after": early, "lanes": LANES, "moments": moments}


def _moment(setting: Setting, chip: Chip, network: Any, data: Data, n: int) -> dict[str, Any]:
    cfg, x, labels = chip.cfg, data.x_train[:n], data.y_train[:n]
    encoding = "rate" if setting.encoding == "events" else setting.encoding
    seeds = sample_seeds(0x5052, n)
    common: dict[str, Any] = {"steps": setting.timesteps, "encoding": encoding}
    # Once with all streams, then again as in a training; a record changes nothing but the cycles.
    chip.load(network)
    seen = chip.learn(x, labels, seeds=seeds, record=("raster", "gate", "gradient"), **common)
    after = chip.network.weights
    chip.load(network)
    chip.stats.reset()
    changed, counted, before = np.zeros(len(cfg.neuron_layers)), min(n, COUNTED), chip.network.weights
    pieces = [slice(s, s + 1) for s in range(counted)] + ([slice(counted, n)] if counted < n else [])
    cycles = np.zeros(n, np.int64)
    for cut in pieces:
        cycles[cut] = chip.learn(x[cut], labels[cut], seeds=seeds[cut], **common).cycles
        if cut.stop <= counted:
            now = chip.network.weights
            changed += [np.count_nonzero(a != b) for a, b in zip(now, before, strict=True)]
            before = now
    learning = chip.stats.to_dict()
    if any((a != b).any() for a, b in zip(after, chip.network.weights, strict=True)):
        raise AssertionError("two identical trainings differ")
    chip.load(network)
    chip.stats.reset()
    inferred = chip.run(x, seeds=seeds, **common)
    inference = chip.stats.to_dict()

    inputs = input_spikes(x, cfg, setting.timesteps, encoding, seeds.tolist())
    parts = closed_form(cfg, network, seen, inputs, labels, seeds.tolist(), events=isinstance(x, Events))
    total, steps = np.sum(list(parts.values()), axis=0), n * setting.timesteps
    wrong = int((seen.gradient[-1] != 0).any(axis=2).sum())
    limits = cfg.weight_range
    return {
        "input_spikes": float(seen.input_spikes.sum() / steps),
        "spikes": [float(raster.sum() / steps) for raster in seen.raster[:-1]],
        "gates": [float(gate.sum() / steps) for gate in seen.gate[:-1]],
        "wrong": wrong / steps,
        "gradient_spikes": [float(np.count_nonzero(each) / max(1, wrong)) for each in seen.gradient[:-1]],
        "positive": [float((each > 0).sum() / max(1, np.count_nonzero(each))) for each in seen.gradient[:-1]],
        "changed": (changed / counted).tolist(),
        "changed_per_backward": (changed / max(1, int((seen.gradient[-1][:counted] != 0).any(axis=2).sum()))).tolist(),
        "weights": [int(np.prod(shape)) for shape in cfg.shapes],
        "largest": [int(np.abs(matrix).max()) for matrix in after],
        "saturated": [float(np.mean((m == limits[0]) | (m == limits[1]))) for m in after],
        "limit": limits[1],
        "cycles": {name: float(each.mean()) for name, each in parts.items()},
        "cycles_learned": float(cycles.mean()),
        "cycles_inferred": float(inferred.cycles.mean()),
        "cycles_equal": int((total == cycles).sum()),
        "ops_learned": learning["synaptic_ops"] / (cfg.lanes * learning["cycles"]),
        "ops_inferred": inference["synaptic_ops"] / (cfg.lanes * inference["cycles"]),
    }


def picture(folder: Path, job: Job) -> Result:
    """The streams of a test sample that the frozen network gets wrong in some of its steps."""
    setting, data = job.setting, Data.of(job.setting, job.seed)
    n, steps = min(job.samples or BATCH, len(data.y_test)), job.steps[0]
    if setting.encoding == "events":
        steps = setting.timesteps
    weights, rates = trained(folder, job)
    common: dict[str, Any] = {"steps": steps, "layers": ()}
    common["encoding"] = "rate" if setting.encoding == "events" else setting.encoding
    x, labels, seeds = data.x_test[:n], data.y_test[:n], sample_seeds(0x5049, n)
    with Chip(data.config(setting)) as chip:
        trainer = setting.trainer(chip, job.seed)
        chip.load(trainer.network_of(weights, rates))
        won = chip.learn(x, labels, seeds=seeds, **common).winners
        wrong = steps - won[np.arange(n), labels]
        # One wrong step in three shows both what a mistake does and that nothing happens without one.
        s = int(np.argmin(np.abs(wrong - steps / 3)))
        cut = slice(s, s + 1)
        record = ("raster", "gate", "gradient")
        out = chip.learn(x[cut], labels[cut], seeds=seeds[cut], record=record, **common)
    streams = {
        "image": data.split.x_test[s],
        "winner": out.raster[-1][0].argmax(axis=1),
        "raster": out.raster[0][0],
        "gate": out.gate[0][0],
        "gradient": out.gradient[0][0],
    }
    save_arrays(folder / f"{job.key()}.npz", streams)
    return facts(data.split) | {
        "sample": s,
        "steps": steps,
        "label": int(labels[s]),
        "predicted": int(np.argmax(out.potential_sum[0])),
        "wrong": int(wrong[s]),
        "positive": int((out.gradient[0] > 0).sum()),
        "negative": int((out.gradient[0] < 0).sum()),
        "closed": int(((out.gradient[0] != 0) & ~out.gate[0]).sum()),
        "without_mistake": int(((out.gradient[0] != 0).any(axis=2) & ~(out.gradient[-1] != 0).any(axis=2)).sum()),
    }


# ---- the simulated chip ---------------------------------------------------------------------------------------------


class _Hashed(Chip):
    """A chip that keeps a hash of everything it answered to :meth:`learn`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.digest = hashlib.sha256()
        super().__init__(*args, **options)

    def learn(self, *args: Any, **options: Any) -> Output:
        out = super().learn(*args, **options)
        for array in _arrays(out):
            self.digest.update(np.ascontiguousarray(array).tobytes())
        return out


def _arrays(out: Output) -> list[NDArray[Any]]:
    return [
        *out.counts, *out.first_spike, *out.positive, *out.negative,
        out.potential_sum, out.winners, out.cycles, out.input_spikes,
    ]  # fmt: skip


def build(_folder: Path, job: Job) -> Result:
    """Build the simulated chip, so that the jobs that need it find it."""
    Chip(Data.of(job.setting, 0).config(job.setting), BACKENDS[1]).close()
    return {}


def confirm_learning(_folder: Path, job: Job) -> Result:
    """Learn the same first samples of a training on the golden model and on the simulated chip."""
    setting, data = job.setting, Data.of(job.setting, job.seed)
    n = min(job.samples or BATCH, len(data.y_train))
    weights, digests, totals = [], [], []
    for backend in BACKENDS:
        chip = _Hashed(data.config(setting), backend)
        with chip:
            learn_some(setting.trainer(chip, job.seed), data, n)
            weights.append(chip.weights())
            digests.append(chip.digest.hexdigest())
            totals.append(chip.stats.to_dict())
    golden, sim = weights
    return facts(data.split) | {
        "samples": totals[1]["samples"],
        "weights": sum(matrix.size for matrix in sim),
        "different_weights": sum(int(np.count_nonzero(a != b)) for a, b in zip(golden, sim, strict=True)),
        "equal_outputs": digests[0] == digests[1],
        "golden": totals[0],
        "sim": totals[1],
    }


def confirm_test(folder: Path, job: Job) -> Result:
    """Test a trained network on the golden model and on the simulated chip."""
    setting, data = job.setting, Data.of(job.setting, job.seed)
    n = min(job.samples or len(data.y_test), len(data.y_test))
    weights, rates = trained(folder, job)
    outs = []
    for backend in BACKENDS:
        with Chip(data.config(setting), backend) as chip:
            trainer = setting.trainer(chip, job.seed)
            chip.load(trainer.network_of(weights, rates))
            outs.append(trainer.present(data.x_test[:n]))
    accuracy = [float(np.mean(np.argmax(out.potential_sum, axis=1) == data.y_test[:n])) for out in outs]
    golden, sim = outs
    return facts(data.split) | {
        "samples": n,
        "accuracy": {"golden": accuracy[0], "sim": accuracy[1]},
        "different_sums": int(np.count_nonzero(golden.potential_sum != sim.potential_sum)),
        "equal_outputs": all(np.array_equal(a, b) for a, b in zip(_arrays(golden), _arrays(sim), strict=True)),
        "cycles": {"golden": int(golden.cycles.sum()), "sim": int(sim.cycles.sum())},
    }


KINDS: dict[str, Callable[[Path, Job], Result]] = {
    "chip": train_chip,
    "ann": train_baseline,
    "inference": infer,
    "probe": probe,
    "picture": picture,
    "build": build,
    "confirm-learning": confirm_learning,
    "confirm-test": confirm_test,
}
