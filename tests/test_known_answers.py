"""Published networks with delays: every neuron of the golden model spikes in the step that was worked out elsewhere.

The files hold networks of the DelGrad authors in integers, 1000 samples, and the spike steps that a separate program
gave for them. Several kinds of chip must agree with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from host import Chip, Events, Network, latency
from host.datasets import DATA_VARIABLE, data_folder
from host.datasets.small import yin_yang
from rtl.config import ChipConfig


def known_answers(name: str) -> Any:
    path = data_folder() / "delgrad-known-answers" / f"int_{name}_sh8.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there: {DATA_VARIABLE} must name the folder of delgrad-known-answers")
    return np.load(path, allow_pickle=False)


@pytest.mark.parametrize(
    ("name", "bits", "options"),
    [
        ("H30_WA_b8", 8, {"axonal_delays": True}),
        ("H30_WA_b8", 8, {"lanes": 16, "die_tables": False}),
        ("H30_WA_b10", 10, {"lanes": 4}),
        ("H30_WA_b8", 10, {"axonal_delays": True, "die_tables": False}),
        ("H30_WA_b10", 10, {"axonal_delays": True, "die_tables": False}),
        ("H5_WS_b10", 10, {"lanes": 4, "die_tables": False}),
        ("H5_WS_b10", 16, {"lanes": 32, "state_bits": 32}),
    ],
)
def test_every_first_spike_is_the_known_one(name: str, bits: int, options: dict[str, Any]) -> None:
    known = known_answers(name)
    # There, a spike of a hidden neuron arrives `lat` steps later than here.
    delays = [known["D1"], known["D2"] + known["lat"]]
    cfg = ChipConfig(
        (4, len(known["W2q"]), 3),
        weight_bits=bits,
        delay_slots=int(max(matrix.max() for matrix in delays)) + 1,
        **{"state_bits": int(known["state_bits"]), **options},
    )
    network = Network(
        [known["W1q"], known["W2q"]],
        [int(known["theta1"]), int(known["theta2"])],
        delays=delays,
        decay_syn=int(known["ds"]),
        decay_mem=int(known["dm"]),
        shift=int(known["sh"]),
        reset="none",
        fire_once=True,
    )
    features, labels = yin_yang(1000, 40)
    n, steps = int(known["N"]), int(known["T"])
    events = latency(features, 0.15 * n, 2.0 * n)
    times = known["t_in"]
    assert events == Events.from_times(times) == Events(list(times), [np.arange(4)] * len(times))
    with Chip(cfg) as chip:
        chip.load(network)
        whole = chip.run(events, steps=steps)
        early = chip.run(events, steps=steps, early_end=True)
    hidden, outputs = known["t_hid"], known["t_out"]
    assert np.array_equal(whole.first_spike[0], hidden)
    assert np.array_equal(whole.first_spike[1], outputs)
    assert np.array_equal(early.first_spike[1], outputs)
    # All outputs spike; hidden neurons that would have spiked after the last of them did not.
    end = outputs.max(axis=1)[:, None]
    assert np.array_equal(early.first_spike[0], np.where(hidden <= end, hidden, -1))
    assert early.steps.mean() < steps
    assert np.array_equal(labels, known["labels"])
    first = np.where(whole.first_spike[1] < 0, steps, whole.first_spike[1])
    assert np.mean(first.argmin(axis=1) == labels) == pytest.approx(float(known["acc"]), abs=1e-9)
