"""The cocotb side of the in-the-loop simulator: runs in the child process and waits for the parent's commands.

Commands stand in the shared region (:mod:`testbench.region`); a message on the socket only says that there is one.
The coroutine blocks in ``recv``: simulated time stands still meanwhile, so there is nothing that cocotb's scheduler
could do. Commands that follow within microseconds are served in ``simulator.cpp`` and never get here.
"""

from __future__ import annotations

import mmap
import os
import socket
from typing import Any

import cocotb
from cocotb.handle import Immediate
from cocotb.triggers import Timer, ValueChange

from testbench.region import HEADER_WORDS, Field

CONTROL_VARIABLE = "SPIKELOOP_CONTROL"
"""Environment variable with the file descriptor of the socket to the parent."""

REGION_VARIABLE = "SPIKELOOP_REGION"
"""Environment variable with the file descriptor of the shared region."""

MESSAGE_BYTES = 8
READY = bytes(MESSAGE_BYTES)
"""Sent once after reset; no command has the number 0."""


@cocotb.test()
async def serve(dut: Any) -> None:
    """Reset the chip, then start a burst per message until the parent hangs up."""
    await _reset(dut)
    control = socket.socket(fileno=int(os.environ[CONTROL_VARIABLE]))
    header = memoryview(mmap.mmap(int(os.environ[REGION_VARIABLE]), 8 * HEADER_WORDS)).cast("Q")
    # `done` may have changed an even number of times when cocotb looks at it again; the cycle count never repeats.
    clocked = ValueChange(dut.cycles)
    header[Field.ASLEEP] = 1
    control.send(READY)
    while len(control.recv(MESSAGE_BYTES, socket.MSG_WAITALL)) == MESSAGE_BYTES:
        if header[Field.COMMAND] == header[Field.ANSWER]:
            continue  # the burst that this message was about has been made already
        dut.go.set(Immediate(1 - int(dut.go.value)))
        await clocked
        while dut.go.value != dut.done.value:
            await clocked
    control.close()


async def _reset(dut: Any) -> None:
    """Four clock cycles of reset with a clock made here; afterwards the main clocks the chip (``simulator.cpp``)."""
    dut.go.value = 0
    dut.rst.value = 1
    for level in (0, 1) * 4:
        dut.clk.value = level
        await Timer(5, "ns")
    dut.clk.value = 0
    await Timer(5, "ns")
    dut.rst.value = 0
    await Timer(5, "ns")
