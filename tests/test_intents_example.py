"""examples/intents.py on tiny data: it runs, and goes on after a kill to the same numbers."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from backends import on_one_backend
from processes import ROOT, run_together
from test_data_intents import write_banking77

pytestmark = on_one_backend("its parts have tests of their own on each")

TINY = ["--data", "banking77", "--few", 1, "--epochs", 1, "--teacher-epochs", 1, "--seeds", 2]
SCRIPT = ROOT / "examples" / "intents.py"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intents")
    write_banking77(folder)
    return folder


def arguments(data_dir, output):
    return [SCRIPT, "all", "--data-dir", data_dir, "--output", output, *TINY]


def reported(printed):
    return printed[printed.index("test accuracy, points") :]


def test_a_killed_comparison_goes_on_to_the_same_numbers(data_dir, tmp_path):
    (whole,) = run_together([arguments(data_dir, tmp_path / "whole")])
    for row in (
        "ATS as suggested from the small teacher, over the student alone",
        "ATS instead of one temperature, large teacher",
    ):
        assert len(re.findall(rf"^ *[+-]\d+\.\d\d ± \d+\.\d\d  {row}$", whole, re.MULTILINE)) == 1

    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments(data_dir, killed))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        # Some students of the first sweep are done, not all.
        while not list(killed.rglob("temperatures.json")) and process.poll() is None:
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not list(killed.rglob("comparison.json"))
    (resumed,) = run_together([arguments(data_dir, killed)])
    assert reported(resumed).replace("killed", "whole") == reported(whole)
