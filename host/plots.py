"""One look for all figures; the palette is one that colour-blind readers can tell apart (Okabe and Ito 2008)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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
