"""Frames of the host against the plain ones of the reference, and input events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden_reference import make_frame

from host import Events
from host.errors import EventsError
from host.link import frame, frames
from rtl.registers import Opcode


def test_frames_are_as_the_manual_says() -> None:
    rng = np.random.default_rng(0)
    for lengths in ([0], [3], [5, 5, 5], [4, 0, 2, 7], []):
        payloads = [rng.integers(0, 1 << 32, n).astype(np.uint32) for n in lengths]
        seeds = rng.integers(0, 1 << 32, len(lengths)).astype(np.uint32)
        flat = np.concatenate([np.zeros(0, np.uint32), *payloads])
        got = frames(Opcode.RUN, seeds, flat, np.array(lengths, np.int64), first_tag=254)
        expected = [
            make_frame(Opcode.RUN, int(seed), payload.tolist(), (254 + k) % 256)
            for k, (seed, payload) in enumerate(zip(seeds, payloads, strict=True))
        ]
        assert got.tolist() == [word for words in expected for word in words]
    assert frame(Opcode.READ, 7, np.array([1], np.uint32), 3).tolist() == make_frame(Opcode.READ, 7, [1], 3)


def test_events_are_sorted_and_counted_once() -> None:
    events = Events([[3, 0, 0, 3], [], [1]], [[1, 5, 2, 1], [], [0]])
    assert [times.tolist() for times in events.times] == [[0, 0, 3], [], [1]]
    assert [addresses.tolist() for addresses in events.addresses] == [[2, 5, 1], [], [0]]
    assert events.words.tolist() == [2, 5, 3 << 16 | 1, 1 << 16]
    assert len(events) == 3
    assert repr(events) == "Events(3 samples, 4 spikes)"


def test_events_and_rasters() -> None:
    raster = np.random.default_rng(0).random((5, 7, 9)) < 0.2
    raster[2] = False
    events = Events.from_dense(raster)
    assert np.array_equal(events.to_dense(7, 9), raster)
    assert events == Events(events.times, events.addresses)
    assert events == Events.from_dense(raster.astype(int))
    for index in (slice(1, 4), [4, 0, 0], np.array([True, False, True, True, False]), -1, slice(0, 0)):
        assert np.array_equal(events[index].to_dense(7, 9), np.atleast_3d(raster[index]).reshape(-1, 7, 9))
    assert [len(sample.words) for sample in events] == raster.sum(axis=(1, 2)).tolist()
    assert len(Events([], []).times) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Events([[1]], []), "1 lists of times and 0 of addresses"),
        (lambda: Events([[1, 2]], [[1]]), "sample 0 has 2 times and 1 addresses"),
        (lambda: Events([[1.0]], [[1]]), "times of sample 0 must be a 1-D list of integers, got float64"),
        (lambda: Events([[-1]], [[1]]), "time -1: must be an integer from 0 to 65533"),
        (lambda: Events([[65534]], [[1]]), "time 65534"),
        (lambda: Events([[1]], [[65536]]), "address 65536: must be an integer from 0 to 65535"),
        (lambda: Events.from_dense(np.zeros((2, 3))), "raster"),
        (lambda: Events.from_dense(np.full((1, 2, 3), 2)), "raster"),
        (lambda: Events.from_dense(np.zeros((2, 3, 4))), "float64"),
        (lambda: Events([[3]], [[0]]).to_dense(3, 1), "time step 3: must be below steps = 3"),
    ],
)
def test_wrong_events_are_refused(make: Any, message: str) -> None:
    with pytest.raises(EventsError, match=message):
        make()
