"""Starts processes that work together; none of them outlives the call.

What a process is for takes a second or two, and its imports take five to ten. So a server imports
Keras, its backend and TensorFlow once for all tests of a pytest process, before any of them has
started threads or devices, and each process is forked from it. It is a process like any other: with
its own environment, folder, output, session and exit code.
"""

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
import types
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
    what each has written.
    """
    with tempfile.TemporaryDirectory() as written:
        # Files, because a full pipe would stop a process that nobody reads from.
        outputs = [
            [Path(written, f"{index}-{stream}") for stream in ("stdout", "stderr")]
            for index in range(len(commands))
        ]
        with contextlib.ExitStack() as stack:
            processes = [
                stack.enter_context(started(command, folder=folder, output=output, **environment))
                for command, output in zip(commands, outputs, strict=True)
            ]
            problem = _wait(processes, seconds)
        printed, complaints = zip(*[map(_content, output) for output in outputs], strict=True)
    if problem:
        reports = [
            f"--- process {index}:\n{out[-LONGEST_REPORT:]}\n{complaint[-LONGEST_REPORT:]}"
            for index, (out, complaint) in enumerate(zip(printed, complaints, strict=True))
        ]
        raise AssertionError("\n".join([problem, *reports]))
    return list(printed)


@contextlib.contextmanager
def started(command, *, folder=None, output=(os.devnull, os.devnull), **environment):
    """A process with these arguments of Python; it is ended with whatever it has started."""
    context = multiprocessing.get_context("forkserver")
    # What is not installed is left out.
    context.set_forkserver_preload(["torch", "tensorflow", "keras", "keras_ats"])
    merged = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    arguments = [*map(str, command)], folder, merged, [*map(str, output)]
    process = context.Process(target=_run, args=arguments)
    process.start()
    try:
        yield process
    finally:
        _stop(process)


def _run(command, folder, environment, output):
    """Does in a forked process what Python does with the arguments `command`."""
    os.setsid()  # a process group of its own, killed as a whole
    for path, descriptor in zip(output, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder or os.getcwd())
    what, *arguments = command
    installed = [place for place in sys.path if place.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [*os.environ["PYTHONPATH"].split(os.pathsep), *installed]
    try:
        if what == "-c":
            code, *arguments = arguments
            sys.argv[:] = ["-c", *arguments]
            sys.path.insert(0, "")
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(code, "<string>", "exec"), vars(main))
        else:
            sys.argv[:] = command
            sys.path.insert(0, str(Path(what).parent))
            runpy.run_path(what, run_name="__main__")
    finally:
        atexit._run_exitfuncs()


def _wait(processes, seconds) -> str:
    """Waits until all have succeeded; otherwise says what went wrong."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        codes = [process.exitcode for process in processes]
        if any(codes):
            return f"Exit codes {codes}; None was still running."
        if None not in codes:
            return ""
        time.sleep(0.05)
    return f"Not done after {seconds} s."


def _stop(process) -> None:
    """Ends a process and its group; gently first, because torchrun's workers have other groups."""
    process.terminate()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + SECONDS_TO_STOP
        while time.monotonic() < deadline:
            process.is_alive()  # A process that nobody has asked about still counts as one.
            os.killpg(process.pid, 0)  # Raises once all of the group are gone.
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


def _content(path) -> str:
    # One that was killed at once has written nothing.
    return path.read_text() if path.exists() else ""
