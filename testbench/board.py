"""A simulated board: its serial pins are a pseudo-terminal, which any program opens as it would open a real port.

::

    with BoardSimulator(cfg) as board:
        chip = Chip(cfg, backend=f"serial:{board.device}")

``python -m testbench.board --layers 30,16,2`` starts one, prints the device and serves it until Ctrl-C.

The board is ``rtl.board.Board``, simulated in a process of its own (``board.cpp``), which shifts bits into `rx` and
samples `tx` with a UART of its own. The clock stands still while nothing happens; the board has no timers, so it
cannot notice.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import tty
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rtl.config import ChipConfig, ConfigError
from testbench.build import build, kept_text
from testbench.lazy import lazy

CLOCK_HZ = 16_000
"""What the simulated board says of its clock, which is about as slow: its lights, whose ticks are parts of a second,
tell soon that the chip is idle."""

TICK_BITS = 4
"""A tick of the lights is a 16th of the time in which the first one blinks."""

COUNTERS = ("cycles", "bytes_to_board", "bytes_from_board", "damaged_to_board", "damaged_from_board", "framing_errors")
"""The 64-bit fields of the shared memory, in the order of ``board.cpp``."""

SHARED_BYTES = 4096


class BoardDied(RuntimeError):
    """The process of a simulated board is gone; the message says how and ends with what it wrote."""


def board_verilog(cfg: ChipConfig, clock_hz: int, baud: int) -> str:
    """Verilog of module ``board``: :class:`rtl.board.Board` with ports `clk`, `rst`, `rx`, `tx` and `led`."""

    def make() -> str:
        from amaranth.back import verilog

        from rtl.board import Board

        text: str = verilog.convert(Board(cfg, clock_hz, baud), name="board", emit_src=False, strip_internal_attrs=True)
        return text

    return kept_text(cfg, make, board=[clock_hz, baud])


class BoardSimulator:
    """A board with the chip ``cfg``; a context manager.

    Parameters
    ----------
    cfg
        The chip; the simulator is built first if it is not in the cache (:func:`testbench.build.build`).
    divisor
        Clock cycles per bit of the serial line, from 4 on.
    damage
        Probability with which a byte is damaged, in either direction.
    wire
        How: ``False`` changes, loses or doubles the byte. ``True`` inverts the wire for the time of a bit, out of step
        with the bits, and adds glitches while the line is idle, too short for a start bit.
    seed
        Of the damage.
    verilog
        Verilog of a module ``board`` to simulate instead of that of ``cfg``.

    Attributes
    ----------
    device
        Path of the pseudo-terminal.
    """

    def __init__(
        self,
        cfg: ChipConfig,
        *,
        divisor: int = 8,
        damage: float = 0.0,
        wire: bool = False,
        seed: int = 0,
        verilog: str | None = None,
    ) -> None:
        if divisor < 4:
            raise ValueError(f"divisor = {divisor!r}: must be at least 4 clock cycles per bit")
        if not 0 <= damage <= 1:
            raise ValueError(f"damage = {damage!r}: must be a probability, from 0 to 1")
        if seed < 0:
            raise ValueError(f"seed = {seed!r}: must not be negative")
        self.cfg = cfg
        if verilog is None:
            verilog = lazy(board_verilog(cfg, CLOCK_HZ, CLOCK_HZ // divisor))
        program = build(cfg, "board", verilog=verilog)
        tick = 1 << (CLOCK_HZ - 1).bit_length() - TICK_BITS
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.device = os.ttyname(self._slave)
        self._control, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as shared:
            shared.truncate(SHARED_BYTES)
            self._shared = mmap.mmap(shared.fileno(), SHARED_BYTES)
            inherited = (master, theirs.fileno(), shared.fileno())
            arguments = [*inherited, divisor, tick, damage, int(wire), seed]
            # A session of its own: Ctrl-C in the parent's terminal does not reach the child.
            self._process = subprocess.Popen(
                [str(program), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=inherited,
                start_new_session=True,
            )
        # Only the child has the other side now: if it dies, whoever has the device open sees it unplugged.
        os.close(master)
        theirs.close()
        self._counters = memoryview(self._shared)[: 8 * len(COUNTERS)].cast("Q")
        self._finalizer = weakref.finalize(self, _end, self._process, self._control, self._slave)

    # ---- interface --------------------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, int]:
        """Clock cycles and bytes so far, by the names of :data:`COUNTERS`; those damaged on purpose among them."""
        return dict(zip(COUNTERS, self._counters.tolist(), strict=True))

    @property
    def cycles(self) -> int:
        """Clock cycles so far."""
        return self._counters[0]

    @property
    def pid(self) -> int:
        """Process id of the simulation."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def wait(self) -> None:
        """Return when the board was closed.

        Raises
        ------
        BoardDied
            If its process ends for another reason.
        """
        code = self._process.wait()
        if not self._finalizer.alive:
            return
        how = f"killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        self._log.seek(0)
        written = self._log.read()[-2000:].decode("utf-8", "replace")
        raise BoardDied(f"the simulated board's process {self.pid} ended: {how}\n{written}".rstrip())

    def close(self) -> None:
        """End the process and free everything but the counters. May be called again."""
        self._finalizer()
        self._log.close()

    def __enter__(self) -> BoardSimulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _end(process: subprocess.Popen[bytes], control: socket.socket, slave: int) -> None:
    control.close()  # the child sees the hang-up and ends by itself
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    os.close(slave)


# ---- command line ---------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m testbench.board", description="Simulate a board whose serial port is a pseudo-terminal."
    )
    parser.add_argument("--layers", help="sizes, inputs first, for example 30,16,2")
    parser.add_argument("--config", type=Path, help="the chip's configuration as JSON, instead of --layers")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="further field of it (JSON)"
    )
    parser.add_argument("--damage", type=float, default=0.0, help="probability that a byte is damaged (default: 0)")
    parser.add_argument("--wire", action="store_true", help="damage bits on the wire instead of bytes")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    parser.add_argument("--divisor", type=int, default=8, help="clock cycles per bit (default: 8)")
    return parser


def _config(arguments: argparse.Namespace) -> ChipConfig:
    values: dict[str, Any] = {"die_tables": False}
    if arguments.config is not None:
        values = json.loads(arguments.config.read_text(encoding="utf-8"))
    if arguments.layers is not None:
        values["layers"] = [int(size) for size in arguments.layers.split(",")]
    for option in arguments.option:
        name, _, value = option.partition("=")
        values[name] = json.loads(value)
    return ChipConfig.from_dict(values)


def main(arguments: list[str] | None = None) -> int:
    """Start a board, print its device, serve until Ctrl-C; the exit code."""
    given = _parser().parse_args(arguments)
    try:
        with BoardSimulator(
            _config(given), divisor=given.divisor, damage=given.damage, wire=given.wire, seed=given.seed
        ) as board:
            print(board.device, flush=True)
            with suppress(KeyboardInterrupt):
                board.wait()
            print(", ".join(f"{name} {value:,}" for name, value in board.counters.items()))
    except (ConfigError, OSError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
