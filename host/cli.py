"""The command line: ``spikeloop ...``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from host.errors import SpikeloopError, UserError
from rtl.config import ChipConfig, ConfigError

app = typer.Typer(
    name="spikeloop",
    help="A spiking-network chip, its golden model and its simulator, and trainers with the chip in the loop.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()
errors = Console(stderr=True)


# ---- mistakes, interrupts, progress -------------------------------------------------------------------------------


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what users can put right into one sentence on stderr and exit code 2; failures of the chip into code 1."""
    from host.jobs import Interrupted

    try:
        yield
    except (UserError, ConfigError) as error:
        _say(error)
        raise typer.Exit(2) from None
    except Interrupted:
        raise
    except KeyboardInterrupt:
        errors.print("[yellow]Interrupted.[/]")
        raise typer.Exit(130) from None
    except SpikeloopError as error:
        _say(error)
        raise typer.Exit(1) from None
    except RuntimeError as error:
        # The simulator's own errors (no compiler, failed build, dead process) are sentences as well.
        if not type(error).__module__.startswith("testbench"):
            raise
        _say(error)
        raise typer.Exit(2 if type(error).__name__ == "ToolchainError" else 1) from None


def _say(error: BaseException) -> None:
    errors.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, Any], None]]:
    """A callback (title, progress) that draws one bar per title with accuracy and acceptance rate."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def watch(title: str, progress: Any) -> None:
        if title not in tasks:
            tasks[title] = bars.add_task(escape(title), total=progress.total, figures="")
        figures = f"train {100 * progress.accuracy:5.1f} %"
        is_chain = not math.isnan(progress.acceptance)
        if not math.isnan(progress.best_accuracy):
            figures += f"  {'likeliest' if is_chain else 'best'} {100 * progress.best_accuracy:5.1f} %"
        if is_chain:
            figures += f"  accepted {100 * progress.acceptance:3.0f} %"
        bars.update(tasks[title], completed=progress.step, total=progress.total, figures=figures)

    with bars:
        yield watch


def result_table(title: str, rows: list[tuple[str, str]], columns: tuple[str, str] = ("", "test accuracy")) -> Table:
    """Two columns, the second right-aligned."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(columns[0])
    table.add_column(columns[1], justify="right")
    for left, right in rows:
        table.add_row(left, right)
    return table


def _run_spec(spec: Any, folder: Any, resume: Any, baselines: tuple[str, ...] | None) -> dict[str, Any]:
    """Train with progress bars; Ctrl-C says how to resume and exits with 130."""
    from host.jobs import Interrupted, train

    try:
        with progress_bars() as watch:
            return train(spec, folder, resume=resume, baselines=baselines, watch=watch)
    except Interrupted as stop:
        units = {"ssnn-bp": "samples", "delgrad": "epochs", "bisnn-st": "updates", "bisnn-bayes": "updates"}
        unit = units.get(spec.trainer, "steps")
        errors.print(
            f"[yellow]Stopped[/] after {stop.step} of {stop.total} {unit}; go on with: "
            f"[bold]spikeloop train --resume {folder.path}[/]",
            soft_wrap=True,
        )
        raise typer.Exit(130) from None


def _calibration_table(calibration: dict[str, dict[str, float]]) -> Table:
    """Accuracy and calibration by kind of prediction."""
    table = Table(title="Calibration on the test set", title_justify="left", title_style="bold")
    table.add_column("prediction")
    for heading in ("accuracy", "ECE", "NLL", "Brier", "mean confidence"):
        table.add_column(heading, justify="right")
    for kind, found in calibration.items():
        figures = (f"{found[name]:.3f}" for name in ("ece", "nll", "brier", "confidence"))
        table.add_row(kind, f"{100 * found['accuracy']:.1f} %", *figures)
    return table


def _print_result(result: dict[str, Any], folder: Any) -> None:
    from host.report import system_name

    accuracy = result["accuracy"]["test"]
    rows = [(f"[bold]{escape(system_name(result))}[/]", f"[bold]{100 * accuracy:.1f} %[/]")]
    rows += [(escape(name), f"{100 * value:.1f} %") for name, value in result["baselines"].items()]
    die = result["die"]
    where = "ideal die"
    if die:
        where = f"die {die['seed']}, level {die['level']:g}"
        singles = {name: size for name, size in die["severity"].items() if not name.startswith("level_")}
        where += "".join(f", {name} {size:g}" for name, size in singles.items())
    console.print(result_table(f"{result['dataset']} on {result['backend']}, {where}, seed {result['seed']}", rows))
    if "calibration" in result:
        console.print(_calibration_table(result["calibration"]))
    cfg, chip = result["config"], result["chip"]
    console.print(
        f"Chip: layers {'-'.join(map(str, cfg['layers']))}, lanes {cfg['lanes']}, weight bits {cfg['weight_bits']}, "
        f"state bits {cfg['state_bits']}.",
        highlight=False,
    )
    console.print(
        f"Training used {chip['samples']:,} chip presentations, {chip['cycles']:,} clock cycles, "
        f"{chip['synaptic_ops']:,} synaptic operations"
        + (f", {chip['gradient_spikes']:,} gradient spikes" if chip.get("gradient_spikes") else "")
        + f"; {result['wall_s']:.1f} s.",
        highlight=False,
    )
    console.print(f"Report: {folder.path / 'report.html'}", highlight=False, soft_wrap=True)


# ---- options --------------------------------------------------------------------------------------------------------

Trainer = Annotated[
    str,
    typer.Option(
        help="mh (Metropolis-Hastings), surrogate (backpropagation on the host), ssnn-bp (backpropagation by spikes, "
        "on the chip itself), delgrad (weights and delays by exact gradients of spike times), bisnn-st or bisnn-bayes "
        "(weights of one bit, straight-through or drawn from a posterior)."
    ),
]
Mode = Annotated[str, typer.Option(help="Of the surrogate trainer: ideal, domain-randomised, in-loop, in-loop-naive.")]
Data = Annotated[str, typer.Option("--dataset", help="Data set; `spikeloop datasets` lists them.")]
BackendName = Annotated[
    str,
    typer.Option(
        "--backend",
        help="sim (the simulated RTL), golden (its exact model) or serial:PORT (a board, as in serial:/dev/ttyUSB0; "
        "serial:PORT@BAUD gives the baud rate).",
    ),
]
DieSeed = Annotated[int | None, typer.Option("--die", help="Seed of a distorted die; default: the ideal chip.")]
Mismatch = Annotated[float | None, typer.Option(help="Level of the die's distortion, 0 to 4.")]
Distort = Annotated[
    list[str] | None,
    typer.Option(help="One distortion of the die as NAME=SIZE, for example threshold_noise=0.04; repeatable."),
]
Seed = Annotated[int, typer.Option(help="Seed of split, start and training.")]
TrainSize = Annotated[int, typer.Option(help="Training samples.")]
Epochs = Annotated[int, typer.Option(help="Presentations of the training set.")]
Steps = Annotated[int | None, typer.Option(help="Proposals (mh, default 3000) or updates (surrogate, default 400).")]
Timesteps = Annotated[int, typer.Option(help="Time steps of one presentation.")]
Hidden = Annotated[str, typer.Option(help="Hidden layers, for example 15 or 30,15; empty for none.")]
Lanes = Annotated[int, typer.Option(help="Synapses the chip handles in a clock cycle.")]
WeightBits = Annotated[int, typer.Option(help="Width of a weight.")]
DelaySlots = Annotated[int, typer.Option(help="Delays of the chip go up to one step less; 0: no delays.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; default: runs/<dataset>-<trainer>-<seed>.")]
BoardName = Annotated[str, typer.Option("--board", help="Board; `spikeloop fit` lists them.")]
BoardLayers = Annotated[str | None, typer.Option(help="Inputs, then neurons of each layer. Default: the board's own.")]
BoardLanes = Annotated[
    int | None, typer.Option("--lanes", help="Synapses handled in a clock cycle. Default: the board's own.")
]
NeuronLanes = Annotated[
    int | None, typer.Option(help="Neurons updated in a clock cycle, 0 for as many as lanes. Default: the board's own.")
]
BoardWeightBits = Annotated[
    int | None, typer.Option("--weight-bits", help="Width of a weight. Default: the board's own.")
]
BoardStateBits = Annotated[
    int | None, typer.Option("--state-bits", help="Width of currents and membranes. Default: the board's own.")
]
DieTables = Annotated[
    bool | None, typer.Option("--die-tables/--no-die-tables", help="Tables that distort the chip. Default: none.")
]
BoardLearning = Annotated[
    bool | None, typer.Option("--learning/--no-learning", help="Build what on-chip learning needs.")
]
BoardDelays = Annotated[int | None, typer.Option("--delay-slots", help="Delays go up to one step less. Default: none.")]
AxonalDelays = Annotated[
    bool | None, typer.Option("--axonal-delays", help="With delays: one of each source instead of one of each synapse.")
]
BinaryWeights = Annotated[bool | None, typer.Option("--binary-weights", help="Weights of one bit, -1 or +1.")]
Bernoulli = Annotated[
    bool | None,
    typer.Option("--bernoulli/--no-bernoulli", help="Build the Bernoulli code. Default: the board's own."),
]
ChipNeuronLanes = Annotated[
    int, typer.Option("--neuron-lanes", help="Neurons updated in a clock cycle, 0 for as many as lanes.")
]
ChipBernoulli = Annotated[
    bool, typer.Option("--bernoulli/--no-bernoulli", help="Whether the chip has the Bernoulli code.")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration as JSON instead of the options for the chip.")
]


def _sizes(text: str, what: str = "Hidden layers") -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UserError(f"{what} {text!r}: must be sizes separated by commas, for example 30,15.") from None


def _number_or_word(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _distortions(given: list[str]) -> tuple[tuple[str, float], ...]:
    """Pairs of name and size from texts NAME=SIZE."""
    pairs = []
    for text in given:
        name, _, size = text.partition("=")
        try:
            pairs.append((name.strip(), float(size)))
        except ValueError:
            raise UserError(f"Distortion {text!r}: must be NAME=SIZE, for example threshold_spread=0.13.") from None
    return tuple(pairs)


def _config(path: Path) -> ChipConfig:
    try:
        return ChipConfig.from_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the configuration {path}: {error}.") from None


def _board_chip(name: str, config: Path | None, layers: str | None, **fields: Any) -> tuple[Any, ChipConfig]:
    """A board, and its own chip with those fields changed that are not `None`; a configuration replaces all of it."""
    from rtl.boards import find

    info = find(name)
    if config is not None:
        for option, value in {"layers": layers, **fields}.items():
            if value is not None:
                raise UserError(f"--config {config} is the whole chip: leave --{option.replace('_', '-')} out.")
        return info, _config(config)
    return info, info.config(layers=None if layers is None else _sizes(layers, "Layers"), **fields)


def _hertz(megahertz: float | None) -> int | None:
    if megahertz is not None and not 0.1 <= megahertz <= 1000:
        raise UserError(f"Clock of {megahertz} MHz: must be from 0.1 to 1000.")
    return None if megahertz is None else round(megahertz * 1e6)


# ---- commands -------------------------------------------------------------------------------------------------------


@app.command(
    epilog="Example: spikeloop train --trainer mh --dataset breast-cancer --backend sim --die 3 --mismatch 0.8 "
    "--seed 0 --out runs/x"
    "\n\nExample: spikeloop train --trainer ssnn-bp --dataset digits --backend sim --epochs 10 --hidden 64"
    "\n\nExample: spikeloop train --trainer delgrad --delays synaptic --distort threshold_spread=0.13 "
    "--distort jitter=0.5"
    "\n\nExample: spikeloop train --trainer bisnn-bayes --validation-size 200 --temperature validation"
    "\n\nExample: spikeloop train --trainer bisnn-bayes --dataset moons-25 --train-size 200 --hidden 64,64 "
    "--timesteps 50 --encoding bernoulli --batch-size 50 --epochs 200 --gain 10 --rate 0.03 --kappa 1000"
)
def train(
    trainer: Trainer = "mh",
    mode: Mode = "in-loop",
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set; `spikeloop datasets` lists them. Default: breast-cancer; ssnn-bp and bisnn: digits; "
            "delgrad: yin-yang."
        ),
    ] = None,
    backend: BackendName = "sim",
    die: DieSeed = None,
    mismatch: Mismatch = None,
    distort: Distort = None,
    seed: Seed = 0,
    train_size: Annotated[
        int | None, typer.Option(help="Training samples. Default: 100; ssnn-bp, delgrad, bisnn: all that there are.")
    ] = None,
    validation_size: Annotated[
        int,
        typer.Option(
            help="Of ssnn-bp, delgrad and bisnn: samples to hold back and measure after every epoch, from the official "
            "validation set if there is one. delgrad by itself takes all of that, or a tenth of the training samples."
        ),
    ] = 0,
    steps: Steps = None,
    epochs: Annotated[
        int | None, typer.Option(help="Presentations of the training set. Default: ssnn-bp 10, delgrad 50, bisnn 60.")
    ] = None,
    delays: Annotated[
        str | None, typer.Option(help="Of delgrad: none, axonal, dendritic or synaptic. Default: axonal.")
    ] = None,
    steps_per_tau: Annotated[
        int | None, typer.Option(help="Of delgrad: time steps in a synaptic time constant. Default: 50.")
    ] = None,
    timesteps: Annotated[
        int | None,
        typer.Option(help="Time steps of one presentation; not of delgrad. Default: 32; ssnn-bp: 10; bisnn: 25."),
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(
            help="Hidden layers, for example 15 or 30,15; empty for none. Default: 15; ssnn-bp: 64; delgrad: 30; "
            "bisnn: 128. Those of bisnn are the whole chip: classes are read out of the last one on the host."
        ),
    ] = None,
    lanes: Annotated[
        int | None,
        typer.Option(
            help="Synapses the chip handles in a clock cycle. Default: 8; ssnn-bp and delgrad: 16; bisnn: 64."
        ),
    ] = None,
    weight_bits: Annotated[
        int | None, typer.Option(help="Width of a weight. Default: 8; ssnn-bp: 10; bisnn: always 1.")
    ] = None,
    read_out: Annotated[
        str | None,
        typer.Option(
            help="Of mh, the networks that predict: best, vote, mean, last or map. Of bisnn, what the host reads to "
            "train: raster+gate (spikes and gates of all neurons), recompute (spikes; gates from the model of the "
            "neuron) or counts (spikes in all). Default: best; bisnn: raster+gate."
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of bisnn: samples of an update. Default: 64.")] = None,
    gradient: Annotated[
        str | None,
        typer.Option(
            help="Of bisnn: bptt (backpropagation through layers and time) or local (a loss for each layer). "
            "Default: bptt."
        ),
    ] = None,
    gain: Annotated[
        float | None, typer.Option(help="Of bisnn: factor of the class scores. Default: 20; for two classes take 10.")
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option(
            help="Of bisnn: exponent of the class probabilities; none, validation (the best one on the validation set) "
            "or a number. Default: none."
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Of bisnn-bayes: step of the posterior, at the start. Default: 0.01.")
    ] = None,
    kappa: Annotated[
        float | None, typer.Option(help="Of bisnn-bayes: weight of the data against the prior. Default: 5000.")
    ] = None,
    prior: Annotated[
        float | None, typer.Option(help="Of bisnn-bayes: probability of a weight +1 without data. Default: 0.5.")
    ] = None,
    members: Annotated[
        int | None, typer.Option(help="Of bisnn-bayes: networks that an ensemble draws. Default: 10.")
    ] = None,
    prediction: Annotated[
        str | None,
        typer.Option(
            help="Of bisnn-bayes: ensemble, or mode (the most probable weights alone). Both are measured. "
            "Default: ensemble."
        ),
    ] = None,
    sharpness: Annotated[
        float | None,
        typer.Option(
            help="Of bisnn-bayes: members are drawn from the posterior to this power; above 1 they differ less. "
            "Default: 1."
        ),
    ] = None,
    start: Annotated[
        str, typer.Option(help="random, or backprop (begin with weights trained on the ideal model).")
    ] = "random",
    start_sd: Annotated[float, typer.Option(help="Of mh and surrogate: spread of the start weights.")] = 24.0,
    prior_sd: Annotated[float, typer.Option(help="Of mh and surrogate: spread of the prior over weights.")] = 32.0,
    greedy: Annotated[bool, typer.Option("--greedy", help="Of mh: accept only improvements (a baseline).")] = False,
    remeasure: Annotated[
        bool, typer.Option("--remeasure", help="Of mh: measure the current weights again at every step (noisy chips).")
    ] = False,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="rate (regular), bernoulli (random) or, of ssnn-bp, events (timed, for sets of an event camera). "
            "Default: rate; ssnn-bp: bernoulli. delgrad has a time code of its own."
        ),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Also train the backprop baselines; of ssnn-bp and delgrad: an ordinary network; of bisnn: the same "
            "network with real weights.",
        ),
    ] = False,
    resume: Annotated[Path | None, typer.Option(help="Go on with the interrupted training in this run folder.")] = None,
    out: Out = None,
) -> None:
    """Train a network with a chip in the loop and write a run folder.

    The trainers mh and surrogate change the weights from outside, after presenting samples to the chip. With ssnn-bp
    the chip is built with learning hardware and changes them itself, in every time step; the host sends labels along.
    delgrad codes samples in the times of spikes, builds a chip with delays, and trains both from first-spike times.
    bisnn-st and bisnn-bayes build a chip whose weights are -1 or +1 and keep a real number for each on the host: one
    whose sign is the weight, or one that says how probable +1 is. They report calibration as well.
    """
    from host.jobs import RunSpec, baselines_for
    from host.runs import RunFolder
    from host.trainers.checkpoint import CheckpointError

    with one_sentence():
        state = None
        if resume is not None:
            folder = RunFolder.open(resume)
            state = folder.read_checkpoint()
            spec = RunSpec.from_dict(state.meta.get("spec", None) or _foreign(CheckpointError, resume))
            folder = RunFolder.create(resume)
        else:
            spec = RunSpec.usual(
                trainer,
                mode=mode,
                dataset=dataset,
                backend=backend,
                die=die,
                mismatch=mismatch,
                distortions=_distortions(distort or []),
                seed=seed,
                train_size=train_size,
                validation_size=validation_size,
                steps=steps,
                epochs=epochs,
                delays=delays,
                steps_per_tau=steps_per_tau,
                timesteps=timesteps,
                hidden=None if hidden is None else _sizes(hidden),
                lanes=lanes,
                weight_bits=weight_bits,
                start=start,
                prior_sd=prior_sd,
                start_sd=start_sd,
                read_out=read_out,
                batch_size=batch_size,
                gradient=gradient,
                gain=gain,
                temperature=_number_or_word(temperature),
                rate=rate,
                kappa=kappa,
                prior=prior,
                members=members,
                prediction=prediction,
                sharpness=sharpness,
                encoding=encoding,
                greedy=greedy,
                remeasure=remeasure,
            )
            folder = RunFolder.create(out or Path("runs") / f"{spec.dataset}-{spec.trainer}-{spec.seed}")
        result = _run_spec(spec, folder, state, baselines_for(spec) if baselines else None)
        _print_result(result, folder)


def _foreign(kind: type[UserError], path: Path) -> dict[str, Any]:
    raise kind(f"The checkpoint in {path} does not say how its training was set up.")


@app.command(epilog="Example: spikeloop demo --backend sim --die 3 --mismatch 2 --out runs/demo")
def demo(
    backend: BackendName = "sim",
    die: Annotated[int, typer.Option(help="Seed of the distorted die.")] = 3,
    mismatch: Annotated[float, typer.Option(help="Level of its distortion.")] = 2.0,
    seed: Seed = 0,
    train_size: TrainSize = 100,
    steps: Annotated[int, typer.Option(help="Proposals of the chain.")] = 1500,
    timesteps: Timesteps = 32,
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
) -> None:
    """The main job: train on real data with a distorted chip in the loop, beside the backprop baselines."""
    from host.jobs import DEMO_BASELINES, RunSpec
    from host.runs import RunFolder

    with one_sentence():
        spec = RunSpec(
            dataset="breast-cancer",
            backend=backend,
            die=die,
            mismatch=mismatch,
            seed=seed,
            train_size=train_size,
            steps=steps,
            timesteps=timesteps,
            start_sd=12.0,
            prior_sd=24.0,
        )
        folder = RunFolder.create(out)
        console.print(
            f"Training a 30-15-2 network on {train_size} breast cancer samples, chip in the loop: backend {backend}, "
            f"die {die} at level {mismatch:g}.",
            highlight=False,
        )
        result = _run_spec(spec, folder, None, DEMO_BASELINES)
        _print_result(result, folder)


@app.command(epilog="Example: spikeloop baseline --dataset mnist --hidden 128 --epochs 10 --seed 0")
def baseline(
    dataset: Data = "digits",
    hidden: Hidden = "128",
    epochs: Epochs = 10,
    seed: Seed = 0,
    train_size: Annotated[int | None, typer.Option(help="Training samples. Default: all that there are.")] = None,
) -> None:
    """Train an ordinary network, without chip or spikes, to compare a chip of the same size with."""
    from host import datasets
    from host.baseline import train_ann
    from host.trainers import Progress

    with one_sentence():
        split = datasets.split(dataset, train_size, seed)
        sizes = _sizes(hidden)
        nan = float("nan")
        with progress_bars() as watch:

            def show(entry: dict[str, Any]) -> None:
                watch("epochs", Progress(entry["epoch"], epochs, nan, entry["accuracy_train"], nan, nan))

            found = train_ann(split, hidden=sizes, epochs=epochs, seed=seed, callback=show)
        layers = "-".join(map(str, (split.n_features, *sizes, split.n_classes)))
        rows = [
            ("[bold]test accuracy[/]", f"[bold]{100 * found.accuracy_test:.2f} %[/]"),
            ("training accuracy", f"{100 * found.accuracy_train:.2f} %"),
            ("training samples", f"{len(split.y_train):,}"),
            ("epochs", str(epochs)),
            (
                "learning rate, first and last epoch",
                " ... ".join(f"{found.history[i]['learning_rate']:g}" for i in (0, -1)),
            ),
            ("seconds", f"{found.seconds:.1f}"),
        ]
        console.print(result_table(f"Ordinary network {layers} on {dataset}, seed {seed}", rows, ("", "")))


@app.command(epilog="Example: spikeloop evaluate runs/demo --backend golden")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    backend: Annotated[str | None, typer.Option(help="Backend; default: the one it was trained on.")] = None,
    die: DieSeed = None,
    mismatch: Mismatch = None,
    distort: Distort = None,
) -> None:
    """Measure the trained network of a run on its test set again, on the same or another die; also its ensemble."""
    from host.jobs import evaluate_run
    from host.runs import RunFolder

    with one_sentence():
        found = evaluate_run(
            RunFolder.open(run), backend=backend, die=die, mismatch=mismatch, distortions=_distortions(distort or [])
        )
        console.print(
            result_table(
                f"{run} on {found['backend']}, {found['die']}",
                [
                    ("test accuracy", f"{100 * found['accuracy']:.1f} %"),
                    ("balanced accuracy", f"{100 * found['balanced_accuracy']:.1f} %"),
                    ("test samples", str(found["samples"])),
                    ("clock cycles of a presentation", f"{found['cycles'] / found['presentations']:,.0f}"),
                ],
                ("", ""),
            )
        )
        if "calibration" in found:
            console.print(_calibration_table(found["calibration"]))


@app.command(epilog="Example: spikeloop datasets")
def datasets() -> None:
    """List the data sets."""
    from host.datasets import DATA_VARIABLE, REGISTRY, data_folder

    with one_sentence():
        table = Table(title="Data sets", title_justify="left", title_style="bold")
        for heading in ("name", "what it is", "shape", "where it comes from"):
            table.add_column(heading, no_wrap=heading == "name")
        for info in REGISTRY.values():
            table.add_row(info.name, info.summary, info.shape, info.source)
        console.print(table)
        console.print(f"Cache folder: {data_folder()} (set {DATA_VARIABLE} to change it)", soft_wrap=True)


@app.command(epilog="Example: spikeloop info")
def info() -> None:
    """Versions, tools, backends and cache folders."""
    from host.datasets import DATA_VARIABLE, data_folder
    from host.runs import versions

    with one_sentence():
        rows = list(versions().items())
        rows.append(("processor cores", str(os.cpu_count())))
        rows.append(("backend golden", "ready"))
        try:
            from testbench import toolchain

            found = toolchain.find()
            rows.append(("backend sim", "ready"))
            rows += [(f"  {name}", value) for name, value in found.identity().items()]
        except (RuntimeError, ImportError) as error:
            rows.append(("backend sim", f"not ready: {error}"))
        rows.append((f"data folder ({DATA_VARIABLE})", str(data_folder())))
        try:
            from testbench.build import cache_folder

            rows.append(("build cache", str(cache_folder())))
        except (RuntimeError, ImportError, OSError) as error:
            rows.append(("build cache", f"not usable: {error}"))
        console.print(result_table("spikeloop", [(escape(a), escape(b)) for a, b in rows], ("what", "found")))


@app.command(epilog="Example: spikeloop report runs/demo")
def report(run: Annotated[Path, typer.Argument(help="Run folder.")]) -> None:
    """Draw the plots and report.html of a run again."""
    from host.report import write_report
    from host.runs import RunFolder

    with one_sentence():
        console.print(f"Report: {write_report(RunFolder.open(run))}", highlight=False, soft_wrap=True)


@app.command(
    epilog="Example: spikeloop verilog --layers 30,15,2 --lanes 8 --name chip_30_15_2"
    "\n\nExample: spikeloop verilog --layers 784,256 --lanes 64 --binary-weights --name chip_784_256"
)
def verilog(
    layers: Annotated[str, typer.Option(help="Inputs, then neurons of each layer.")] = "30,15,2",
    lanes: Lanes = 8,
    neuron_lanes: ChipNeuronLanes = 0,
    weight_bits: WeightBits = 8,
    state_bits: Annotated[int, typer.Option(help="Width of currents and membranes.")] = 24,
    die_tables: Annotated[bool, typer.Option(help="Build the tables that distort the chip.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Add the trace port.")] = False,
    learning: Annotated[bool, typer.Option("--learning", help="Build what on-chip learning needs.")] = False,
    delay_slots: DelaySlots = 0,
    axonal_delays: Annotated[
        bool, typer.Option("--axonal-delays", help="With delays: one of each source instead of one of each synapse.")
    ] = False,
    binary_weights: Annotated[
        bool, typer.Option("--binary-weights", help="Weights of one bit, -1 or +1; leave --weight-bits out.")
    ] = False,
    bernoulli: ChipBernoulli = True,
    config: Annotated[Path | None, typer.Option(help="Configuration as JSON instead of the options above.")] = None,
    name: Annotated[str, typer.Option(help="Top module and file name.")] = "spikeloop",
    out: Annotated[Path, typer.Option(help="Folder of the Verilog.")] = Path("build/verilog"),
) -> None:
    """Write the chip as Verilog; the same configuration gives the same bytes."""
    with one_sentence():
        if config is not None:
            cfg = _config(config)
        else:
            cfg = ChipConfig(
                layers=_sizes(layers, "Layers"),
                lanes=lanes,
                neuron_lanes=neuron_lanes,
                weight_bits=weight_bits,
                state_bits=state_bits,
                die_tables=die_tables,
                trace=trace,
                learning=learning,
                delay_slots=delay_slots,
                axonal_delays=axonal_delays,
                binary_weights=binary_weights,
                bernoulli=bernoulli,
            )
        from rtl.verilog import generate

        try:
            verilog_text = generate(cfg, name=name)
        except ValueError as error:
            raise UserError(str(error)) from None
        path = out / f"{name}.v"
        try:
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(verilog_text, newline="\n")
        except OSError as error:
            raise UserError(f"Cannot write {path}: {error.strerror or error}.") from None
        console.print(f"Wrote {path} ({len(verilog_text.splitlines()):,} lines)", highlight=False, soft_wrap=True)


@app.command(
    epilog="Example: spikeloop bitstream --board icebreaker --layers 784,128,10"
    "\n\nExample: spikeloop bitstream --board ulx3s-85f --layers 64,48,10 --learning --clock 40 --seeds 1,2 --all-seeds"
)
def bitstream(
    board: BoardName = "icebreaker",
    layers: BoardLayers = None,
    lanes: BoardLanes = None,
    neuron_lanes: NeuronLanes = None,
    weight_bits: BoardWeightBits = None,
    state_bits: BoardStateBits = None,
    die_tables: DieTables = None,
    learning: BoardLearning = None,
    delay_slots: BoardDelays = None,
    axonal_delays: AxonalDelays = None,
    binary_weights: BinaryWeights = None,
    bernoulli: Bernoulli = None,
    config: ConfigFile = None,
    clock: Annotated[float | None, typer.Option(help="Clock of the chip in MHz. Default: the board's own.")] = None,
    baud: Annotated[int | None, typer.Option(help="Bits per second of the line. Default: the board's own.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of placement, tried until one meets the clock.")] = "1,2,3",
    all_seeds: Annotated[bool, typer.Option("--all-seeds", help="Try all seeds and take the best.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Try even if the estimate says that it does not fit.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: build/<board>.")] = None,
) -> None:
    """Make the bitstream of a chip for a board, with a report of what it takes and how fast it is."""
    with one_sentence():
        from host import bitstream as flow
        from host.fit import estimate, sentence

        info, cfg = _board_chip(
            board,
            config,
            layers,
            lanes=lanes,
            neuron_lanes=neuron_lanes,
            weight_bits=weight_bits,
            state_bits=state_bits,
            die_tables=die_tables,
            learning=learning,
            delay_slots=delay_slots,
            axonal_delays=axonal_delays,
            binary_weights=binary_weights,
            bernoulli=bernoulli,
        )
        chosen = flow.check_seeds(_sizes(seeds, "Seeds"))
        wanted = flow.check_clock(info, _hertz(clock), baud)
        expected = estimate(info, cfg)
        if expected.certain and not (expected.ok or force):
            with console.status("Looking for what would fit"):
                told = sentence(expected)
            raise UserError(f"{told} (--force tries it all the same.)")
        folder = out or Path("build") / info.name
        with console.status("") as status:
            report = flow.build(
                info,
                cfg,
                folder,
                clock_hz=wanted,
                baud=baud,
                seeds=chosen,
                all_seeds=all_seeds,
                watch=lambda step: status.update(escape(step)),
            )
        console.print(result_table(f"{info.title}: {folder}", flow.rows(report), ("", "")))
        made = folder / report["bitstream"]["file"] if "bitstream" in report else f"{flow.TOP}.bit"
        load = " or ".join(loader.format(file=made) for loader in info.loaders)
        vivado = f"In {folder}: vivado -mode batch -source {flow.TOP}.tcl, then {load}"
        console.print(f"Load it with: {load}" if "bitstream" in report else vivado, highlight=False, soft_wrap=True)


@app.command(epilog="Example: spikeloop fit --board icebreaker --layers 784,128,10\n\nExample: spikeloop fit")
def fit(
    board: Annotated[str | None, typer.Option("--board", help="Board. Default: all of them.")] = None,
    layers: BoardLayers = None,
    lanes: BoardLanes = None,
    neuron_lanes: NeuronLanes = None,
    weight_bits: BoardWeightBits = None,
    state_bits: BoardStateBits = None,
    die_tables: DieTables = None,
    learning: BoardLearning = None,
    delay_slots: BoardDelays = None,
    axonal_delays: AxonalDelays = None,
    binary_weights: BinaryWeights = None,
    bernoulli: Bernoulli = None,
    config: ConfigFile = None,
) -> None:
    """Say whether a chip fits a board, by how much it does not, and what to change; no other tools are needed."""
    with one_sentence():
        from host.fit import Fit, doubt, estimate, sentence
        from rtl.boards import registry

        fits: list[Fit] = []
        for name in [board] if board else registry():
            info, cfg = _board_chip(
                name,
                config,
                layers,
                lanes=lanes,
                neuron_lanes=neuron_lanes,
                weight_bits=weight_bits,
                state_bits=state_bits,
                die_tables=die_tables,
                learning=learning,
                delay_slots=delay_slots,
                axonal_delays=axonal_delays,
                binary_weights=binary_weights,
                bernoulli=bernoulli,
            )
            fits.append(estimate(info, cfg))
        if board:
            console.print(_memory_table(fits[0]))
        console.print(_fit_table(fits))
        if board and not (fits[0].certain and fits[0].ok):
            with console.status("Looking for what would fit"):
                told = sentence(fits[0]) if fits[0].certain else doubt(fits[0])
            if fits[0].certain:
                raise UserError(told)
            console.print(told, highlight=False, soft_wrap=True)


def _memory_table(fit: Any) -> Table:
    """Where each memory of a chip goes."""
    table = Table(title="Memories", title_justify="left", title_style="bold")
    table.add_column("memory")
    for heading in ("words", "bits", "primitives"):
        table.add_column(heading, justify="right")
    for held in fit.places:
        name = held.memory.name.removeprefix("board.").removesuffix(".memory")
        table.add_row(escape(name), f"{held.memory.depth:,}", f"{held.memory.width:,}", f"{held.count:,} {held.kind}")
    return table


def _fit_table(fits: list[Any]) -> Table:
    """What each board has, what is needed of it, and the verdict."""
    table = Table(title="Needed of what there is", title_justify="left", title_style="bold")
    table.add_column("board")
    for heading in ("logic cells (about)", "block RAMs", "single-port RAMs", "fits"):
        table.add_column(heading, justify="right")
    for fit in fits:
        pairs = (fit.needs.get(name, (0, 0)) for name in ("logic cells", "block RAMs", "single-port RAMs"))
        verdict = ("yes" if fit.ok else "[red]no[/]") if fit.certain else "close"
        table.add_row(fit.info.name, *(f"{needed:,} of {available:,}" for needed, available in pairs), verdict)
    return table


@app.command(
    epilog="Example: spikeloop selftest --backend serial:/dev/ttyUSB0"
    "\n\nExample: spikeloop selftest --backend sim --layers 64,32,10 --learning --no-die-tables --quick"
)
def selftest(
    backend: BackendName = "golden",
    layers: Annotated[
        str | None,
        typer.Option(
            help="Inputs, then neurons of each layer. Default: a board is asked what it is, and no other option of the "
            "chip counts; else 30,15,2."
        ),
    ] = None,
    lanes: Lanes = 8,
    neuron_lanes: ChipNeuronLanes = 0,
    weight_bits: WeightBits = 8,
    state_bits: Annotated[int, typer.Option(help="Width of currents and membranes.")] = 24,
    die_tables: Annotated[
        bool, typer.Option("--die-tables/--no-die-tables", help="Whether the chip has tables that distort it.")
    ] = True,
    learning: Annotated[bool, typer.Option("--learning", help="The chip has what on-chip learning needs.")] = False,
    delay_slots: DelaySlots = 0,
    axonal_delays: Annotated[
        bool, typer.Option("--axonal-delays", help="With delays: one of each source instead of one of each synapse.")
    ] = False,
    binary_weights: Annotated[bool, typer.Option("--binary-weights", help="Weights of one bit, -1 or +1.")] = False,
    bernoulli: ChipBernoulli = True,
    config: Annotated[Path | None, typer.Option(help="Configuration as JSON instead of the options above.")] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Of a board: seconds without an answer after which it counts as lost.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything; of large memories only a part.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of all that is random.")] = 0,
) -> None:
    """Compare a chip with the golden model: link, registers, memories, networks, learning; and measure its speed."""
    from host.backends import is_serial
    from host.selftest import selftest as checks

    with one_sentence():
        asked = is_serial(backend) and layers is None
        cfg: ChipConfig | None = None
        if config is not None:
            cfg = _config(config)
        elif not asked:
            cfg = ChipConfig(
                layers=_sizes(layers or "30,15,2", "Layers"),
                lanes=lanes,
                neuron_lanes=neuron_lanes,
                weight_bits=weight_bits,
                state_bits=state_bits,
                die_tables=die_tables,
                learning=learning,
                delay_slots=delay_slots,
                axonal_delays=axonal_delays,
                binary_weights=binary_weights,
                bernoulli=bernoulli,
            )
        table = Table(title=f"Chip at {escape(backend)}", title_justify="left", title_style="bold")
        for heading in ("check", "result", "found"):
            table.add_column(heading, no_wrap=heading != "found")
        all_well = True
        options = {} if timeout is None else {"timeout": timeout}
        try:
            with console.status("Asking the chip") as status:
                for check in checks(backend, cfg, quick=quick, seed=seed, **options):
                    table.add_row(check.name, "[green]ok[/]" if check.ok else "[bold red]wrong[/]", escape(check.found))
                    status.update(f"After {check.name}")
                    all_well &= check.ok
        finally:
            if table.row_count:
                console.print(table)
        if not all_well:
            raise typer.Exit(1)


@app.command(
    epilog="Example: spikeloop import-nir graph.nir --layers 30,15,2 --delay-slots 16 --dt 1e-3 --out network.npz"
)
def import_nir(
    file: Annotated[Path, typer.Argument(help="NIR graph (HDF5).")],
    layers: Annotated[str, typer.Option(help="Inputs, then neurons of each layer of the chip.")] = "30,15,2",
    weight_bits: WeightBits = 8,
    delay_slots: DelaySlots = 0,
    config: Annotated[Path | None, typer.Option(help="Configuration as JSON instead of the options above.")] = None,
    dt: Annotated[float | None, typer.Option(help="Step in seconds; default: as the file says, if it does.")] = None,
    decay: Annotated[str | None, typer.Option(help="exponential or euler: how time constants become decays.")] = None,
    nearest: Annotated[
        bool, typer.Option("--nearest", help="Where the chip cannot hold what the graph says, take the next best.")
    ] = False,
    out: Annotated[Path, typer.Option(help="File of the network.")] = Path("network.npz"),
) -> None:
    """Turn a NIR graph of another framework into a network for a chip; the table says what was rounded."""
    from host.errors import NirError
    from host.nir_io import import_nir as convert

    with one_sentence():
        cfg = (
            _config(config)
            if config is not None
            else ChipConfig(layers=_sizes(layers, "Layers"), weight_bits=weight_bits, delay_slots=delay_slots)
        )
        try:
            network, report = convert(file, cfg, dt=dt, decay=decay, strict=not nearest)
        except NirError as error:
            if error.report is not None:
                console.print(error.report)
            raise
        try:
            network.save(out)
        except OSError as error:
            raise UserError(f"Cannot write {out}: {error.strerror or error}.") from None
        console.print(report)
        console.print(f"Wrote {out}", highlight=False, soft_wrap=True)


@app.command(epilog="Example: spikeloop export-nir network.npz --dt 1e-3 --out network.nir")
def export_nir(
    file: Annotated[Path, typer.Argument(help="Network, as Network.save writes it.")],
    dt: Annotated[float, typer.Option(help="Step in seconds.")] = 1e-3,
    decay: Annotated[str, typer.Option(help="exponential or euler: how decays become time constants.")] = "exponential",
    out: Annotated[Path, typer.Option(help="File of the NIR graph.")] = Path("network.nir"),
) -> None:
    """Write a network as a NIR graph for other frameworks; the table says what they will not see."""
    from host.network import Network
    from host.nir_io import export_nir as convert
    from host.nir_io import export_report

    with one_sentence():
        network = Network.load(file)
        try:
            convert(network, out, dt=dt, decay=decay)
        except OSError as error:
            raise UserError(f"Cannot write {out}: {error.strerror or error}.") from None
        console.print(export_report(network, dt=dt, decay=decay))
        console.print(f"Wrote {out}", highlight=False, soft_wrap=True)


@app.command(epilog="Example: spikeloop reproduce mh --quick")
def reproduce(
    system: Annotated[str, typer.Argument(help="The study: mh, ssnn-bp, delgrad or bisnn.")] = "mh",
    quick: Annotated[bool, typer.Option("--quick", help="A small honest subset in under three minutes.")] = False,
    jobs: Annotated[int, typer.Option(help="Processes; default: one per core.")] = 0,
    backend: Annotated[
        str | None,
        typer.Option(
            help="Default: headline results on sim, sweeps on golden, which is equal to the bit; golden leaves sim out."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: runs/reproduce-<system>.")] = None,
) -> None:
    """Repeat a published study on the simulated chip; an interrupted study continues where it stopped."""
    from host.reproduce import study

    with one_sentence():
        study(system).run(quick=quick, jobs=jobs, backend=backend, out=out, console=console)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["-h", "--help"]},
    epilog="Example: spikeloop bench",
)
def bench(context: typer.Context) -> None:
    """Measure speed and cost of the simulated chip and the golden model side by side."""
    with one_sentence():
        try:
            from host.bench import main as run_bench
        except ImportError:
            raise UserError("The benchmark is not part of this installation.") from None
        status = run_bench(context.args)
        if status:
            raise typer.Exit(int(status))


def main() -> None:
    """Entry point of the console command."""
    app()


if __name__ == "__main__":
    main()
