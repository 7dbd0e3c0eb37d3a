"""The verification bench itself, on the stand-in core: drivers, third-party streams, reporting, waves, reference
benches.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtl.config import ChipConfig
from testbench import bench, cosim

STANDIN = (Path(__file__).parent / "standin.sv").read_text(encoding="utf-8")
CFG = ChipConfig(layers=(4, 4, 2))


@pytest.mark.parametrize(("rx", "tx"), [(0.0, 0.0), (0.7, 0.0), (0.0, 0.7), (0.4, 0.4)])
def test_streams_keep_every_word_under_pauses(rx: float, tx: float) -> None:
    log = cosim.run(
        "testbench.cocotb_standin", CFG, parameters={"rx": rx, "tx": tx, "seed": 5}, verilog=STANDIN, timeout=120
    )
    assert "PASS=3" in log


def test_failure_is_reported_with_the_log() -> None:
    with pytest.raises(AssertionError, match=r"1 failed(?s:.)*asked to fail"):
        cosim.run("testbench.cocotb_standin", CFG, parameters={"fail": True}, testcase="failing", verilog=STANDIN)


def test_a_run_without_tests_is_no_pass() -> None:
    with pytest.raises(AssertionError, match="0 passed"):
        cosim.run("testbench.cocotb_standin", CFG, testcase="nothing_of_this_name", verilog=STANDIN)


def test_waves_of_a_cosimulation(tmp_path: Path) -> None:
    waves = tmp_path / "waves.fst"
    cosim.run("testbench.cocotb_standin", CFG, testcase="failing", verilog=STANDIN, waves=waves)
    assert waves.stat().st_size > 300


def test_benches_send_the_words_of_the_simulator() -> None:
    words = np.arange(3000, dtype=np.uint64) * np.uint64(77)
    speeds = bench.compare(CFG, words, slow_words=words[:200], repeats=1, verilog=STANDIN)
    assert speeds.over_cocotb > 1
    seconds, cycles, output = bench.bare(CFG, words, verilog=STANDIN)
    assert np.array_equal(output, words ^ np.uint64(0xFFFF_FFFF))
    assert seconds > 0
    assert cycles > len(words)
