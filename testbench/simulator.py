"""The simulated chip in a process of its own, at the speed of a bare Verilator loop.

::

    with Simulator(cfg) as simulator:
        answers = simulator.exchange(words)     # uint64; bit 32 of a word is its `last` mark

The child runs cocotb with ``simulator.cpp`` as its main and ``server.py`` as its test. Words travel through a shared
region, commands through a socket pair. Batches of any size work: input and output go through the region in bursts,
between which the chip's clock stands still, so neither loses a word and the chip cannot notice.
"""

from __future__ import annotations

import itertools
import os
import platform
import signal
import socket
import subprocess
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from rtl.config import MAX_STEPS, ChipConfig
from testbench.build import RECIPES, build, cache_folder
from testbench.region import Field, Reason, Region
from testbench.runner import Runner
from testbench.server import CONTROL_VARIABLE, MESSAGE_BYTES, READY, REGION_VARIABLE

START_SECONDS = 120.0
"""How long the child may take until the chip is reset."""

STALL_SECONDS = 60.0
"""How long a working child may show no sign of life (its cycle count standing still) before it counts as dead."""

POLL_SECONDS = 1.0
"""How often a sign of life is looked for during an exchange. A child that dies is noticed at once all the same."""

SPIN_SECONDS = 50e-6
"""How long both sides look at the shared memory before they wait on the socket: makes short exchanges faster."""

LOG_LINES = 15

KEPT_LOGS = 20
"""Logs of dead simulators in the default log folder; older ones are removed."""

_numbers = itertools.count(1)


class SimulatorDied(RuntimeError):
    """The simulator process is gone or hangs: the message says how and ends with its log. ``restart()`` helps."""


@dataclass
class _Job:
    """An exchange under way. ``state`` changes in single assignments, so that an interrupt leaves it consistent."""

    words: NDArray[np.uint64]
    state: tuple[int, int] = (0, 0)
    """Words used so far and the number of the command that was sent, or 0."""
    output: list[NDArray[np.uint64]] = field(default_factory=list)


@dataclass
class _Child:
    """Everything that belongs to one life of the process."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    region: Region
    log: Path
    keep_log: bool

    def release(self) -> None:
        """Ask the process to end, wait for it, free all resources. Never raises, may be called again."""
        with suppress(OSError):
            self.control.close()  # the child sees the hang-up and ends by itself, closing its waves
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.region.close()
        if not self.keep_log:
            with suppress(OSError):
                self.log.unlink()


class Simulator:
    """The chip ``cfg``, simulated from its Verilog; a context manager.

    Parameters
    ----------
    cfg
        The chip; its simulator is built first if it is not in the cache (:func:`testbench.build.build`).
    variant
        ``"fast"``, or ``"debug"`` with assertions and waves.
    log_dir
        Folder for the log of the process. Default: ``logs`` in the cache folder, where only logs of dead simulators
        stay.
    waves
        FST file to write; makes the variant ``"debug"``. Default: none, or ``build/waves/<name>.fst`` if ``WAVES=1``
        is in the environment. After a restart, and for further simulators, a number is added to the name.
    verilog
        Verilog to simulate instead of that of ``cfg``; see :func:`testbench.build.build`.
    region_words
        Words per burst and direction; memory is only used as far as batches need it.
    watchdog
        Clock cycles without a word moving after which a busy chip counts as stuck; 0 never. Default: several times
        what the longest possible sample takes.
    """

    def __init__(
        self,
        cfg: ChipConfig,
        *,
        variant: str = "fast",
        log_dir: str | Path | None = None,
        waves: str | Path | None = None,
        verilog: str | None = None,
        region_words: int = 1 << 20,
        watchdog: int | None = None,
    ) -> None:
        if variant not in ("fast", "debug"):
            raise ValueError(f"variant = {variant!r}: must be 'fast' or 'debug'")
        if region_words < 1:
            raise ValueError(f"region_words = {region_words!r}: must be at least 1")
        self.cfg = cfg
        self._number = next(_numbers)
        if waves is None and os.environ.get("WAVES", "0") not in ("", "0"):
            waves = Path("build") / "waves" / f"simulator{'' if self._number == 1 else f'-{self._number}'}.fst"
        self.waves = None if waves is None else Path(waves).absolute()
        self.variant = variant if self.waves is None else "debug"
        self._program = build(cfg, self.variant, verilog=verilog)
        self._log_dir = None if log_dir is None else Path(log_dir).absolute()
        self._region_words = region_words
        self._watchdog = default_watchdog(cfg) if watchdog is None else watchdog
        # Without a system call only x86 keeps the order of what Python writes; on one core, looking is waste.
        self._spins = platform.machine() in ("x86_64", "AMD64") and (os.cpu_count() or 1) > 1
        self._sequence = 0
        self._starts = 0
        self._job: _Job | None = None
        self._past_cycles = 0
        self._child: _Child | None = None
        self._finalizer: weakref.finalize[[], Simulator] | None = None
        self._start()

    # ---- interface --------------------------------------------------------------------------------------------------

    def exchange(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Send ``words`` (bit 32: ``last``), run the chip until it is idle, return the words that it sent.

        If an exception (Ctrl-C) interrupts an exchange, the chip stays usable: the next call first brings the
        interrupted exchange to its end and drops its answers.

        Raises
        ------
        SimulatorDied
            If the process dies, hangs, or the chip gets stuck; and if it did earlier and was not restarted.
        """
        if self._child is None:
            raise SimulatorDied("the simulator is not running: it was closed or died before; call restart()")
        words = np.ascontiguousarray(words, dtype=np.uint64).reshape(-1)
        if self._job is not None:
            self._run(self._job)
            self._job = None
        self._job = job = _Job(words)
        result = self._run(job)
        self._job = None
        return result

    @property
    def cycles(self) -> int:
        """Clock cycles that the simulated clock made since this object exists, restarts included."""
        return self._past_cycles + (self._child.region.cycles if self._child is not None else 0)

    @property
    def pid(self) -> int | None:
        """Process id of the child; ``None`` if it does not run."""
        return None if self._child is None else self._child.process.pid

    def restart(self) -> None:
        """Begin again with a fresh process and the chip in its reset state."""
        self._stop()
        self._start()

    def close(self) -> None:
        """End the process and free everything. May be called again."""
        self._stop()

    def __enter__(self) -> Simulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- process ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._starts += 1
        self._job = None
        log = self._log_file()
        region = Region(self._region_words, self._watchdog, int(SPIN_SECONDS * 1e9) if self._spins else 0)
        ours, theirs = socket.socketpair()
        try:
            inherited = (region.fileno, theirs.fileno())
            environment = Runner(RECIPES[self.variant]).simulation_environment(
                "testbench.server",
                {
                    REGION_VARIABLE: str(region.fileno),
                    CONTROL_VARIABLE: str(theirs.fileno()),
                    "COCOTB_RESULTS_FILE": os.devnull,
                    "COCOTB_ANSI_OUTPUT": "0",
                },
            )
            environment["COCOTB_RESULTS_FILE"] = os.devnull
            environment.pop("WAVES", None)
            arguments = [str(self._program)]
            if self.waves is not None:
                arguments += ["--trace-file", str(self._waves_file())]
            with open(log, "wb") as output:
                # A session of its own: Ctrl-C in the parent's terminal does not reach the child.
                process = subprocess.Popen(
                    arguments,
                    cwd=log.parent,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=inherited,
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            region.close()
            raise
        finally:
            theirs.close()
        self._child = child = _Child(process, ours, region, log, keep_log=self._log_dir is not None)
        self._finalizer = weakref.finalize(self, child.release)
        ours.settimeout(START_SECONDS)
        try:
            if ours.recv(MESSAGE_BYTES, socket.MSG_WAITALL) != READY:
                raise self._died("ended while it started")
        except TimeoutError:
            raise self._died(f"was not ready after {START_SECONDS:.0f} s") from None
        except OSError:
            raise self._died("ended while it started") from None
        except BaseException:
            self._stop()
            raise
        ours.settimeout(POLL_SECONDS)

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        self._past_cycles += child.region.cycles
        if self._job is not None:  # it may be in the middle of a long burst, whose result nobody wants
            child.process.kill()
            self._job = None
        child.release()
        if self._finalizer is not None:
            self._finalizer.detach()

    def _log_file(self) -> Path:
        folder = self._log_dir or cache_folder() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        if self._log_dir is None:
            _remove_old_logs(folder)
        return folder / f"simulator-{os.getpid()}-{self._number}-{self._starts}.log"

    def _waves_file(self) -> Path:
        assert self.waves is not None
        self.waves.parent.mkdir(parents=True, exist_ok=True)
        if self._starts == 1:
            return self.waves
        return self.waves.with_name(f"{self.waves.stem}-{self._starts}{self.waves.suffix}")

    # ---- exchange ---------------------------------------------------------------------------------------------------

    def _run(self, job: _Job) -> NDArray[np.uint64]:
        assert self._child is not None
        region = self._child.region
        header = region.header
        total = len(job.words)
        while True:
            used, number = job.state
            if number == 0:
                count = min(total - used, region.capacity)
                region.input[:count] = job.words[used : used + count]
                header[Field.IN_COUNT] = count
                header[Field.MORE] = used + count < total
                self._sequence = number = self._sequence + 1
                job.state = (used, number)
            self._command(number)
            taken, reason = header[Field.IN_USED], header[Field.REASON]
            output = region.output[: header[Field.OUT_COUNT]].copy()
            if reason == Reason.FINISHED and not job.output:
                return output
            job.output.append(output)
            if reason == Reason.FINISHED:
                return np.concatenate(job.output)
            job.state = (used + taken, 0)

    def _command(self, number: int) -> None:
        """Have the child run the burst in the region; returns when it is over."""
        assert self._child is not None
        header, control = self._child.region.header, self._child.control
        header[Field.COMMAND] = number
        try:
            if header[Field.ASLEEP] or not self._spins:
                control.send(number.to_bytes(MESSAGE_BYTES, "little"))
            if self._spins:
                end = time.perf_counter() + SPIN_SECONDS
                while time.perf_counter() < end:
                    if header[Field.ANSWER] == number:
                        return
            header[Field.PARENT_WAITS] = 1
            self._wait(number)
            header[Field.PARENT_WAITS] = 0
        except (ConnectionError, BrokenPipeError):
            raise self._died("ended") from None

    def _wait(self, number: int) -> None:
        """Wait on the socket until the burst is over. Messages that come too late belong to earlier bursts."""
        assert self._child is not None
        header, control = self._child.region.header, self._child.control
        alive, cycles = time.monotonic(), -1
        while header[Field.ANSWER] != number:
            try:
                if not control.recv(MESSAGE_BYTES):
                    raise self._died("ended")
            except TimeoutError:
                now = time.monotonic()
                if cycles != header[Field.CYCLES]:
                    alive, cycles = now, header[Field.CYCLES]
                elif now - alive > STALL_SECONDS:
                    raise self._died(f"showed no sign of life for {STALL_SECONDS:.0f} s") from None

    def _died(self, what: str) -> SimulatorDied:
        """End what is left of the process and describe what became of it."""
        assert self._child is not None
        child = self._child
        child.keep_log = True
        with suppress(subprocess.TimeoutExpired):  # its socket is closed, so it is about to end if it did not hang
            child.process.wait(timeout=2)
        code = child.process.poll()
        cycles, reason = child.region.cycles, child.region.header[Field.REASON]
        if code is None:
            child.process.kill()
            how = f"{what} and was killed"
        elif reason == Reason.STUCK:
            how = (
                f"was stopped by its watchdog: the chip stayed busy for {self._watchdog:,} clock cycles "
                "without taking or sending a word"
            )
        elif code < 0:
            how = f"{what}: killed by signal {_signal_name(-code)}"
        else:
            how = f"{what}: exit code {code}"
        self._job = None
        self._stop()
        return SimulatorDied(
            f"the simulator process {child.process.pid} {how} (clock cycle {cycles:,}); log {child.log}:\n"
            + _tail(child.log)
        )


def default_watchdog(cfg: ChipConfig) -> int:
    """Several times the clock cycles of the longest sample: every synapse active in each of ``MAX_STEPS`` steps."""
    step = cfg.weight_depth + 8 * cfg.neuron_depth + cfg.in_words + 100
    return max(50_000_000, 4 * MAX_STEPS * step)


def _signal_name(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


def _tail(log: Path) -> str:
    try:
        file: IO[bytes]
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError as error:
        return f"    (not readable: {error})"
    return "\n".join(f"    {line}" for line in lines[-LOG_LINES:])


def _remove_old_logs(folder: Path) -> None:
    """Keep the newest logs; those of running simulators are among them or were written today."""
    with suppress(OSError):
        logs = sorted(folder.glob("simulator-*.log"), key=lambda path: path.stat().st_mtime)
        for path in logs[:-KEPT_LOGS]:
            if time.time() - path.stat().st_mtime > 86_400:
                path.unlink()
