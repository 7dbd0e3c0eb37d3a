"""Simulated dies: how one manufactured chip differs from its ideal.

The distributions follow measurements on analogue neuromorphic chips in kind (gain mismatch, saturating transfer, weaker
inhibition, dead synapses, spread of thresholds and leaks). `level` scales all of them: 0 is the ideal chip, 1 is
typical, 2 is bad. Learners never see a die; it is written to write-only memories of the chip.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.errors import DieError
from rtl.config import ChipConfig
from rtl.registers import (
    DIE_GLOBAL_SPACE,
    DIE_JITTER_OFFSET,
    DIE_NEUTRAL_GAIN,
    DIE_NEUTRAL_RATIO,
    DIE_NOISE_OFFSET,
    DIE_THRESHOLD_NOISE_OFFSET,
    DIE_UNLIMITED,
    TRANSFER_CLASSES,
)

KINDS = ("gain", "transfer", "negative_gain", "stuck", "threshold", "leak")
"""Distortions that `level` scales, see :class:`Die`."""

SINGLES: dict[str, tuple[float, float, str]] = {
    "positive_gain": (1.0, 31.0, "factor of all positive weights"),
    "negative_gain": (1.0, 31.0, "factor of all negative weights"),
    "gain_spread": (0.0, 10.0, "standard deviation of the logarithm of the gain of each synapse"),
    "gaussian_gain": (0.0, 10.0, "sd of a gain 1 + sd * N of each synapse, which may turn its sign"),
    "stuck": (0.0, 1.0, "probability that a synapse is stuck at zero"),
    "compression": (0.0, 1000.0, "k of the saturating transfer tanh(k w / full) * full / k of all synapses"),
    "threshold": (1.0, 31.0, "factor of all thresholds"),
    "threshold_spread": (0.0, 10.0, "standard deviation of the logarithm of each threshold's factor"),
    "gaussian_threshold": (0.0, 10.0, "sd of a factor 1 + sd * N of each threshold, which may turn its sign"),
    "leak": (1.0, 63.0, "factor of all membrane decays"),
    "leak_spread": (0.0, 10.0, "standard deviation of the logarithm of each membrane decay's factor"),
    "noise": (0.0, 37000.0, "standard deviation of the membrane noise of each step, in units of the membrane"),
    "threshold_noise": (0.0, 0.575, "relative standard deviation of each threshold, drawn anew for every sample"),
    "jitter": (0.0, 9.18, "standard deviation of every arrival, in time steps; chips with delays only"),
}
"""Distortions that can be set alone: neutral value, largest value, meaning. The smallest value is 0."""

SYNAPSES = ("positive_gain", "negative_gain", "gain_spread", "gaussian_gain", "stuck", "compression")
"""Those of :data:`SINGLES` that distort synapses; chips with binary weights have none of them."""

GAIN_LIMIT = (1 << 13) - 1
RATIO_LIMIT = (1 << 15) - 1
LEAK_RATIO_RANGE = (16, 12_000)
"""1/64 to 11.7, in 1/1024."""

NOISE_SD = math.sqrt(4 * (16**2 - 1) / 12) / 16
"""Standard deviation of the membrane noise of amplitude 1: four uniform nibbles, divided by 16."""

AMPLITUDES: dict[str, tuple[int, float]] = {
    "noise": (DIE_NOISE_OFFSET, NOISE_SD),
    "threshold_noise": (DIE_THRESHOLD_NOISE_OFFSET, NOISE_SD / DIE_NEUTRAL_RATIO),
    "jitter": (DIE_JITTER_OFFSET, NOISE_SD / 16),
}
"""Noises of the chip: offset of the amplitude in DIE_GLOBAL and standard deviation of amplitude 1.

The largest values of :data:`SINGLES` are within the widths of the amplitudes: 16, 10 and 8 bits."""


@dataclass(frozen=True)
class DieTables:
    """Link words of the die memories, int64, each in the order of its region; padding lanes are neutral.

    `synapse` and `bias` are empty for chips with binary weights, which have no such regions.
    """

    synapse: NDArray[np.int64]
    neuron: NDArray[np.int64]
    bias: NDArray[np.int64]
    globals: NDArray[np.int64]


class Die:
    """One simulated die.

    Parameters
    ----------
    seed
        The individual: equal seeds on equal layer sizes give equal dies, whatever the lanes.
    level
        Scale of the distortions in `kinds`, 0 (ideal) to 4. With N standard normal and u uniform on 0..1, drawn for
        every synapse (bias entries are synapses too) or neuron:

        ============= =============================================================================
        gain          weight times ``exp(0.5 level N)``
        transfer      ``f(w) = sign(w) * F * tanh(k |w| / F) / k``, ``k = 3 level u``, F the largest weight
        negative_gain negative weights times ``exp(-0.7 level |N|)``
        stuck         stuck at zero with probability ``0.15 level``
        threshold     threshold times ``exp(0.4 level N)``
        leak          membrane decay times ``exp(0.5 level N)``, within 1/64..11.7
        ============= =============================================================================
    kinds
        Which of these to use, default all. Leaving one out does not change the draws of the others.
    **singles
        Further distortions, independent of `level` (:data:`SINGLES`), for example ``threshold=4.0``.

    Raises
    ------
    DieError
        For unknown names and values out of range.

    Notes
    -----
    The chip has eight transfer classes, each the minimum of three lines: the identity, a slanted line, a cap. k is
    rounded to the nearest of eight values spread evenly over its range; the lines are fitted for the least largest
    error, which is at most 1.9 % of F (at k = 1.5) and below 5 % of the largest value of the curve.

    Amplitudes of noise are whole numbers on the chip: ``noise`` is rounded to multiples of 0.58, ``threshold_noise`` of
    0.00056, ``jitter`` of 0.036 steps. No arrival comes before its spike, so a delay shorter than the jitter grows on
    average; nor does one come later than the longest delay that the chip can hold.

    On chips with binary weights synapses and biases are exact: of `level` only ``threshold`` and ``leak`` act, and
    distortions of synapses among the singles are refused. A threshold's factor is kept within -32..32.
    """

    def __init__(self, seed: int = 0, level: float = 0.0, kinds: Iterable[str] | None = None, **singles: float) -> None:
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
            raise DieError(f"Die seed = {seed!r}: must be an integer from 0 on")
        if isinstance(kinds, str):
            kinds = (kinds,)
        self.seed = int(seed)
        self.level = self._number("level", level, 4.0)
        chosen = KINDS if kinds is None else tuple(kinds)
        unknown = sorted(set(chosen) - set(KINDS))
        if unknown:
            raise DieError(f"Die kinds {unknown}: must be among {', '.join(KINDS)}")
        self.kinds: tuple[str, ...] = tuple(kind for kind in KINDS if kind in chosen)
        unknown = sorted(set(singles) - set(SINGLES))
        if unknown:
            raise DieError(f"Die distortion {', '.join(unknown)}: must be among {', '.join(SINGLES)}")
        self.singles: dict[str, float] = {
            name: self._number(name, singles[name], SINGLES[name][1]) for name in SINGLES if name in singles
        }

    @staticmethod
    def _number(name: str, value: Any, limit: float) -> float:
        good = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not good or not 0 <= value <= limit:
            raise DieError(f"Die {name} = {value!r}: must be a number from 0 to {limit:g}")
        return float(value)

    @classmethod
    def only(cls, *, seed: int = 0, **singles: float) -> Die:
        """A die with just the named distortions of :data:`SINGLES`, for example ``Die.only(positive_gain=0.25)``."""
        return cls(seed, 0.0, (), **singles)

    # ---- description -------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; :meth:`from_dict` is the inverse."""
        return {"seed": self.seed, "level": self.level, "kinds": list(self.kinds), **self.singles}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Die:
        """Inverse of :meth:`to_dict`; raises :class:`DieError` for unknown names."""
        return cls(**values)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Die:
        """Inverse of :meth:`to_json`; raises :class:`DieError` for other text."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise DieError(f"the description of a die is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise DieError(f"the description of a die must be a JSON object, got {type(values).__name__}")
        return cls.from_dict(values)

    def severity(self) -> dict[str, float]:
        """Size of each distortion in effect, for reports; empty for the ideal chip.

        Spreads are standard deviations of logarithms, ``transfer`` is the largest k, ``stuck`` a probability, ``noise``
        in units of the membrane, ``threshold_noise`` a share of the threshold, ``jitter`` in time steps; factors are as
        given.
        """
        scale = {"gain": 0.5, "transfer": 3.0, "negative_gain": 0.7, "stuck": 0.15, "threshold": 0.4, "leak": 0.5}
        result = {f"level_{kind}": scale[kind] * self.level for kind in self.kinds if self.level}
        return result | {name: value for name, value in self.singles.items() if value != SINGLES[name][0]}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Die) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        singles = "".join(f", {name}={value:g}" for name, value in self.singles.items())
        kinds = "" if self.kinds == KINDS else f", kinds={self.kinds!r}"
        return f"Die(seed={self.seed}, level={self.level:g}{kinds}{singles})"

    # ---- tables ------------------------------------------------------------------------------------------------

    def check(self, cfg: ChipConfig) -> None:
        """Raise :class:`DieError` unless the chip `cfg` can be distorted like this."""
        if not cfg.die_tables:
            raise DieError(f"{self!r} needs a chip with die tables: set ChipConfig.die_tables = True")
        jitter = self.singles.get("jitter", 0.0)
        if jitter and not cfg.delay_slots:
            raise DieError(
                f"Die jitter = {jitter:g}: must be 0 on a chip without delays, or set ChipConfig.delay_slots"
            )
        if not cfg.distorts_synapses:
            exact = "on a chip with binary weights, whose synapses are exact"
            for name in SYNAPSES:
                value, neutral = self.singles.get(name, SINGLES[name][0]), SINGLES[name][0]
                if value != neutral:
                    raise DieError(f"Die {name} = {value:g}: must be {neutral:g} or left out {exact}")
            if self.level and not self._scale("threshold") and not self._scale("leak"):
                raise DieError(f"Die kinds = {self.kinds!r}: must hold threshold or leak {exact}")

    def tables(self, cfg: ChipConfig) -> DieTables:
        """The words to write into the die memories of the chip `cfg`; raises :class:`DieError` as :meth:`check`."""
        self.check(cfg)
        lanes = cfg.lanes
        neutral = _synapse_words(np.float64(1), np.float64(1), np.int64(0))
        synapse = np.full(cfg.weight_depth * lanes * cfg.distorts_synapses, neutral, np.int64)
        bias = np.full(cfg.neuron_depth * lanes * cfg.distorts_synapses, neutral, np.int64)
        neuron = np.full(cfg.neuron_depth * lanes, DIE_NEUTRAL_RATIO | DIE_NEUTRAL_RATIO << 16, np.int64)
        for layer, (n_pre, n_post) in enumerate(cfg.shapes):
            at = cfg.neuron_base[layer] * lanes
            neuron[at : at + n_post] = self._neurons(layer, n_post)
            if not cfg.distorts_synapses:
                continue
            words = cfg.words[layer] * lanes
            # The last row is the bias, a synapse of a source that always spikes.
            drawn = self._synapses(layer, n_pre + 1, n_post)
            start = cfg.weight_base[layer] * lanes
            synapse[start : start + n_pre * words].reshape(n_pre, words)[:, :n_post] = drawn[:-1]
            bias[at : at + n_post] = drawn[-1]
        return DieTables(synapse, neuron, bias, self._globals(cfg))

    def _generator(self, purpose: str, layer: int) -> np.random.Generator:
        """A generator of its own for every purpose, so that no distortion changes what another one draws."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode()), layer])

    def _scale(self, kind: str) -> float:
        return self.level if kind in self.kinds else 0.0

    def _classes(self) -> NDArray[np.float64]:
        low = self.singles.get("compression", 0.0)
        return np.linspace(low, low + 3.0 * self._scale("transfer"), TRANSFER_CLASSES)

    def _synapses(self, layer: int, rows: int, columns: int) -> NDArray[np.int64]:
        def normal(purpose: str) -> NDArray[np.float64]:
            return self._generator(purpose, layer).standard_normal((rows, columns))

        def uniform(purpose: str) -> NDArray[np.float64]:
            return self._generator(purpose, layer).random((rows, columns))

        one = self.singles.get
        gain = np.exp(0.5 * self._scale("gain") * normal("gain") + one("gain_spread", 0.0) * normal("gain_spread"))
        gain *= 1.0 + one("gaussian_gain", 0.0) * normal("gaussian_gain")
        gain[uniform("stuck") < 0.15 * self._scale("stuck")] = 0.0
        gain[uniform("stuck_only") < one("stuck", 0.0)] = 0.0
        weaker = np.exp(-0.7 * self._scale("negative_gain") * np.abs(normal("negative_gain")))
        classes = self._classes()
        k = classes[0] + 3.0 * self._scale("transfer") * uniform("transfer")
        nearest = np.abs(k[..., None] - classes).argmin(axis=-1)
        return _synapse_words(
            gain * one("positive_gain", 1.0), gain * weaker * one("negative_gain", 1.0), nearest.astype(np.int64)
        )

    def _neurons(self, layer: int, size: int) -> NDArray[np.int64]:
        def factor(kind: str, scale: float) -> NDArray[np.float64]:
            spread = self.singles.get(f"{kind}_spread", 0.0)
            exponent = scale * self._scale(kind) * self._generator(kind, layer).standard_normal(size)
            exponent += spread * self._generator(f"{kind}_spread", layer).standard_normal(size)
            return np.exp(exponent) * self.singles.get(kind, 1.0) * DIE_NEUTRAL_RATIO

        normal = self._generator("gaussian_threshold", layer).standard_normal(size)
        gain = factor("threshold", 0.4) * (1.0 + self.singles.get("gaussian_threshold", 0.0) * normal)
        threshold = np.rint(np.clip(gain, -RATIO_LIMIT, RATIO_LIMIT)).astype(np.int64)
        leak = np.rint(factor("leak", 0.5))
        if self._scale("leak") or "leak_spread" in self.singles:
            leak = np.clip(leak, *LEAK_RATIO_RANGE)
        return threshold & 0xFFFF | leak.astype(np.int64) << 16

    def _globals(self, cfg: ChipConfig) -> NDArray[np.int64]:
        table = np.zeros(DIE_GLOBAL_SPACE, np.int64)
        for index, k in enumerate(self._classes().tolist() if cfg.distorts_synapses else ()):
            table[4 * index : 4 * index + 3] = transfer_lines(k, cfg.weight_bits)
        for name, (offset, unit) in AMPLITUDES.items():
            table[offset] = round(self.singles.get(name, 0.0) / unit)
        return table


def _synapse_words(positive: Any, negative: Any, transfer: Any) -> NDArray[np.int64]:
    """Words of DIE_SYNAPSE and DIE_BIAS from two factors and a transfer class; gains saturate at +-32."""

    def field(gain: Any) -> NDArray[np.int64]:
        fixed = np.rint(np.clip(gain * DIE_NEUTRAL_GAIN, -GAIN_LIMIT, GAIN_LIMIT))
        return fixed.astype(np.int64) & ((1 << 14) - 1)

    words: NDArray[np.int64] = field(positive) | field(negative) << 14 | transfer << 28
    return words


@lru_cache(maxsize=256)
def transfer_lines(k: float, weight_bits: int) -> tuple[int, int, int]:
    """Slope (in 1/256), offset and cap (in 1/16 weight) that come closest to ``F * tanh(k a / F) / k`` for 0 <= a <= F.

    F is the largest weight. Searched over tangents of the curve, lowered, and caps; for ``k = 0`` the neutral lines.
    """
    if k == 0:
        return 0, DIE_UNLIMITED, DIE_UNLIMITED
    full = 16 * ((1 << (weight_bits - 1)) - 1)
    x = np.linspace(0.0, 1.0, 101)
    curve = np.tanh(k * x) / k
    touch = np.linspace(0.05, 0.95, 31) * min(1.0, 2.5 / k)
    slope = np.rint(256 / np.cosh(k * touch) ** 2) / 256
    lowered = np.linspace(0.0, 0.06, 21) / max(1.0, k / 2)
    offset = (np.tanh(k * touch) / k - slope * touch)[:, None] - lowered
    cap = np.linspace(0.85, 1.0, 31) * curve[-1]
    slanted = np.minimum(x, slope[:, None, None] * x + offset[..., None])
    lines = np.minimum(slanted[:, :, None, :], cap[:, None])
    worst = np.abs(lines - curve).max(axis=-1)
    a, b, c = np.unravel_index(int(worst.argmin()), worst.shape)
    return int(slope[a] * 256), max(0, round(float(offset[a, b]) * full)), max(1, round(float(cap[c]) * full))
