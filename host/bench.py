"""Speed and cost of the simulated chip, measured side by side in one run.

For each network the same frames go three ways: from a trainer's call (``Chip.run`` on the backend ``sim``), through a
bare Verilator C++ loop around the same chip, and through an ordinary cocotb test of cocotb's default build that awaits
every clock edge. The golden model runs the same samples. Ratios compare times of the same run on the same machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from host.chip import Chip
from host.network import Network
from rtl.config import ChipConfig

console = Console()


@dataclass(frozen=True)
class Workload:
    """A network and the samples that it is shown; `active` is the mean number of input spikes in a step."""

    name: str
    cfg: ChipConfig
    samples: int
    steps: int
    active: float
    goal: float
    """Least speed through ``Chip.run`` as a fraction of the bare loop's."""


WORKLOADS = (
    Workload("784-128-10", ChipConfig(layers=(784, 128, 10), lanes=16, die_tables=False), 150, 25, 100, 0.92),
    Workload("30-15-2", ChipConfig(layers=(30, 15, 2), lanes=8), 4000, 32, 10, 0.75),
)
COCOTB_SAMPLES = {"784-128-10": 2, "30-15-2": 40}
REPEATS = 5


@dataclass(frozen=True)
class Figures:
    """What was measured for one workload."""

    network: str
    lanes: int
    samples: int
    steps: int
    input_spikes_per_step: float
    clock_cycles: int
    """All clock cycles, reception of the frames and read-out included."""
    sample_cycles: int
    """Clock cycles of the samples as the chip counts them."""
    ops_per_lane_and_cycle: float
    """Synaptic ops ÷ lanes ÷ all clock cycles."""
    run_cycles_per_s: float
    bare_cycles_per_s: float
    cocotb_cycles_per_s: float
    run_samples_per_s: float
    golden_samples_per_s: float
    ops_per_s: float
    run_over_bare: float
    run_over_cocotb: float


class _Recorder:
    """A backend that keeps the words of the last exchange."""

    def __init__(self, cfg: ChipConfig) -> None:
        from testbench.simulator import Simulator

        self.simulator = Simulator(cfg)
        self.words: NDArray[np.uint64] = np.zeros(0, np.uint64)

    @property
    def cycles(self) -> int:
        return self.simulator.cycles

    def exchange(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        self.words = words
        return self.simulator.exchange(words)

    def close(self) -> None:
        self.simulator.close()


def _network(cfg: ChipConfig, rng: np.random.Generator) -> Network:
    """Random weights at which hidden layers fire at about a tenth of the steps."""
    top = cfg.weight_range[1]
    weights = [np.clip(rng.normal(0, top / 5, shape), -top, top).round().astype(np.int32) for shape in cfg.shapes]
    return Network(weights)


def _samples(work: Workload, rng: np.random.Generator) -> NDArray[np.uint8]:
    mean = min(255.0, 256 * work.active / work.cfg.n_in)
    return np.clip(rng.normal(mean, mean / 4, (work.samples, work.cfg.n_in)), 0, 255).astype(np.uint8)


def measure(work: Workload) -> Figures:
    """Run one workload all ways; best of five for everything but the slow cocotb test."""
    from testbench.bench import bare, slow_cocotb

    rng = np.random.default_rng(0)
    cfg = work.cfg
    network, samples = _network(cfg, rng), _samples(work, rng)
    recorder = _Recorder(cfg)
    fast = reference = golden = float("inf")
    with Chip(cfg, backend=recorder) as chip, Chip(cfg, backend="golden") as model:
        for each in (chip, model):
            each.load(network)
            each.run(samples[:2], steps=work.steps)
        load = _frames_of_load(cfg, network, samples[:1], work.steps)
        chip.stats.reset()
        for repeat in range(REPEATS):
            before, start = recorder.cycles, time.perf_counter()
            output = chip.run(samples, steps=work.steps)
            fast = min(fast, time.perf_counter() - start)
            cycles = recorder.cycles - before
            start = time.perf_counter()
            expected = model.run(samples, steps=work.steps)
            golden = min(golden, time.perf_counter() - start)
            if repeat == 0:
                stats = chip.stats.to_dict()
                words = recorder.words
            if not all(np.array_equal(a, b) for a, b in zip(output.counts, expected.counts, strict=True)):
                raise RuntimeError("the simulated chip and the golden model differ")
            # The bare loop starts from reset: timed with the frames that load the network, and with these alone.
            with_samples, _, _ = bare(cfg, np.concatenate([load, words]))
            without, _, _ = bare(cfg, load)
            reference = min(reference, with_samples - without)
    few = COCOTB_SAMPLES[work.name]
    ends = np.flatnonzero(words >> np.uint64(32)) + 1
    seconds, slow_cycles = slow_cocotb(cfg, words[: ends[few - 1]])
    return Figures(
        network=work.name,
        lanes=cfg.lanes,
        samples=work.samples,
        steps=work.steps,
        input_spikes_per_step=stats["input_spikes"] / stats["timesteps"],
        clock_cycles=cycles,
        sample_cycles=stats["cycles"],
        ops_per_lane_and_cycle=stats["synaptic_ops"] / (cfg.lanes * cycles),
        run_cycles_per_s=cycles / fast,
        bare_cycles_per_s=cycles / reference,
        cocotb_cycles_per_s=slow_cycles / seconds,
        run_samples_per_s=work.samples / fast,
        golden_samples_per_s=work.samples / golden,
        ops_per_s=stats["synaptic_ops"] / fast,
        run_over_bare=reference / fast,
        run_over_cocotb=cycles / fast / (slow_cycles / seconds),
    )


def _frames_of_load(cfg: ChipConfig, network: Network, sample: NDArray[np.uint8], steps: int) -> NDArray[np.uint64]:
    """What a chip in its reset state is sent to hold the network and its settings, and one sample."""
    from pymodel.chip import GoldenChip

    class Listener:
        def __init__(self) -> None:
            self.model, self.heard = GoldenChip(cfg), [np.zeros(0, np.uint64)]

        def exchange(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
            self.heard.append(words)
            return self.model.exchange(words)

        def close(self) -> None: ...

    listener = Listener()
    with Chip(cfg, backend=listener) as chip:
        chip.load(network)
        chip.run(sample, steps=steps)
    return np.concatenate(listener.heard)


def two_chips(cfg: ChipConfig, samples: int, steps: int) -> float:
    """Throughput of two chips in two simulator processes ÷ that of one."""
    rng = np.random.default_rng(0)
    network = _network(cfg, rng)
    x = rng.integers(0, 160, (samples, cfg.n_in), dtype=np.uint8)
    with Chip(cfg, backend="sim") as one, Chip(cfg, backend="sim") as two, ThreadPoolExecutor(2) as pool:

        def run(chip: Chip) -> None:
            chip.run(x, steps=steps)

        for chip in (one, two):
            chip.load(network)
            run(chip)
        alone = together = float("inf")
        for _ in range(REPEATS):
            start = time.perf_counter()
            run(one)
            alone = min(alone, time.perf_counter() - start)
            start = time.perf_counter()
            list(pool.map(run, (one, two)))
            together = min(together, time.perf_counter() - start)
    return 2 * alone / together


def table(figures: Sequence[Figures]) -> Table:
    """Figures of all workloads side by side."""
    rows: list[tuple[str, str]] = [
        ("run_over_bare", "Chip.run ÷ bare C++ loop"),
        ("run_over_cocotb", "Chip.run ÷ cocotb, awaiting every edge"),
        ("ops_per_lane_and_cycle", "synaptic ops per lane and cycle"),
        ("run_cycles_per_s", "clock cycles/s, Chip.run"),
        ("bare_cycles_per_s", "clock cycles/s, bare loop"),
        ("cocotb_cycles_per_s", "clock cycles/s, cocotb awaiting every edge"),
        ("ops_per_s", "synaptic ops/s, Chip.run"),
        ("run_samples_per_s", "samples/s, Chip.run"),
        ("golden_samples_per_s", "samples/s, golden model"),
        ("input_spikes_per_step", "input spikes per step"),
        ("clock_cycles", "clock cycles, all"),
        ("sample_cycles", "clock cycles of the samples"),
    ]
    result = Table(title="Simulated chip, measured side by side")
    result.add_column("figure")
    for each in figures:
        result.add_column(f"{each.network}, {each.lanes} lanes", justify="right")
    for name, title in rows:
        values = [getattr(each, name) for each in figures]
        result.add_row(title, *(f"{value:,.3f}" if value < 1000 else f"{value:,.0f}" for value in values))
    return result


def bench(
    out: Annotated[Path, typer.Option(help="JSON file for the figures.")] = Path("runs/bench.json"),
) -> None:
    """Measure every workload and write a table and JSON."""
    figures = []
    for work in WORKLOADS:
        with console.status(f"{work.name}: building and measuring"):
            figures.append(measure(work))
    with console.status("two chips in two processes"):
        scaling = two_chips(WORKLOADS[1].cfg, 2000, 32)
    console.print(table(figures))
    for work, each in zip(WORKLOADS, figures, strict=True):
        verdict = "reached" if each.run_over_bare >= work.goal else "MISSED"
        console.print(f"{work.name}: {each.run_over_bare:.3f} of the bare loop, goal {work.goal}: {verdict}")
    console.print(f"two chips in two processes: {scaling:.2f} times the throughput of one")
    values = {"workloads": [asdict(each) for each in figures], "two_chips": scaling}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    console.print(f"JSON: {out}")


def main(arguments: Sequence[str]) -> int:
    """Entry point of ``spikeloop bench``."""
    app = typer.Typer(add_completion=False)
    app.command()(bench)
    return int(app(list(arguments), standalone_mode=False) or 0)
