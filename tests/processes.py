"""Starts processes that work together; none of them outlives the call."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 600  # Far more than any needs on a busy machine: only what waits for ever reaches it.
SECONDS_TO_STOP = 10
LONGEST_REPORT = 3000  # characters of each process's output in a failure
# Most of a test's time on JAX is compilation. Code that is less optimised takes longer to run, but
# with all three it is there in a third of the time. What is computed is the same.
COMPILE_FAST = " ".join(
    [
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
)
# XLA's own limit, of 40 seconds, would also end what is merely slow.
XLA_FLAGS = f"{COMPILE_FAST} --xla_cpu_collective_call_terminate_timeout_seconds={SECONDS}"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def run_together(commands, *, seconds=SECONDS, folder=None, **environment) -> list[str]:
    """What each command prints; all are Python's arguments, all run at the same time.

    Processes that wait for one another for ever are the typical failure of several devices: when
    one fails, or time is up, all are killed, with whatever they have started, and the error shows
    what each has written. A value of None removes a variable from the environment.
    """
    merged = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    merged = {name: value for name, value in merged.items() if value is not None}
    with contextlib.ExitStack() as stack:
        # Files, because a full pipe would stop a process that nobody reads from.
        written = [
            [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in ("stdout", "stderr")]
            for _ in commands
        ]
        processes = []
        try:
            for command, (stdout, stderr) in zip(commands, written, strict=True):
                arguments = [sys.executable, *map(str, command)]
                processes.append(
                    subprocess.Popen(
                        arguments,
                        cwd=folder,
                        env=merged,
                        stdout=stdout,
                        stderr=stderr,
                        start_new_session=True,  # a process group of its own, killed as a whole
                    )
                )
            problem = _wait(processes, seconds)
        finally:
            for process in processes:
                _stop(process)
        printed, complaints = zip(*[map(_content, pair) for pair in written], strict=True)
    if problem:
        reports = [
            f"--- process {index}:\n{out[-LONGEST_REPORT:]}\n{complaint[-LONGEST_REPORT:]}"
            for index, (out, complaint) in enumerate(zip(printed, complaints, strict=True))
        ]
        raise AssertionError("\n".join([problem, *reports]))
    return list(printed)


def _wait(processes, seconds) -> str:
    """Waits until all have succeeded; otherwise says what went wrong."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        codes = [process.poll() for process in processes]
        if any(codes):
            return f"Exit codes {codes}; None was still running."
        if None not in codes:
            return ""
        time.sleep(0.05)
    return f"Not done after {seconds} s."


def _stop(process) -> None:
    """Ends a process and its group; gently first, because torchrun's workers have other groups."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + SECONDS_TO_STOP
        while time.monotonic() < deadline:
            process.poll()  # A process that nobody has asked about still counts as one.
            os.killpg(process.pid, 0)  # Raises once all of the group are gone.
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _content(file) -> str:
    file.seek(0)
    return file.read()
