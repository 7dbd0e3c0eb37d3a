"""Accuracies and their differences, paired by test sample, and how they are written."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.datasets import Split
from host.reproduce.cells import Result, summarise

SIGMAS = 2.0
"""Standard errors within which two accuracies are called equal."""

NEAR = 0.01
"""A difference of accuracies up to which a network is called close to another one."""

EQUAL, ABOVE, CLOSE, BELOW, UNCLEAR = "equal", "above", "close", "below", "unclear"
VERDICTS = (ABOVE, EQUAL, CLOSE, BELOW, UNCLEAR)
REACHED = (ABOVE, EQUAL)
WITHIN = (ABOVE, EQUAL, CLOSE)
WORDS = {
    ABOVE: "above it",
    EQUAL: "equal",
    CLOSE: f"within {100 * NEAR:g} point",
    BELOW: f"more than {100 * NEAR:g} point below",
    UNCLEAR: "too few test samples to tell",
    None: "-",
}
"""Verdicts in the tables."""

NOT_MEASURED = "not measured"


def facts(split: Split) -> dict[str, Any]:
    """What the tables say about the data; two results with the same `test` are of the same test samples."""
    rows = np.ascontiguousarray(split.rows_test).astype("<i8")
    return {
        "n_train": len(split.y_train),
        "n_test": len(split.y_test),
        "n_in": split.n_features,
        "n_out": split.n_classes,
        "test": hashlib.sha256(rows.tobytes()).hexdigest()[:12],
    }


def pack(flags: NDArray[np.bool_]) -> str:
    """Flags as text."""
    return base64.b64encode(np.packbits(flags).tobytes()).decode()


def unpack(text: str, n: int) -> NDArray[np.bool_]:
    """Inverse of :func:`pack`."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))[:n].astype(bool)


def difference(first: Mapping[int, Result], second: Mapping[int, Result]) -> dict[str, float] | None:
    """Mean of first - second over the seeds that both have, and its standard error; see :func:`contrast`."""
    return contrast([first], [second])


def contrast(plus: Sequence[Mapping[int, Result]], minus: Sequence[Mapping[int, Result]]) -> dict[str, float] | None:
    """Accuracies `plus` less accuracies `minus`, mean over the seeds that all have, and its standard error.

    All saw the same test samples, so the differences are paired by sample. The standard error is the larger of that
    over test samples and that over seeds. ``None`` if there is no common seed, or if the samples were others.
    """
    groups = [*plus, *minus]
    seeds = sorted(set.intersection(*(set(group) for group in groups)))
    if not seeds:
        return None
    pairs, tests = [], set()
    for seed in seeds:
        found = [group[seed] for group in groups]
        if len({each["test"] for each in found}) > 1:
            return None
        tests.add(found[0]["test"])
        right = [unpack(each["right"], each["n_test"]).astype(float) for each in found]
        pairs.append(np.sum(right[: len(plus)], axis=0) - np.sum(right[len(plus) :], axis=0))
    n = len(pairs[0])
    if len(tests) == 1:
        over_samples = float(np.mean(pairs, axis=0).std(ddof=1) / n**0.5)
    else:
        over_samples = float((np.mean([pair.var(ddof=1) for pair in pairs]) / n / len(pairs)) ** 0.5)
    over_seeds = summarise(float(pair.mean()) for pair in pairs)
    return {"mean": over_seeds["mean"], "se": max(over_samples, over_seeds["se"]), "n": over_seeds["n"]}


def verdict(difference: Mapping[str, float]) -> str:
    """What to call a difference by the interval of two standard errors around it."""
    mean, margin = difference["mean"], SIGMAS * difference["se"]
    if mean - margin > 0:
        return ABOVE
    if mean + margin < 0:
        return CLOSE if mean >= -NEAR else BELOW
    return EQUAL if abs(mean) + margin <= NEAR else UNCLEAR


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
