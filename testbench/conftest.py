"""Shows what the lockstep tests compared, also when pytest captures output or runs in several processes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

PROPERTY = "lockstep"


@pytest.fixture
def show(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Give a line to the summary at the end of the run."""
    return lambda line: record_property(PROPERTY, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines of all tests, wherever they ran."""
    lines = {
        value: None
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY
    }
    if lines:
        terminalreporter.section("lockstep of chip and golden model")
        for line in lines:
            terminalreporter.write_line(str(line))
