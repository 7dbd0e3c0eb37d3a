"""What the study measures: the settings of all networks in one place, the extent of a run, and its jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from host import baseline
from host.chip import Chip
from host.datasets import idx, load, store
from host.datasets.store import DatasetError
from host.reproduce.cells import digest_of
from host.trainers import SpikeBackprop, spike_backprop
from rtl.config import ChipConfig

FORMAT = 1
"""Changes when stored results of the same settings are no longer good."""

LANES = 16
BATCH = 1000
"""Samples between two points of a learning curve."""


@dataclass(frozen=True)
class Setting:
    """A network, its data and how it learns; :class:`host.trainers.SpikeBackprop` explains the constants.

    Attributes
    ----------
    fire_bits, noise_shift, gradient_bits : K, G and KG
    rates : start of the learning rates, for all layers or per layer
    schedule : factors of the rates, one per epoch; default: the trainer's
    train_size, test_size : the first samples only, where not ``None``
    """

    dataset: str
    hidden: tuple[int, ...] = (128,)
    weight_bits: int = 10
    fire_bits: int = 9
    noise_shift: int = 7
    gradient_bits: int = 6
    decay_mem: int | tuple[int, ...] = 4096
    forward_shift: int = 0
    encoding: str = "rate"
    timesteps: int = 10
    epochs: int = 10
    schedule: tuple[float, ...] | None = None
    rates: float | tuple[float, ...] = 1.0
    train_size: int | None = None
    test_size: int | None = None

    def config(self, n_in: int, n_out: int) -> ChipConfig:
        """The chip: ideal, that is without the tables of a die."""
        layers = (n_in, *self.hidden, n_out)
        return ChipConfig(layers, lanes=LANES, weight_bits=self.weight_bits, die_tables=False, learning=True)

    def trainer(self, chip: Chip, seed: int, **changes: Any) -> SpikeBackprop:
        settings: dict[str, Any] = {
            "timesteps": self.timesteps,
            "encoding": "bernoulli" if self.encoding == "events" else self.encoding,
            "schedule": self.schedule,
            "rates": self.rates,
            "fire_bits": self.fire_bits,
            "noise_shift": self.noise_shift,
            "gradient_bits": self.gradient_bits,
            "decay_mem": self.decay_mem,
            "forward_shift": self.forward_shift,
            "batch_size": BATCH,
            "seed": seed,
        }
        return SpikeBackprop(chip, self.epochs, **(settings | changes))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


SHORT = (1.0, 0.4, 0.06)
"""Schedule of three epochs on images."""
SLOW = (1.0, 1.0, 0.7, 0.5, 0.3, 0.2, 0.12, 0.06, 0.03, 0.015)
"""Schedule of ten epochs for Fashion-MNIST."""

MNIST_3 = Setting("mnist", epochs=3, schedule=SHORT)
DIGITS = Setting("digits", hidden=(64,), decay_mem=(2048, 4096), epochs=30)

SETTINGS: dict[str, Setting] = {
    "mnist-3": MNIST_3,
    "mnist-10": Setting("mnist"),
    "mnist-8bit-10": Setting("mnist", weight_bits=8, fire_bits=7, noise_shift=5),
    "mnist-deep-3": Setting("mnist", hidden=(128, 64), epochs=3, schedule=SHORT),
    "fashion-10": Setting(
        "fashion-mnist", weight_bits=14, fire_bits=12, noise_shift=9, decay_mem=(2048, 4096), schedule=SLOW
    ),
    "nmnist-30": Setting("nmnist", encoding="events", epochs=30),
    "digits-30": DIGITS,
    "mnist-part-3": replace(MNIST_3, train_size=5000, test_size=2000),
}
"""Networks of the headline table. The learning constants were chosen on validation sets held back from the training
data, never on a test set."""

STEPS: dict[int, dict[str, Any]] = {
    1: {"fire_bits": 7, "noise_shift": 5, "gradient_bits": 4},
    2: {"fire_bits": 8, "noise_shift": 6, "gradient_bits": 5},
    5: {},
    10: {},
    20: {},
    50: {"rates": 0.2},
}
"""What changes with the time steps of a presentation: few steps want larger steps of the weights."""

BITS: dict[str, dict[str, Any]] = {
    "6": {"weight_bits": 6, "fire_bits": 5, "noise_shift": 3, "rates": 1 / 4},
    "7": {"weight_bits": 7, "fire_bits": 6, "noise_shift": 4, "rates": 1 / 2},
    "8": {"weight_bits": 8, "fire_bits": 7, "noise_shift": 5},
    "9": {"weight_bits": 9, "fire_bits": 8, "noise_shift": 6},
    "10": {},
    "12": {"weight_bits": 12},
    "16": {"weight_bits": 16},
    "10, forward 8": {"forward_shift": 2, "fire_bits": 7, "noise_shift": 5},
}
"""What changes with the width of the weights. From 10 bits on the scale stays the same."""


def at_steps(base: Setting, steps: int) -> Setting:
    return replace(base, timesteps=steps, **STEPS[steps])


def with_bits(base: Setting, name: str) -> Setting:
    return replace(base, **BITS[name])


@dataclass(frozen=True)
class Plan:
    """Extent of a study; names are those of :data:`SETTINGS`.

    Attributes
    ----------
    headline : the table of accuracies; those whose data are missing are left out
    main, fallback : network that the sweeps vary and the picture shows, and what stands in where its data are missing
    seeds, sweep_seeds : seeds 0, 1, ... of the headline table and of the sweeps
    steps, bits : keys of :data:`STEPS` and :data:`BITS`
    test_steps : time steps that the main network is tested with
    statistics : networks whose spikes and cycles are counted, over `probe_samples` samples
    confirmed, or_confirmed : networks that the simulated chip repeats, and those if data are missing for all of them
    confirm_samples, confirm_test : samples that it learns, and test samples (``None``: all)
    picture_samples, picture_steps : test samples among which the picture's is chosen, and its time steps
    download : whether missing data may be downloaded
    """

    headline: tuple[str, ...]
    main: str
    fallback: str
    seeds: int
    sweep_seeds: int
    steps: tuple[int, ...]
    bits: tuple[str, ...]
    test_steps: tuple[int, ...]
    statistics: tuple[str, ...]
    confirmed: tuple[str, ...]
    or_confirmed: tuple[str, ...]
    probe_samples: int
    confirm_samples: int
    confirm_test: int | None
    picture_samples: int
    picture_steps: int = 40
    download: bool = True


FULL = Plan(
    headline=(
        "mnist-3", "mnist-10", "mnist-8bit-10", "mnist-deep-3", "fashion-10", "nmnist-30", "digits-30",
    ),
    main="mnist-3",
    fallback="digits-30",
    seeds=2,
    sweep_seeds=2,
    steps=tuple(STEPS),
    bits=tuple(BITS),
    test_steps=(5, 10, 20),
    statistics=("mnist-10", "mnist-8bit-10", "mnist-deep-3", "fashion-10", "nmnist-30", "digits-30"),
    confirmed=("mnist-3", "mnist-10", "mnist-8bit-10", "mnist-deep-3", "fashion-10"),
    or_confirmed=("digits-30",),
    probe_samples=1000,
    confirm_samples=20_000,
    confirm_test=None,
    picture_samples=2000,
)  # fmt: skip
QUICK = Plan(
    headline=("mnist-part-3", "digits-30"),
    main="digits-30",
    fallback="digits-30",
    seeds=2,
    sweep_seeds=2,
    steps=(1, 2, 5, 10, 20),
    bits=("6", "8", "10", "16"),
    test_steps=(5, 10, 20),
    statistics=("mnist-part-3", "digits-30"),
    confirmed=("mnist-part-3",),
    or_confirmed=("digits-30",),
    probe_samples=200,
    confirm_samples=400,
    confirm_test=500,
    picture_samples=360,
    download=False,
)

PARTS = ("headline", "steps", "bits", "statistics", "picture", "confirmation")


@cache
def _baseline() -> str:
    """The baseline's whole recipe: its source."""
    return Path(baseline.__file__).read_text()


# ---- jobs -----------------------------------------------------------------------------------------------------------

_RATE = {"chip": 20_000, "ann": 5_500, "inference": 30_000, "probe": 300, "picture": 5_000}
"""Samples a second of the kinds of jobs, for MNIST and ten steps."""


@dataclass(frozen=True)
class Job:
    """One piece of the study. Equal jobs give equal results.

    Attributes
    ----------
    kind : "chip" and "ann" train; "inference", "probe", "picture" and "confirm-test" look at a trained chip;
        "confirm-learning" repeats the beginning of its training on the simulated chip, "build" builds that
    samples : samples to look at or learn
    steps : time steps to test with
    """

    kind: str
    setting: Setting
    seed: int = 0
    samples: int | None = None
    steps: tuple[int, ...] = ()

    def key(self) -> str:
        """Readable, and unique through a hash of all fields and of what they leave to trainer and baseline."""
        usual = _baseline() if self.kind == "ann" else (spike_backprop.THIRDS, spike_backprop.DECLINE)
        digest = digest_of(asdict(self) | {"format": FORMAT, "usual": usual})
        return f"{self.kind}-{self.setting.dataset}-{self.seed}-{digest}"

    def cost(self) -> float:
        """Seconds, roughly, on a quiet core."""
        setting = self.setting
        n_in, n_train, n_test = _SIZES.get(setting.dataset, (64, 1400, 360))
        n_train, n_test = setting.train_size or n_train, setting.test_size or n_test
        size = 0.1 + 0.9 * n_in / 784 * setting.hidden[0] / 128
        spikes = size * setting.timesteps / 10 * (1.6 if setting.dataset == "fashion-mnist" else 1.0)
        if self.kind == "build":
            return 60.0
        if self.kind == "ann":
            return size * setting.epochs * n_train / _RATE["ann"]
        if self.kind == "chip":
            return spikes * setting.epochs * (n_train + n_test) / _RATE["chip"]
        if self.kind.startswith("confirm"):
            return spikes * (self.samples or n_test) / 80
        return 1.0 + size * (self.samples or n_test) / _RATE[self.kind]

    @property
    def training(self) -> Job | None:
        """The job whose weights this one needs."""
        needs = ("inference", "probe", "picture", "confirm-test")
        return Job("chip", self.setting, self.seed) if self.kind in needs else None


_SIZES = {
    "mnist": (784, 60_000, 10_000),
    "fashion-mnist": (784, 60_000, 10_000),
    "nmnist": (2312, 1000, 100),
    "digits": (64, 1200, 597),
}
"""Inputs, training samples and test samples, for the costs."""


def ann(setting: Setting, seed: int) -> Job:
    """The ordinary network beside a chip."""
    same = {name: getattr(setting, name) for name in ("dataset", "hidden", "epochs", "train_size", "test_size")}
    return Job("ann", Setting(**same), seed)


def missing(plan: Plan) -> dict[str, str]:
    """Of each data set that the plan wants and cannot have, why."""
    reasons = {}
    for name in dict.fromkeys(SETTINGS[key].dataset for key in (*plan.headline, plan.main)):
        found = next((item for item in (idx.MNIST, idx.FASHION_MNIST) if item.name == name), None)
        if not plan.download and found is not None and any(store.find(file) is None for file in found.files):
            reasons[name] = f"{name} is not in {store.data_folder()} (a quick run downloads nothing)."
            continue
        try:
            load(name)
        except DatasetError as error:
            reasons[name] = str(error)
    return reasons


def restricted(plan: Plan, absent: Iterable[str]) -> Plan:
    """The plan without the networks whose data are absent."""
    gone = set(absent)

    def there(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if SETTINGS[name].dataset not in gone)

    return replace(
        plan,
        headline=there(plan.headline),
        main=plan.main if there((plan.main,)) else plan.fallback,
        statistics=there(plan.statistics),
        confirmed=there(plan.confirmed) or there(plan.or_confirmed),
    )


def waves(plan: Plan, parts: Iterable[str], simulate: bool) -> tuple[list[Job], list[Job]]:
    """The jobs of some parts: those that train, and those that look at what was trained."""
    chosen = set(parts)
    first: list[Job] = []
    second: list[Job] = []
    main = SETTINGS[plan.main]

    def pair(setting: Setting, seeds: int) -> None:
        for seed in range(seeds):
            first.extend((Job("chip", setting, seed), ann(setting, seed)))

    if "headline" in chosen:
        for name in plan.headline:
            pair(SETTINGS[name], plan.seeds)
    if "steps" in chosen:
        for steps in plan.steps:
            pair(at_steps(main, steps), plan.sweep_seeds)
        second += [inference(plan, seed) for seed in range(plan.sweep_seeds)]
    if "bits" in chosen:
        for name in plan.bits:
            pair(with_bits(main, name), plan.sweep_seeds)
    if "statistics" in chosen:
        second += [probe(plan, name) for name in plan.statistics]
    if "picture" in chosen:
        second.append(picture(plan))
    if "confirmation" in chosen and simulate:
        for name in plan.confirmed:
            first.append(Job("build", chip_of(SETTINGS[name])))
            second += confirmations(plan, name)
    first += [job.training for job in second if job.training is not None]
    return list(dict.fromkeys(first)), list(dict.fromkeys(second))


def chip_of(setting: Setting) -> Setting:
    """The setting with nothing but what the hardware depends on, so that each chip is built once."""
    return Setting(setting.dataset, setting.hidden, setting.weight_bits)


def inference(plan: Plan, seed: int) -> Job:
    return Job("inference", SETTINGS[plan.main], seed, steps=plan.test_steps)


def probe(plan: Plan, name: str) -> Job:
    return Job("probe", SETTINGS[name], samples=plan.probe_samples)


def picture(plan: Plan) -> Job:
    return Job("picture", SETTINGS[plan.main], samples=plan.picture_samples, steps=(plan.picture_steps,))


def confirmations(plan: Plan, name: str) -> tuple[Job, Job]:
    """Learning, then testing."""
    setting = SETTINGS[name]
    learning = Job("confirm-learning", setting, samples=plan.confirm_samples)
    return learning, Job("confirm-test", setting, samples=plan.confirm_test)
