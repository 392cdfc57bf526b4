"""The launcher of the other tests: whatever happens, it ends and leaves nothing running."""

import os
import time
from pathlib import Path

import pytest
from backends import on_one_backend
from processes import free_ports, run_together

pytestmark = on_one_backend("processes of Python")


def test_output_of_each():
    printed = run_together([["-c", f"print({index})"] for index in range(2)])
    assert printed == ["0\n", "1\n"]


def test_one_failure_ends_all():
    started = time.monotonic()
    with pytest.raises(AssertionError, match="no such thing"):
        run_together(
            [["-c", "import time; time.sleep(60)"], ["-c", "raise ValueError('no such thing')"]],
            seconds=60,
        )
    assert time.monotonic() - started < 30


def test_children_do_not_outlive_the_limit(tmp_path):
    child = tmp_path / "child"
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(child)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    with pytest.raises(AssertionError, match="Not done after 10 s"):
        run_together([["-c", script]], seconds=10)
    deadline = time.monotonic() + 10
    while is_running(int(child.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(child.read_text()))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A killed process stays in the table until someone asks for its exit code.
    status = Path(f"/proc/{pid}/status")
    return not (status.exists() and "State:\tZ" in status.read_text())


def test_ports_differ():
    assert len(set(free_ports(3))) == 3
