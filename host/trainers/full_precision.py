"""The network of the binary trainers with real weights, computed on the host: what a bit per synapse costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from host.chip import sample_seeds
from host.encoding import input_spikes
from host.trainers.base import FloatArray, Samples, TrainingError, adam, require_number
from host.trainers.binary import CountClassifier, Spikes, Weights
from host.trainers.binary_gradient import KEEP_MEM, KEEP_SYN
from rtl.config import ChipConfig, ConfigError

LANES = 64
"""Lanes of the chip to compare with: random input spikes depend on them."""

CHUNK = 256
"""Samples of a forward pass at most, to bound memory."""


class FullPrecision(CountClassifier):
    """The same neurons, read-out, loss and gradients in floating point, without rounding and without a chip.

    Parameters
    ----------
    layers : sequence of int
        Number of inputs, then of neurons of each layer.
    learning_rate : float
        Of Adam at the start; it falls to zero along a cosine. Weights start normal with variance 1.
    epochs, batch_size, ... :
        As in :class:`BinaryStraightThrough`; the read-outs "raster+gate" and "recompute" are one and the same here.

    Attributes
    ----------
    latent_ : list of float64 arrays (n_pre, n_post), the weights
    readout_, temperature_, classes_, history_ :
        As in :class:`BinaryStraightThrough`.
    cost_ : samples and timesteps that were computed in the training
    """

    _start_sd = 1.0
    _free_on_resume = ("temperature",)
    _presented = 0
    """Samples computed since the training began."""

    def __init__(
        self,
        layers: Sequence[int],
        epochs: int = 60,
        *,
        batch_size: int = 64,
        read_out: str = "raster+gate",
        gradient: str = "bptt",
        timesteps: int = 25,
        encoding: str = "rate",
        gain: float = 20.0,
        learning_rate: float = 0.01,
        reset_size: int | Sequence[int] | None = None,
        window: float = 1.0,
        n_classes: int | None = None,
        temperature: str | float = "none",
        validation_fraction: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            epochs,
            batch_size=batch_size,
            read_out=read_out,
            gradient=gradient,
            timesteps=timesteps,
            encoding=encoding,
            gain=gain,
            reset_size=reset_size,
            window=window,
            n_classes=n_classes,
            temperature=temperature,
            validation_fraction=validation_fraction,
            seed=seed,
        )
        self.layers = layers
        self.learning_rate = learning_rate

    def _check_common(self) -> None:
        super()._check_common()
        require_number("learning_rate", self.learning_rate, 0, 1e3)

    @property
    def _cfg(self) -> ChipConfig:
        """The chip that this network stands for."""
        try:
            return ChipConfig(self.layers, lanes=LANES, binary_weights=True)  # type: ignore[arg-type]
        except ConfigError as error:
            raise TrainingError(f"Setting layers = {self.layers!r}: {error}.") from None

    def _begin(self, training: Any, classes: NDArray[Any]) -> None:
        super()._begin(training, classes)
        self._presented = 0

    def _rate(self) -> float:
        return float(self.learning_rate)

    def _weights(self, course: Any) -> Weights:
        return self._mode(course.vector)

    def _mode(self, vector: FloatArray) -> Weights:
        return self._split(vector.astype(np.float32))

    def _step(self, course: Any, gradient: FloatArray, rate: float) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        return adam(course.vector, course.moments, gradient, rate, course.updates + 1)

    def _forward(self, weights: Weights, x: Samples, seed: int) -> tuple[Spikes, list[NDArray[np.bool_]]]:
        return self._present(weights, x, sample_seeds(seed, len(x)))

    def _present(
        self, weights: Weights, x: Samples, seeds: NDArray[np.uint32]
    ) -> tuple[Spikes, list[NDArray[np.bool_]]]:
        inputs = input_spikes(self._cfg, x, int(self.timesteps), encoding=self.encoding, seeds=seeds)
        self._presented += len(inputs)
        spikes, gates = [inputs], []
        for matrix, size in zip(weights, self._sizes(), strict=True):
            below = spikes[-1]
            drive = below.reshape(-1, len(matrix)).astype(np.float32) @ matrix
            fired, gate = integrate(drive.reshape(*below.shape[:2], -1), float(size), float(self.window) * size)
            spikes.append(fired)
            gates.append(gate)
        if self.read_out == "counts":
            return [layer.sum(axis=1) for layer in spikes], []
        return spikes, gates

    def _counts(self, weights: Weights, x: Samples) -> NDArray[Any]:
        found, seeds = [], sample_seeds(self._seed, len(x))
        for at in range(0, len(x), CHUNK):
            part = slice(at, at + CHUNK)
            last = self._present(weights, x[part], seeds[part])[0][-1]
            found.append(last if last.ndim == 2 else last.sum(axis=1))
        return np.concatenate(found)

    def _totals(self) -> dict[str, int]:
        return {"samples": self._presented, "timesteps": self._presented * int(self.timesteps)}


@njit(cache=True, nogil=True)
def integrate(drive, size, reach):
    """The chip's neurons without rounding: spikes and gates, bool (N, T, n).

    Parameters
    ----------
    drive : float32 (N, T, n), weighted sums of spikes
    size, reach : reset size A and half width of the gate around the threshold A / 2
    """
    n_samples, steps, n = drive.shape
    keep_syn, keep_mem = np.float32(KEEP_SYN), np.float32(KEEP_MEM)
    amount, half, reach = np.float32(size), np.float32(size / 2), np.float32(reach)
    spikes = np.empty((n_samples, steps, n), np.bool_)
    gates = np.empty((n_samples, steps, n), np.bool_)
    for sample in range(n_samples):
        current = np.zeros(n, np.float32)
        membrane = np.zeros(n, np.float32)
        for t in range(steps):
            for i in range(n):
                current[i] = keep_syn * current[i] + drive[sample, t, i]
                v = keep_mem * membrane[i] + current[i] - half
                gates[sample, t, i] = abs(v) < reach
                fires = v >= 0
                spikes[sample, t, i] = fires
                membrane[i] = v + half - amount * np.float32(fires)
    return spikes, gates
