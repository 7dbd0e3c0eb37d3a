"""Where frames go: the golden model, the simulated chip, or any object with an ``exchange`` of the same kind."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from host.errors import BackendError
from rtl.config import ChipConfig

ALLOWED = '"golden" (the model), "sim" (the simulated chip), "serial:PORT" (a board, as in "serial:/dev/ttyUSB0")'


@runtime_checkable
class Backend(Protocol):
    """Carries link words (bits 31..0 the word, bit 32 `last`) to a chip in its reset state and back."""

    def exchange(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Send `words` and return all answers to the complete frames in them."""
        ...

    def close(self) -> None:
        """Release what the backend holds."""
        ...


def is_serial(name: str) -> bool:
    """Whether a backend's name is that of a board at a serial port."""
    return name.partition(":")[0] == "serial"


def open_backend(
    name: str | Backend, cfg: ChipConfig, **options: Any
) -> tuple[Backend, tuple[type[BaseException], ...]]:
    """The backend called `name`, and the exceptions by which it says that it died and wants a ``restart()``.

    Raises
    ------
    BackendError
        For a name that is not allowed, or options that the backend does not have.
    """
    if not isinstance(name, str):
        if not isinstance(name, Backend):
            raise BackendError(f"backend = {name!r}: must be {ALLOWED} or an object with exchange() and close()")
        return name, getattr(name, "died", ())
    if name == "golden":
        from pymodel.chip import GoldenChip

        if options:
            raise BackendError(f'backend "golden" has no options, got {sorted(options)}')
        return GoldenChip(cfg), ()
    if name == "sim":
        from testbench.simulator import Simulator, SimulatorDied

        try:
            return Simulator(cfg, **options), (SimulatorDied,)
        except TypeError as error:
            if options:
                raise BackendError(f'backend "sim" does not take the options {sorted(options)} ({error})') from error
            raise
    if is_serial(name):
        from host.serial import SerialBackend, parse

        device, named = parse(name)
        unknown = sorted(set(options) - {"baud", "timeout"} | set(options) & set(named))
        if unknown:
            raise BackendError(f'backend {name!r} does not take the options {unknown}: there are "baud" and "timeout"')
        return SerialBackend(cfg, device, **named, **options), SerialBackend.died
    raise BackendError(f"backend = {name!r}: must be {ALLOWED}")
