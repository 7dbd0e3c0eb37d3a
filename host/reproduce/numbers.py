"""Accuracies and their differences, paired by test sample, and how they are written."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.reproduce.cells import Result, summarise

SIGMAS = 2.0
"""Standard errors within which two accuracies are called equal."""

NOT_MEASURED = "not measured"


def pack(flags: NDArray[np.bool_]) -> str:
    """Flags as text."""
    return base64.b64encode(np.packbits(flags).tobytes()).decode()


def unpack(text: str, n: int) -> NDArray[np.bool_]:
    """Inverse of :func:`pack`."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))[:n].astype(bool)


def difference(first: Mapping[int, Result], second: Mapping[int, Result]) -> dict[str, float] | None:
    """Mean of first - second over the seeds that both have, and its standard error.

    Both saw the same test samples, so the differences are paired by sample. The standard error is the larger of that
    over test samples and that over seeds.
    """
    seeds = sorted(set(first) & set(second))
    if not seeds:
        return None
    pairs, tests = [], set()
    for seed in seeds:
        a, b = first[seed], second[seed]
        if a["test"] != b["test"]:
            return None
        tests.add(a["test"])
        right = [unpack(each["right"], each["n_test"]).astype(float) for each in (a, b)]
        pairs.append(right[0] - right[1])
    n = len(pairs[0])
    if len(tests) == 1:
        over_samples = float(np.mean(pairs, axis=0).std(ddof=1) / n**0.5)
    else:
        over_samples = float((np.mean([pair.var(ddof=1) for pair in pairs]) / n / len(pairs)) ** 0.5)
    found = summarise(float(pair.mean()) for pair in pairs)
    return {"mean": found["mean"], "se": max(over_samples, found["se"]), "n": found["n"]}


def percent(value: float, n_test: int = 10_000) -> str:
    """A share in per cent, with the digits that the test set carries."""
    return f"{100 * value:.{2 if n_test >= 5000 else 1}f}"


def points(gap: Mapping[str, float], n_test: int = 10_000) -> str:
    """A difference in points with its standard error."""
    digits = 2 if n_test >= 5000 else 1
    return f"{100 * gap['mean']:+.{digits}f} (se {100 * gap['se']:.{digits}f})"


def share(values: Mapping[str, float] | None, n_test: int) -> str:
    """Mean and, of several seeds, standard deviation of accuracies."""
    if values is None:
        return "-"
    spread = f" ± {percent(values['sd'], n_test)}" if values["n"] > 1 else ""
    return percent(values["mean"], n_test) + spread


def listed(items: Sequence[str]) -> str:
    """Items with commas and an "and"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def answered(what: str, answer: str, lines: list[str]) -> dict[str, Any]:
    """A claim with its answer and the reasons."""
    return {"claim": what, "answer": answer, "lines": lines}
