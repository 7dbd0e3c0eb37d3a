"""What the study measures: the settings of all networks in one place, the extent of a run, and its jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from host import datasets
from host.chip import Chip
from host.datasets import idx, store
from host.datasets.store import DatasetError
from host.die import Die
from host.reproduce.cells import digest_of
from host.trainers import BayesianBinary, BinaryStraightThrough, FullPrecision
from rtl.config import ChipConfig

VERSION = 1
"""Goes up when stored results are no longer good. The trainers' sources are not part of what a result is stored under,
so that a comment that changes in them computes nothing anew: whoever changes what they compute counts this up."""

LANES = 64
BATCH = 64
BINS = 15
"""Bins of the expected calibration error and of the reliability diagrams."""
SURE = 0.9
"""Confidence from which an answer is called sure."""
FAR = 0.15
"""Distance from every training point from which a point of the plane is called far."""
SIDE = 50
"""Points of a confidence map in a row."""

RULES = {"st": "ST", "bayes": "Bayes", "float": "float"}
"""Rules in words."""
CHIP_RULES = ("st", "bayes")
"""Those that need a chip."""


@dataclass(frozen=True)
class Setting:
    """A network, its data and how it learns; :class:`host.trainers.BayesianBinary` explains the constants.

    Attributes
    ----------
    rule : "st" (straight-through), "bayes" or "float" (full precision, no chip)
    hidden : layers of neurons; classes are read out from the last one
    rate : learning rate of "st" and "float", eta of "bayes"
    kappa : of "bayes"
    mismatch : standard deviation of the threshold errors of the die that it learns on, in reset sizes; die s for seed s
    train_size : the first samples only, where not ``None``
    held_back : samples of the training pool on which temperatures are fitted, see :attr:`Job.held`
    reset_size : what a spike subtracts, in weights; ``None``: the trainer's choice
    """

    dataset: str
    rule: str
    hidden: tuple[int, ...]
    timesteps: int
    encoding: str
    epochs: int
    gain: float
    rate: float
    kappa: float = 0.0
    batch_size: int = BATCH
    read_out: str = "raster+gate"
    gradient: str = "bptt"
    mismatch: float = 0.0
    train_size: int | None = None
    held_back: int = 0
    reset_size: int | None = None

    def config(self, n_in: int, mismatch: float | None = None) -> ChipConfig:
        """The chip; it has the tables of a die only if thresholds are off."""
        off = self.mismatch if mismatch is None else mismatch
        return ChipConfig((n_in, *self.hidden), lanes=LANES, binary_weights=True, die_tables=bool(off))

    def trainer(self, chip: Chip | None, n_in: int, n_classes: int, seed: int) -> Any:
        """The estimator; "float" needs no chip."""
        common: dict[str, Any] = {
            "batch_size": self.batch_size,
            "read_out": self.read_out,
            "gradient": self.gradient,
            "timesteps": self.timesteps,
            "encoding": self.encoding,
            "gain": self.gain,
            "reset_size": self.reset_size,
            "n_classes": n_classes,
            "seed": seed,
        }
        if self.rule == "float":
            return FullPrecision((n_in, *self.hidden), self.epochs, learning_rate=self.rate, **common)
        assert chip is not None
        if self.rule == "st":
            return BinaryStraightThrough(chip, self.epochs, learning_rate=self.rate, **common)
        return BayesianBinary(chip, self.epochs, rate=self.rate, kappa=self.kappa, members=MEMBERS, **common)


def die(mismatch: float, seed: int) -> Die | None:
    """The die of a seed whose thresholds are off by `mismatch` reset sizes; ``None`` if they are not.

    A threshold is half a reset size.
    """
    return Die.only(seed=seed, gaussian_threshold=2.0 * mismatch) if mismatch else None


# ---- answers --------------------------------------------------------------------------------------------------------

MEMBERS = 10


@dataclass(frozen=True)
class Answer:
    """How a trained network is asked.

    Attributes
    ----------
    prediction : "network" (of "st" and "float"), "mode" or "ensemble"
    members : networks that are asked
    sharpness : of an ensemble
    """

    prediction: str
    members: int = MEMBERS
    sharpness: float = 1.0

    @property
    def name(self) -> str:
        more = [f"{self.members} members"] if self.members not in (1, MEMBERS) else []
        more += [f"sharpness {self.sharpness:g}"] if self.sharpness != 1.0 else []
        return ", ".join([self.prediction, *more])


NETWORK, MODE, ENSEMBLE = Answer("network", 1), Answer("mode", 1), Answer("ensemble")

METHODS: dict[str, tuple[str, Answer]] = {
    "ST": ("st", NETWORK),
    "Bayes, mode": ("bayes", MODE),
    "Bayes, ensemble": ("bayes", ENSEMBLE),
    "float": ("float", NETWORK),
}
"""What the tables compare: rule and answer."""

TEMPERED = ", temperature"
"""What follows the name of an answer whose probabilities have a temperature."""


# ---- networks -------------------------------------------------------------------------------------------------------

MOONS = {"moons-10": "two moons, noise 0.1", "moons-25": "two moons, noise 0.25"}


def _each(dataset: str, rates: Mapping[str, float], kappa: float, **constants: Any) -> dict[str, Setting]:
    """The same network for all rules."""
    return {
        rule: Setting(dataset, rule, rate=rate, kappa=kappa if rule == "bayes" else 0.0, **constants)
        for rule, rate in rates.items()
    }


DIGITS = _each(
    "digits", {"st": 0.01, "bayes": 0.01, "float": 0.03}, 5000.0,
    hidden=(512,), timesteps=25, encoding="rate", epochs=60, gain=20.0, held_back=200,
)  # fmt: skip
MOON = _each(
    "moons-25", {"st": 0.003, "bayes": 0.03, "float": 0.003}, 1000.0,
    hidden=(64, 64), timesteps=50, encoding="bernoulli", epochs=200, gain=10.0, batch_size=50, train_size=200,
    held_back=200,
)  # fmt: skip
MNIST = _each(
    "mnist", {"st": 0.01, "bayes": 0.01, "float": 0.03}, 200_000.0,
    hidden=(256,), timesteps=10, encoding="rate", epochs=5, gain=20.0, read_out="counts", reset_size=128,
)  # fmt: skip
MNIST["bayes"] = replace(MNIST["bayes"], read_out="raster+gate")
MNIST["float"] = replace(MNIST["float"], reset_size=None)


@dataclass(frozen=True)
class Attempt:
    """Something against the ensemble's under-confidence: other settings, or another way to ask the network."""

    name: str
    answer: Answer = ENSEMBLE
    changes: tuple[tuple[str, Any], ...] = ()

    def of(self, base: Setting) -> Setting:
        return replace(base, **dict(self.changes))


RAW = Attempt("ensemble of 10")
ATTEMPTS = (
    RAW,
    Attempt("20 members", Answer("ensemble", 20)),
    Attempt("50 members", Answer("ensemble", 50)),
    Attempt("sharpness 1.5", Answer("ensemble", sharpness=1.5)),
    Attempt("sharpness 2", Answer("ensemble", sharpness=2.0)),
    Attempt("sharpness 4", Answer("ensemble", sharpness=4.0)),
    Attempt("kappa 1250", changes=(("kappa", 1250.0),)),
    Attempt("kappa 20000", changes=(("kappa", 20_000.0),)),
    Attempt("128 neurons", changes=(("hidden", (128,)),)),
    Attempt("256 neurons", changes=(("hidden", (256,)),)),
    Attempt("120 epochs", changes=(("epochs", 120),)),
)


@dataclass(frozen=True)
class Grid:
    """Values of one constant, tried on validation data around a network's settings."""

    network: str
    """Its data set."""
    rule: str
    constant: str
    values: tuple[Any, ...]


GRIDS = (
    Grid("digits", "st", "hidden", ((128,), (256,), (512,))),
    Grid("digits", "st", "rate", (0.003, 0.01, 0.03)),
    Grid("digits", "st", "timesteps", (10, 25)),
    Grid("digits", "st", "epochs", (60, 120)),
    Grid("digits", "bayes", "hidden", ((128,), (256,), (512,))),
    Grid("digits", "bayes", "kappa", (1250.0, 5000.0, 20_000.0)),
    Grid("digits", "bayes", "timesteps", (10, 25)),
    Grid("digits", "bayes", "encoding", ("rate", "bernoulli")),
    Grid("digits", "bayes", "epochs", (60, 120)),
    Grid("digits", "float", "rate", (0.01, 0.03, 0.1)),
    Grid("moons-25", "st", "rate", (0.001, 0.003, 0.01)),
    Grid("moons-25", "st", "encoding", ("rate", "bernoulli")),
    Grid("moons-25", "st", "epochs", (100, 200, 400)),
    Grid("moons-25", "bayes", "kappa", (250.0, 1000.0, 4000.0)),
    Grid("moons-25", "bayes", "rate", (0.01, 0.03)),
    Grid("moons-25", "bayes", "encoding", ("rate", "bernoulli")),
    Grid("moons-25", "bayes", "epochs", (100, 200, 400)),
    Grid("moons-25", "float", "rate", (0.001, 0.003, 0.01)),
    Grid("mnist", "st", "reset_size", (128, None)),
    Grid("mnist", "bayes", "kappa", (60_000.0, 200_000.0)),
    Grid("mnist", "float", "rate", (0.01, 0.03, 0.1)),
    Grid("mnist", "float", "reset_size", (128, None)),
)

HELD = {"digits": 200, "moons-25": 600, "mnist": 4000}
"""Samples of the training pool that the grids of a data set are scored on."""
FIRST = {"mnist": 10_000}
"""Training samples of the grids of a data set, where they are fewer than those of the study."""


@dataclass(frozen=True)
class Plan:
    """Extent of a study.

    Attributes
    ----------
    seeds : seeds 0, 1, ... of all parts; of `mnist` `mnist_seeds`
    noises, gradients : data sets of two moons, and ways of the gradient
    moon, digits, mnist : the network of each rule; `moon` is repeated for the noises and gradients, `mnist` is empty
        where it is not wanted
    attempts : what is tried against under-confidence
    read_outs : read-outs that are compared on digits
    mismatch : threshold errors in reset sizes (0: part left out), and `loops`: the read-outs of trainings in the loop
    off_hidden : layers of the networks that meet them, and `off_epochs` how long they learn
    grids, grid_seeds : the choice of settings, and seeds of each data set of the grids
    confirmed, confirmed_seeds : parts whose networks the simulated chip tests, and of how many seeds
    repeated : trainings that the simulated chip repeats
    operations : test samples on which its work per cycle is counted
    """

    seeds: int
    noises: tuple[str, ...]
    gradients: tuple[str, ...]
    moon: Mapping[str, Setting]
    digits: Mapping[str, Setting]
    mnist: Mapping[str, Setting]
    mnist_seeds: int
    attempts: tuple[Attempt, ...]
    read_outs: tuple[str, ...]
    mismatch: float
    off_hidden: tuple[int, ...]
    off_epochs: int
    loops: tuple[str, ...]
    grids: tuple[Grid, ...]
    grid_seeds: Mapping[str, int]
    confirmed: tuple[str, ...]
    confirmed_seeds: int
    repeated: tuple[Setting, ...]
    operations: int

    def moons(self, noise: str, gradient: str, rule: str) -> Setting:
        """Temperatures are fitted with the first gradient only."""
        base = self.moon[rule]
        back = base.held_back if gradient == self.gradients[0] else 0
        return replace(base, dataset=noise, gradient=gradient, held_back=back)

    def with_read_out(self, rule: str, read_out: str) -> Setting:
        usual = self.digits[rule]
        return usual if usual.read_out == read_out else replace(usual, read_out=read_out, held_back=0)

    def off(self, rule: str, read_out: str) -> Setting:
        """Trained on dies whose thresholds are off."""
        return replace(self.ideal(rule), read_out=read_out, mismatch=self.mismatch)

    def ideal(self, rule: str) -> Setting:
        """The same network trained on the ideal chip."""
        return replace(self.digits[rule], hidden=self.off_hidden, epochs=self.off_epochs, held_back=0)

    def base(self, grid: Grid) -> Setting:
        """The network that a grid varies, with samples held back to score it."""
        chosen = {"digits": self.digits, "mnist": self.mnist}.get(grid.network, self.moon)[grid.rule]
        train_size = FIRST.get(grid.network, chosen.train_size)
        return replace(chosen, dataset=grid.network, train_size=train_size, held_back=HELD[grid.network])

    def varied(self, grid: Grid, value: Any) -> Setting:
        """A network of the grid; all its other constants are as chosen."""
        return replace(self.base(grid), **{grid.constant: value})

    def without_mnist(self) -> Plan:
        return replace(self, mnist={}, grids=tuple(grid for grid in self.grids if grid.network != "mnist"))


FULL = Plan(
    seeds=5,
    noises=tuple(MOONS),
    gradients=("bptt", "local"),
    moon=MOON,
    digits=DIGITS,
    mnist=MNIST,
    mnist_seeds=5,
    attempts=ATTEMPTS,
    read_outs=("counts", "raster+gate", "recompute"),
    mismatch=2.0,
    off_hidden=(128,),
    off_epochs=60,
    loops=("raster+gate", "recompute", "counts"),
    grids=GRIDS,
    grid_seeds={"digits": 3, "moons-25": 3, "mnist": 1},
    confirmed=("moons", "digits", "mismatch", "mnist"),
    confirmed_seeds=5,
    repeated=tuple(DIGITS[rule] for rule in CHIP_RULES),
    operations=500,
)
_FEW = {rule: replace(setting, hidden=(128,), epochs=20) for rule, setting in DIGITS.items()}
QUICK = Plan(
    seeds=1,
    noises=("moons-25",),
    gradients=("bptt",),
    moon={rule: replace(setting, epochs=60) for rule, setting in MOON.items()},
    digits=_FEW,
    mnist={},
    mnist_seeds=0,
    attempts=(RAW, ATTEMPTS[2], ATTEMPTS[4]),
    read_outs=("counts", "raster+gate"),
    mismatch=2.0,
    off_hidden=(128,),
    off_epochs=20,
    loops=("raster+gate",),
    grids=(Grid("digits", "bayes", "kappa", (1250.0, 5000.0)),),
    grid_seeds={"digits": 1},
    confirmed=("digits",),
    confirmed_seeds=1,
    repeated=(replace(DIGITS["bayes"], held_back=0, epochs=2, train_size=200),),
    operations=0,
)

PARTS = ("selection", "moons", "digits", "readouts", "mismatch", "mnist", "confirmation")


def missing(plan: Plan) -> str | None:
    """Why there can be no MNIST; ``None`` if there can be, or if it is not wanted."""
    if not plan.mnist:
        return None
    if any(store.find(file) is None for file in idx.MNIST.files):
        return (
            f"MNIST: it is not in {store.data_folder()} (the environment variable {datasets.DATA_VARIABLE} names the "
            "data folder; `spikeloop datasets --download mnist` fetches it)."
        )
    try:
        datasets.load("mnist")
    except DatasetError as error:
        return f"MNIST: {error}"
    return None


# ---- jobs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One piece of the study. Equal jobs give equal results.

    Attributes
    ----------
    kind : "held" and "train" train, without and with the samples held back; "tried", "deploy", "confirm-test" and
        "operations" look at a trained network; "build" builds the simulated chip, "confirm-training" trains on it,
        "load" measures it
    mismatch : of "deploy" and "confirm-test": threshold errors of the die that an ideal-trained network is tested on
    more : of "tried": how the network is asked; all others ask in the usual ways
    samples : of "operations"
    """

    kind: str
    setting: Setting
    seed: int = 0
    more: tuple[Answer, ...] = ()
    mismatch: float = 0.0
    samples: int = 0

    def key(self) -> str:
        """Readable, and unique through a hash of all fields and of :data:`VERSION`."""
        digest = digest_of(asdict(self) | {"version": VERSION})
        return f"{self.kind}-{self.setting.dataset}-{self.setting.rule}-{self.seed}-{digest}"

    def cost(self) -> float:
        """Seconds, roughly, on a quiet core."""
        setting = self.setting
        if self.kind == "build":
            return 60.0
        if self.kind in ("load", "operations"):
            return 10.0
        inputs, n_train, n_test = _SIZES[setting.dataset]
        sizes = (inputs, *setting.hidden)
        forward = 1.5e-10 * setting.timesteps * sum(a * b for a, b in pairwise(sizes))
        asked = forward * n_test * max(answer.members for answer in self.answers)
        if self.kind == "confirm-test":
            return 20 * asked
        if self.kind in ("deploy", "tried"):
            return 1.0 + 3 * asked
        training = 3 * forward * setting.epochs * (setting.train_size or n_train)
        return 1.0 + (8 * training if self.kind == "confirm-training" else training + 3 * asked)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """How the network is asked."""
        return self.more or ((MODE, ENSEMBLE) if self.setting.rule == "bayes" else (NETWORK,))

    @property
    def training(self) -> Job | None:
        """The job whose network this one needs."""
        needs = ("tried", "deploy", "confirm-test", "operations")
        return train(self.setting, self.seed) if self.kind in needs else None

    @property
    def held(self) -> Job | None:
        """The training without the samples held back, on which the temperatures of this one are fitted."""
        return held(self.setting, self.seed) if self.kind == "train" and self.setting.held_back else None


_SIZES = {
    "mnist": (200, 60_000, 10_000),
    "digits": (64, 1200, 597),
    "moons-10": (20, 200, 2000),
    "moons-25": (20, 200, 2000),
}
"""Inputs (of MNIST those that are not dark), training and test samples, for the costs."""


def train(setting: Setting, seed: int) -> Job:
    return Job("train", setting, seed)


def held(setting: Setting, seed: int) -> Job:
    """A training that is scored on the samples held back."""
    return Job("held", setting, seed)


def tried(plan: Plan, setting: Setting, seed: int) -> Job | None:
    """The unusual ways to ask a network, as far as they are tried against under-confidence; ``None`` without any."""
    more = [each.answer for each in plan.attempts if each.of(plan.digits["bayes"]) == setting]
    more = [answer for answer in dict.fromkeys(more) if answer != ENSEMBLE]
    return Job("tried", setting, seed, tuple(more)) if more else None


def deploy(plan: Plan, rule: str, seed: int) -> Job:
    """An ideal-trained network on the die of its seed."""
    return Job("deploy", plan.ideal(rule), seed, mismatch=plan.mismatch)


def moons(plan: Plan) -> Iterator[Setting]:
    for noise in plan.noises:
        for gradient in plan.gradients:
            for rule in plan.moon:
                yield plan.moons(noise, gradient, rule)


def settings_of(plan: Plan, part: str) -> list[Setting]:
    """The networks that a part compares."""
    if part == "moons":
        return list(moons(plan))
    if part == "digits":
        return [*plan.digits.values(), *(each.of(plan.digits["bayes"]) for each in plan.attempts)]
    if part == "readouts":
        return [plan.with_read_out(rule, read_out) for read_out in plan.read_outs for rule in CHIP_RULES]
    if part == "mismatch" and plan.mismatch:
        in_loop = [plan.off(rule, read_out) for read_out in plan.loops for rule in CHIP_RULES]
        return in_loop + [plan.ideal(rule) for rule in CHIP_RULES]
    if part == "mnist":
        return list(plan.mnist.values())
    return []


def chosen_from(plan: Plan) -> dict[Setting, None]:
    """All networks of the grids, each once."""
    return dict.fromkeys(plan.varied(grid, value) for grid in plan.grids for value in grid.values)


def confirmed(plan: Plan) -> list[Job]:
    """Tests on the simulated chip: every final network, the members of the ensembles included, but for those of MNIST,
    which take minutes each."""
    found: list[tuple[Setting, float]] = []
    if "moons" in plan.confirmed:
        found += [(plan.moons(noise, plan.gradients[0], rule), 0.0) for noise in plan.noises for rule in CHIP_RULES]
    if "digits" in plan.confirmed:
        found += [(plan.digits[rule], 0.0) for rule in CHIP_RULES]
    if "mismatch" in plan.confirmed and plan.mismatch:
        found += [(plan.off(rule, read_out), 0.0) for read_out in plan.loops[:1] for rule in CHIP_RULES]
        found += [(plan.ideal(rule), plan.mismatch) for rule in CHIP_RULES]
    jobs = [
        Job("confirm-test", setting, seed, mismatch=mismatch)
        for setting, mismatch in found
        for seed in range(min(plan.confirmed_seeds, plan.seeds))
    ]
    if "mnist" in plan.confirmed and plan.mnist:
        jobs += [Job("confirm-test", plan.mnist["st"], seed) for seed in range(plan.mnist_seeds)]
    return jobs


def repeated(plan: Plan) -> list[tuple[Job, Job]]:
    """Trainings on the golden model, each with the same on the simulated chip."""
    return [(train(setting, 0), Job("confirm-training", setting)) for setting in plan.repeated]


def loads(plan: Plan) -> list[Job]:
    """Measurements of whole loads of the weights, one for each chip."""
    networks = {"moons": plan.moon, "digits": plan.digits, "mnist": plan.mnist}
    return [Job("load", network["bayes"]) for part, network in networks.items() if part in plan.confirmed and network]


def operations(plan: Plan) -> list[Job]:
    """Measurements of the work per clock cycle."""
    if not plan.mnist or not plan.operations:
        return []
    return [Job("operations", plan.mnist["st"], samples=plan.operations)]


def waves(plan: Plan, parts: Iterable[str], simulate: bool) -> list[list[Job]]:
    """The jobs of some parts: trainings with samples held back, then those with all, then what looks at these."""
    chosen = list(parts)
    first: list[Job] = []
    second: list[Job] = []
    third: list[Job] = []
    if "selection" in chosen:
        first += [
            held(setting, seed) for setting in chosen_from(plan) for seed in range(plan.grid_seeds[setting.dataset])
        ]
    for part in chosen:
        seeds = plan.mnist_seeds if part == "mnist" else plan.seeds
        second += [train(setting, seed) for setting in settings_of(plan, part) for seed in range(seeds)]
    if "digits" in chosen:
        asked = [tried(plan, setting, seed) for setting in settings_of(plan, "digits") for seed in range(plan.seeds)]
        third += [job for job in asked if job is not None]
    if "mismatch" in chosen and plan.mismatch:
        third += [deploy(plan, rule, seed) for rule in CHIP_RULES for seed in range(plan.seeds)]
    if "confirmation" in chosen and simulate:
        pairs = repeated(plan)
        second += [golden for golden, _ in pairs]
        third += [*confirmed(plan), *loads(plan), *operations(plan), *(sim for _, sim in pairs)]
    second += [job.training for job in third if job.training is not None]
    first += [job.held for job in second if job.held is not None]
    first += [build(job) for job in third if job.kind not in ("tried", "deploy")]
    return [list(dict.fromkeys(wave)) for wave in (first, second, third)]


def build(job: Job) -> Job:
    """The job that builds the chip of another; of jobs with the same chip it is the same."""
    setting = job.setting
    off = setting.mismatch or job.mismatch
    plain = Setting(setting.dataset, "", setting.hidden, 1, "rate", 1, 1.0, 0.0, mismatch=float(bool(off)))
    return Job("build", replace(plain, dataset="moons-25") if setting.dataset in MOONS else plain)
