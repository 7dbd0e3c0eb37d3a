"""What a chip's input encoder makes of samples (``docs/chip.md``, Inputs), for hosts that need the input spikes too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from host.chip import check_samples
from host.events import Events
from pymodel.encoder import RATE_START, encode_bernoulli
from pymodel.random import seed_banks
from rtl.config import ChipConfig
from rtl.registers import Encoding


def input_spikes(
    cfg: ChipConfig, x: Any, steps: int, encoding: str = "rate", seed: int = 0, seeds: Any = None
) -> NDArray[np.bool_]:
    """Spikes of the inputs of the chip `cfg` in :meth:`host.chip.Chip.run` with the same arguments.

    They depend on nothing else: not on the network, nor on the die.

    Parameters
    ----------
    x, steps, encoding, seed, seeds
        As in :meth:`host.chip.Chip.run`.

    Returns
    -------
    bool ``(n_samples, steps, n_in)``, one byte for each.

    Raises
    ------
    UserError
        For arguments that are not allowed.

    Examples
    --------
    >>> input_spikes(ChipConfig(layers=(3, 1)), [[0, 128, 255]], steps=4)[0].astype(int).tolist()
    [[0, 1, 1], [0, 0, 1], [0, 1, 1], [0, 0, 1]]
    """
    x, steps, code, seeds = check_samples(cfg, x, steps, seed, encoding, seeds)
    if isinstance(x, Events):
        return x.to_dense(steps, cfg.n_in)
    raster = np.zeros((*x.shape[:1], steps, cfg.n_in), bool)
    if code == Encoding.BERNOULLI:
        _bernoulli(x, seeds.astype(np.int64), cfg.lanes, raster)
        return raster
    accumulator = np.full_like(x, RATE_START)
    for step in range(steps):
        accumulator += x
        # The carry: a sum of eight bits that is below what was added.
        np.less(accumulator, x, out=raster[:, step])
    return raster


@njit(cache=True, nogil=True)
def _bernoulli(x: NDArray[np.uint8], seeds: NDArray[np.int64], lanes: int, raster: NDArray[np.bool_]) -> None:
    n_samples, steps, n_in = raster.shape
    bank = np.zeros(lanes // 2, np.int64)
    active = np.zeros(n_in, np.int64)
    for s in range(n_samples):
        seed_banks(seeds[s], bank)
        for t in range(steps):
            for k in range(encode_bernoulli(x[s], lanes, bank, active)):
                raster[s, t, active[k]] = True
