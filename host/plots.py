"""One look for all figures; the palette is one that colour-blind readers can tell apart (Okabe and Ito 2008)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from host.calibration import Reliability

BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#6E6E6E",
)
PALETTE = (BLUE, ORANGE, GREEN, RED, PINK, SKY, GREY, "#000000")

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "savefig.dpi": 130,
    "figure.dpi": 130,
}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings of all our figures, restored afterwards."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        yield


def new_figure(width: float = 6.4, height: float = 3.4) -> Figure:
    """An empty figure (inches) without any display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG (the same input gives the same bytes)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    path.write_bytes(buffer.getvalue())
    return path


def thousands(value: float) -> str:
    """A count in short form: 950, 12k, 3.4M, 1.2G."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            text = f"{value / limit:.3g}"
            return f"{text}{suffix}"
    return f"{value:.0f}"


def running_mean(values: Any, window: int) -> Any:
    """Mean of the last `window` values at every position."""
    array = np.asarray(values, dtype=float)
    total = np.cumsum(np.insert(array, 0, 0.0))
    index = np.arange(1, len(array) + 1)
    low = np.maximum(0, index - window)
    return (total[index] - total[low]) / (index - low)


def reliability_diagram(curves: Mapping[str, Reliability], width: float = 4.6) -> Figure:
    """Accuracy against confidence of one or more classifiers by name, and below how their confidences are spread."""
    figure = new_figure(width, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=":", label="calibrated")
    for index, (name, curve) in enumerate(curves.items()):
        colour = PALETTE[index % len(PALETTE)]
        used = curve.counts > 0
        label = f"{name}, ECE {curve.error:.3f}"
        upper.plot(curve.confidence[used], curve.accuracy[used], "o-", color=colour, markersize=4, label=label)
        edges = np.linspace(0, 1, len(curve.counts) + 1)
        parts = 100 * curve.counts / curve.counts.sum()
        lower.stairs(parts, edges, fill=True, color=colour, alpha=0.25)
        lower.stairs(parts, edges, color=colour, linewidth=1.3)
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1.02)
    upper.set_ylabel("accuracy")
    upper.legend(loc="upper left")
    upper.set_title("Reliability")
    lower.set_xlabel("confidence (largest probability)")
    lower.set_ylabel("samples (%)")
    return figure


def confidence_map(
    axis: Any, probabilities: NDArray[np.float64], points: Any = None, labels: Any = None, size: float = 7.0
) -> Any:
    """Draw the confidence of a two-dimensional classifier over the unit square into `axis`; returns the image.

    Parameters
    ----------
    probabilities : (side, side, n_classes) as :func:`host.calibration.confidence_map` gives them
    points, labels : samples (N, 2) in the unit square to mark, and their classes (N,)
    size : of the marks, in square points
    """
    side, _, classes = probabilities.shape
    image = axis.imshow(
        probabilities.max(axis=2),
        origin="lower",
        extent=(0, 1, 0, 1),
        cmap="cividis",
        vmin=1 / classes,
        vmax=1,
        interpolation="nearest",
    )
    winner = probabilities.argmax(axis=2)
    at = (np.arange(side) + 0.5) / side
    for k in range(1, classes):
        if 0 < (winner >= k).mean() < 1:
            axis.contour(at, at, winner >= k, levels=[0.5], colors="white", linewidths=1.0)
    if points is not None:
        for k in range(classes):
            x, y = np.asarray(points)[np.asarray(labels) == k].T
            axis.scatter(x, y, s=size, color=(ORANGE, SKY, PINK, GREEN)[k % 4], edgecolor="black", linewidth=0.3)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    return image
