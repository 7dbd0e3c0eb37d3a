"""What the study measures: the settings of all networks in one place, the extent of a run, and its jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from host.chip import Chip
from host.datasets import DATA_VARIABLE, data_folder
from host.die import Die
from host.jobs import IMAGES
from host.reproduce.cells import digest_of
from host.trainers import delgrad, spike_times
from host.trainers.delgrad import DELAYS, DelGrad
from rtl.config import ChipConfig

FORMAT = 1
"""Changes when stored results of the same settings are no longer good."""

LANES = 16
STATE_BITS = 24

NOISE = (("jitter", 0.5), ("threshold_noise", 0.04), ("threshold_spread", 0.13))
"""Singles of the noisy dies: every arrival by half a step (0.01 tau_s), every threshold by 4 % in each sample and by
13 % for good."""

Noise = tuple[tuple[str, float], ...]

KNOWN_FOLDER = "delgrad-known-answers"


@dataclass(frozen=True)
class Setting:
    """A network, its data and how it learns; :class:`host.trainers.DelGrad` explains the constants.

    Attributes
    ----------
    noise : singles of the die that it learns on, see :data:`NOISE`; empty for the ideal chip
    train_size : the first samples only, where not ``None``
    """

    dataset: str = "yin-yang"
    hidden: int = 30
    delays: str = "axonal"
    train_delays: bool = True
    noise: Noise = ()
    weight_bits: int = 8
    weight_limit: float = 8.0
    steps_per_tau: int = 50
    tau_ratio: float = 1.0
    gradient: str = "discrete"
    epochs: int = 50
    train_size: int | None = None
    more: tuple[tuple[str, Any], ...] = ()
    """Further settings of the trainer."""

    def config(self, n_in: int, n_out: int) -> ChipConfig:
        """The chip; it has the tables of a die only if it is a noisy one."""
        return ChipConfig(
            (n_in, self.hidden, n_out),
            lanes=LANES,
            weight_bits=self.weight_bits,
            state_bits=STATE_BITS,
            die_tables=bool(self.noise),
            delay_slots=self.steps_per_tau + 1,
        )

    def die(self, seed: int) -> Die | None:
        return Die.only(seed=seed, **dict(self.noise)) if self.noise else None

    def trainer(self, chip: Chip, seed: int) -> DelGrad:
        return DelGrad(
            chip,
            self.epochs,
            delays=self.delays,
            train_delays=self.train_delays,
            weight_limit=self.weight_limit,
            steps_per_tau=self.steps_per_tau,
            tau_ratio=self.tau_ratio,
            gradient=self.gradient,
            seed=seed,
            **dict(self.more),
        )

    def parameters(self, n_in: int, n_out: int) -> int:
        """Weights and delays that are learned (of frozen delays: drawn)."""
        weights = (n_in + n_out) * self.hidden
        delays = {"axonal": n_in + self.hidden, "dendritic": self.hidden + n_out, "synaptic": weights}
        return weights + delays.get(self.delays, 0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


BITS: dict[int, float] = {4: 4.0, 5: 4.0, 6: 4.0, 7: 8.0, 8: 8.0, 10: 8.0}
"""Largest weight by the width of the weights: few bits want a finer grid rather than a long range."""

GRADIENTS = (("discrete", 1.0), ("lambert", 1.0), ("discrete", 2.0), ("double", 2.0))
"""Gradients and the ratio tau_m / tau_s at which they are compared: the closed forms are for one ratio each."""


@dataclass(frozen=True)
class Plan:
    """Extent of a study.

    Attributes
    ----------
    epochs, train_size : of all networks that learn Yin-Yang
    sizes, kinds, seeds : hidden neurons, kinds of delays and seeds 0, 1, ... of the first table; the largest network is
        that of all other parts
    noise_seeds, dies : seeds that learn on noisy dies, seed s on die s; dies on which ideal-trained networks are tested
    control : kinds of delays with a frozen twin
    bits, bit_kinds, steps, step_kinds : widths of weights and steps per tau_s, and the delays with which they are tried
    gradients : entries of :data:`GRADIENTS`
    sweep_seeds : seeds of these, of `digits` too
    digits : the second task, with other delays
    digit_kinds : its delays
    shown : kinds of delays in the pictures
    map_side : points of a decision map in a row
    confirmed : kinds of delays whose networks are tested on the simulated chip
    confirmed_seeds, confirm_noisy : of each how many, and whether those of noisy dies too
    repeated : the training that the simulated chip repeats
    known : whether the authors' stored networks are tested
    """

    epochs: int
    train_size: int | None
    sizes: tuple[int, ...]
    kinds: tuple[str, ...]
    seeds: int
    noise_seeds: int
    dies: int
    control: tuple[str, ...]
    bits: tuple[int, ...]
    bit_kinds: tuple[str, ...]
    steps: tuple[int, ...]
    step_kinds: tuple[str, ...]
    gradients: tuple[tuple[str, float], ...]
    sweep_seeds: int
    digits: Setting
    digit_kinds: tuple[str, ...]
    shown: tuple[str, ...]
    map_side: int
    confirmed: tuple[str, ...]
    confirmed_seeds: int
    confirm_noisy: bool
    repeated: Setting
    known: bool

    @property
    def base(self) -> Setting:
        """The network that all parts vary."""
        return Setting(hidden=max(self.sizes), epochs=self.epochs, train_size=self.train_size)

    def ideal(self, kind: str, hidden: int | None = None) -> Setting:
        """A network of the first table, by default one of the largest."""
        return replace(self.base, delays=kind, hidden=hidden or self.base.hidden)

    def noisy(self, kind: str) -> Setting:
        return replace(self.base, delays=kind, noise=NOISE)

    def frozen(self, kind: str) -> Setting:
        return replace(self.base, delays=kind, train_delays=False)

    def at_bits(self, kind: str, bits: int) -> Setting:
        return replace(self.base, delays=kind, weight_bits=bits, weight_limit=BITS[bits])

    def at_steps(self, kind: str, steps: int) -> Setting:
        return replace(self.base, delays=kind, steps_per_tau=steps)

    def with_gradient(self, gradient: str, ratio: float) -> Setting:
        return replace(self.base, gradient=gradient, tau_ratio=ratio)

    def digit(self, kind: str) -> Setting:
        return replace(self.digits, delays=kind)


DIGITS = Setting("digits", epochs=50, more=tuple(IMAGES.items()))

FULL = Plan(
    epochs=100,
    train_size=None,
    sizes=(5, 10, 30),
    kinds=DELAYS,
    seeds=3,
    noise_seeds=3,
    dies=10,
    control=("axonal", "synaptic"),
    bits=(4, 6, 8, 10),
    bit_kinds=("none", "axonal"),
    steps=(20, 50, 100),
    step_kinds=("none", "axonal"),
    gradients=GRADIENTS,
    sweep_seeds=2,
    digits=DIGITS,
    digit_kinds=("none", "axonal"),
    shown=("none", "axonal", "synaptic"),
    map_side=160,
    confirmed=DELAYS,
    confirmed_seeds=3,
    confirm_noisy=True,
    repeated=Setting(),
    known=True,
)
QUICK = Plan(
    epochs=10,
    train_size=2500,
    sizes=(10, 30),
    kinds=("none", "axonal"),
    seeds=2,
    noise_seeds=2,
    dies=4,
    control=("axonal",),
    bits=(4, 8),
    bit_kinds=("axonal",),
    steps=(20, 50),
    step_kinds=("axonal",),
    gradients=(("discrete", 1.0), ("lambert", 1.0)),
    sweep_seeds=2,
    digits=replace(DIGITS, epochs=20),
    digit_kinds=("axonal",),
    shown=("none", "axonal"),
    map_side=80,
    confirmed=("axonal",),
    confirmed_seeds=1,
    confirm_noisy=False,
    repeated=Setting(epochs=1, train_size=500),
    known=False,
)

PARTS = (
    "size", "noise", "control", "bits", "resolution", "gradient", "digits", "pictures", "known", "confirmation",
)  # fmt: skip


@cache
def _usual() -> str:
    """The trainer's whole recipe: its sources."""
    return "".join(Path(str(module.__file__)).read_text() for module in (delgrad, spike_times))


# ---- jobs -----------------------------------------------------------------------------------------------------------

_EPOCH = {"none": 0.6, "axonal": 0.75, "dendritic": 0.75, "synaptic": 0.8}
"""Seconds of an epoch of 5000 samples with 30 hidden neurons and 50 steps per tau_s."""


@dataclass(frozen=True)
class Job:
    """One piece of the study. Equal jobs give equal results.

    Attributes
    ----------
    kind : "train"; "deploy" (ideal-trained networks on noisy dies), "spikes", "map" and "confirm-test" look at a
        trained network; "logistic" is no network; "build" builds the simulated chip, "confirm-training" trains on it;
        "known" and "known-sim" test a stored network
    noise, dies : of "deploy": singles of the dies, and their number
    samples : points of a map in a row
    name : file of a stored network
    """

    kind: str
    setting: Setting = field(default_factory=Setting)
    seed: int = 0
    noise: Noise = ()
    dies: int = 0
    samples: int = 0
    name: str = ""

    def key(self) -> str:
        """Readable, and unique through a hash of all fields and of the trainer."""
        digest = digest_of(asdict(self) | {"format": FORMAT, "usual": _usual()})
        return f"{self.kind}-{self.setting.dataset}-{self.setting.delays}-{self.seed}-{digest}"

    def cost(self) -> float:
        """Seconds, roughly, on a quiet core."""
        setting = self.setting
        if self.kind == "build":
            return 60.0
        if self.kind == "known-sim":
            return 90.0
        size = (setting.train_size or (5000 if setting.dataset == "yin-yang" else 1000)) / 5000
        training = setting.epochs * _EPOCH[setting.delays] * (size + 0.1) * (0.4 + 0.6 * setting.steps_per_tau / 50)
        training *= 8 if setting.dataset == "digits" else 1
        return {"train": training, "confirm-training": 15 * training, "confirm-test": 12.0}.get(self.kind, 2.0)

    @property
    def training(self) -> Job | None:
        """The job whose network this one needs."""
        needs = ("deploy", "spikes", "map", "confirm-test")
        return train(self.setting, self.seed) if self.kind in needs else None


def train(setting: Setting, seed: int) -> Job:
    return Job("train", setting, seed)


def deploy(plan: Plan, kind: str, seed: int, noise: Noise = NOISE) -> Job:
    return Job("deploy", plan.ideal(kind), seed, noise=noise, dies=max(plan.dies, plan.noise_seeds))


def alone() -> dict[str, Noise]:
    """Each noise by itself."""
    return {name: ((name, value),) for name, value in NOISE}


def spikes(plan: Plan, kind: str) -> Job:
    return Job("spikes", plan.ideal(kind))


def maps(plan: Plan, kind: str) -> dict[str, Job]:
    """Decision maps of an ideal-trained network, and of one on the noisy die that it learned on."""
    settings = {"ideal": plan.ideal(kind), "noisy": plan.noisy(kind)}
    return {name: Job("map", setting, samples=plan.map_side) for name, setting in settings.items()}


def logistic(plan: Plan, seed: int) -> Job:
    """Logistic regression on the samples of the second task."""
    return Job("logistic", Setting(plan.digits.dataset, train_size=plan.digits.train_size), seed)


def known(simulate: bool) -> list[Job]:
    """Tests of the stored networks that there are, on the golden model and on the simulated chip."""
    kinds = ("known", "known-sim") if simulate else ("known",)
    return [Job(kind, name=path.name) for path in known_files() for kind in kinds]


def known_files() -> list[Path]:
    return sorted((data_folder() / KNOWN_FOLDER).glob("int_*.npz"))


def missing_known() -> str | None:
    """Why no stored network can be tested; ``None`` if there are some."""
    if known_files():
        return None
    where = data_folder() / KNOWN_FOLDER
    return f"there is no int_*.npz in {where} (the environment variable {DATA_VARIABLE} names the data folder)."


def confirmed(plan: Plan) -> Iterator[Job]:
    """Tests on the simulated chip."""
    for kind in plan.confirmed:
        for setting in (plan.ideal(kind), plan.noisy(kind))[: 1 + plan.confirm_noisy]:
            for seed in range(plan.confirmed_seeds):
                yield Job("confirm-test", setting, seed)


def repeated(plan: Plan) -> tuple[Job, Job]:
    """A training on the golden model, and the same on the simulated chip."""
    return train(plan.repeated, 0), Job("confirm-training", plan.repeated)


def trainings(plan: Plan, part: str) -> list[Job]:
    """The trainings that a part compares."""
    settings: list[Setting] = []
    seeds = plan.sweep_seeds
    if part == "size":
        settings, seeds = [plan.ideal(kind, size) for size in plan.sizes for kind in plan.kinds], plan.seeds
    elif part == "noise":
        settings, seeds = [plan.noisy(kind) for kind in plan.kinds], plan.noise_seeds
    elif part == "control":
        settings, seeds = [plan.frozen(kind) for kind in plan.control], plan.seeds
    elif part == "bits":
        settings = [plan.at_bits(kind, bits) for kind in plan.bit_kinds for bits in plan.bits]
    elif part == "resolution":
        settings = [plan.at_steps(kind, steps) for kind in plan.step_kinds for steps in plan.steps]
    elif part == "gradient":
        settings = [plan.with_gradient(*each) for each in plan.gradients]
    elif part == "digits":
        settings = [plan.digit(kind) for kind in plan.digit_kinds]
    jobs = [train(setting, seed) for setting in settings for seed in range(seeds)]
    if part == "control":
        jobs += [train(plan.ideal(kind), seed) for kind in plan.control for seed in range(seeds)]
    return jobs


def looks(plan: Plan, part: str, simulate: bool) -> list[Job]:
    """The jobs of a part that look at trained networks, or that need none."""
    if part == "noise":
        variants = [NOISE, *alone().values()]
        return [
            deploy(plan, kind, seed, noise) for kind in plan.kinds for seed in range(plan.seeds) for noise in variants
        ]
    if part == "digits":
        return [logistic(plan, seed) for seed in range(plan.sweep_seeds)]
    if part == "pictures":
        pictures = [spikes(plan, kind) for kind in plan.shown]
        return pictures + [job for kind in plan.shown for job in maps(plan, kind).values()]
    if part == "known":
        return known(simulate) if plan.known else []
    if part == "confirmation" and simulate:
        return [*repeated(plan), *confirmed(plan)]
    return []


def waves(plan: Plan, parts: Iterable[str], simulate: bool) -> tuple[list[Job], list[Job]]:
    """The jobs of some parts: those that train, and those that look at what was trained."""
    chosen = list(parts)
    first = [job for part in chosen for job in trainings(plan, part)]
    second = [job for part in chosen for job in looks(plan, part, simulate)]
    first += [job for job in second if job.kind == "train"]
    first += [Job("build", chip_of(job.setting)) for job in second if job.kind.startswith("confirm")]
    first += [job.training for job in second if job.training is not None]
    return list(dict.fromkeys(first)), [job for job in dict.fromkeys(second) if job.kind != "train"]


def chip_of(setting: Setting) -> Setting:
    """The setting with nothing but what the hardware depends on, so that each chip is built once."""
    same = ("dataset", "hidden", "noise", "weight_bits", "steps_per_tau")
    return Setting(**{name: getattr(setting, name) for name in same})
