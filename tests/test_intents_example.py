"""examples/intents.py on tiny data: it runs, and goes on after a kill to the same numbers."""

import re
import runpy
import shutil
import signal
import sys
import time

from backends import on_one_backend
from processes import ROOT, started
from test_data_intents import write_banking77

pytestmark = on_one_backend("its parts have tests of their own on each")

SCRIPT = str(ROOT / "examples" / "intents.py")
TINY = ["--data", "banking77", "--few", "1", "--epochs", "1", "--teacher-epochs", "1"]
TINY += ["--seeds", "1", "--correct-temperatures", "4", "--wrong-temperatures", "2", "4"]


def arguments(data_dir, output):
    return [SCRIPT, "all", "--data-dir", str(data_dir), "--output", str(output), *TINY]


def report_of(data_dir, output, monkeypatch, capsys):
    """What a run prints of the differences, in this process: importing is most of its time."""
    monkeypatch.setattr(sys, "argv", arguments(data_dir, output))
    runpy.run_path(SCRIPT, run_name="__main__")
    printed = capsys.readouterr().out
    return printed[printed.index("test accuracy, points") :]


def test_a_killed_comparison_goes_on_to_the_same_numbers(tmp_path, monkeypatch, capsys):
    write_banking77(tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = report_of(tmp_path, whole, monkeypatch, capsys)
    for row in (
        "ATS as suggested from the small teacher, over the student alone",
        "ATS instead of one temperature, large teacher",
    ):
        assert len(re.findall(rf"^ *[+-]\d+\.\d\d ± nan  {row}$", expected, re.MULTILINE)) == 1

    # The teachers are those of the other run, all students are new.
    done = shutil.ignore_patterns("sweep-*", "comparison-*")
    shutil.copytree(whole, killed, ignore=done)
    with started(arguments(tmp_path, killed)) as process:
        while not list(killed.rglob("temperatures.json")) and process.is_alive():
            time.sleep(0.01)
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not list(killed.rglob("comparison.json"))
    assert report_of(tmp_path, killed, monkeypatch, capsys) == expected
