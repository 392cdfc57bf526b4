"""Runs the tests once per Keras backend and adds up the results.

A process has one Keras backend for life, so each backend gets pytest processes of its own. It gets
two, whose shares conftest.py tells apart, because three backends do not divide evenly among two
cores. As many of them run at a time as there are cores, the longest first:

    python tests/run_all.py                          # all three
    python tests/run_all.py --backends jax,torch -k losses -x    # the rest goes to pytest
"""

import argparse
import asyncio
import dataclasses
import functools
import operator
import os
import signal
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("tensorflow", "jax", "torch")
# The longest first, so that no core is left with a long one when the others are done; what starts
# processes last, for these want more than one.
JOBS = [
    *((backend, "in_this_process") for backend in ("jax", "tensorflow", "torch")),
    *((backend, "in_others") for backend in ("torch", "tensorflow", "jax")),
]
SECONDS_TO_STOP = 10
LONGEST_LINE = 2**24
LINES_OF_A_FAILURE = 30
SLOWEST = 10
# pytest's exit codes. 5: no test was chosen, as may happen to one share of a backend.
TESTS_FAILED = 1
GOOD_EXIT_CODES = {0, 5}


@dataclasses.dataclass
class Result:
    """What one backend's processes came to."""

    backend: str
    passed: int
    skipped: int
    failures: tuple[str, ...]
    seconds: float
    exit_codes: tuple[int, ...]
    durations: tuple[tuple[float, str], ...] = ()

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def note(self) -> str:
        bad = [code for code in self.exit_codes if code not in GOOD_EXIT_CODES]
        # Code 1 says no more than that tests failed.
        if unexplained := [code for code in bad if code != TESTS_FAILED or not self.failed]:
            return f"pytest ended with exit code {unexplained[0]}"
        return "" if self.passed or self.failed else "no test ran"

    @property
    def succeeded(self) -> bool:
        return set(self.exit_codes) <= GOOD_EXIT_CODES and not self.failed and not self.note

    def __add__(self, other: "Result") -> "Result":
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in dataclasses.fields(self)
            if field.name != "backend"
        }
        return Result(self.backend, **sums)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run the tests once per Keras backend.",
        epilog="Arguments not listed here are passed to pytest.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--backends",
        type=parse_backends,
        default=BACKENDS,
        help=f"comma-separated, out of {', '.join(BACKENDS)} (default: all)",
    )
    options, pytest_arguments = parser.parse_known_args()
    try:
        results = asyncio.run(run_backends(options.backends, pytest_arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\nInterrupted.", file=sys.stderr)
        return 130
    print_failures(results)
    print_slowest(results)
    print_table(results)
    return 0 if all(result.succeeded for result in results) else 1


def parse_backends(text: str) -> tuple[str, ...]:
    backends = tuple(dict.fromkeys(text.split(",")))
    if unknown := set(backends) - set(BACKENDS):
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(BACKENDS)}"
        )
    return backends


async def run_backends(backends: tuple[str, ...], pytest_arguments: list[str]) -> list[Result]:
    # Whatever stops this process must reach the children, which are in sessions of their own.
    this_task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this_task.cancel)

    cores = os.cpu_count() or 1
    jobs = [job for job in JOBS if job[0] in backends]
    at_once = min(cores, len(jobs))
    turn = asyncio.Semaphore(at_once)
    width = max(map(len, backends))
    with tempfile.TemporaryDirectory() as folder:

        async def run(backend: str, share: str) -> Result:
            async with turn:
                report = Path(folder, f"{backend}-{share}.xml")
                command = pytest_command(backend, share, report, pytest_arguments)
                environment = backend_environment(backend, threads=max(1, cores // at_once))
                environment["KERAS_ATS_SHARE_OF_TESTS"] = share
                started = time.monotonic()
                exit_code = await stream(command, environment, prefix=f"{backend:<{width}} | ")
                return read_report(report, backend, exit_code, time.monotonic() - started)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(*job)) for job in jobs]
        results = [task.result() for task in tasks]
    return [
        functools.reduce(operator.add, [each for each in results if each.backend == backend])
        for backend in backends
    ]


def pytest_command(backend: str, share: str, report: Path, arguments: list[str]) -> list[str]:
    # A cache for each: they run at the same time, and `--lf` means the failures of this one.
    cache = f"cache_dir=.pytest_cache/{backend}-{share}"
    return [sys.executable, "-m", "pytest", "-o", cache, f"--junitxml={report}", *arguments]


def backend_environment(backend: str, threads: int) -> dict[str, str]:
    """The caller's environment with this backend chosen; thread counts already set there win."""
    # Each backend would start a thread per core; processes side by side share the cores instead.
    # conftest.py sets those of JAX, which needs some for each device.
    defaults = {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "OMP_NUM_THREADS": str(threads),  # torch, scikit-learn
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": str(threads),
    }
    return {
        **defaults,
        **os.environ,
        "KERAS_BACKEND": backend,
        "COVERAGE_FILE": f".coverage.{backend}",  # `coverage combine` finds them by this name.
        "PYTHONUNBUFFERED": "1",
    }


async def stream(command: list[str], environment: dict[str, str], prefix: str) -> int:
    """Runs a command, printing each line as it comes, and returns its exit code."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LONGEST_LINE,
        # A Ctrl-C would otherwise reach pytest twice, from the terminal and from `stop`, and the
        # second one cuts its own cleaning up short.
        start_new_session=True,
    )
    try:
        async for line in process.stdout:
            print(prefix + line.decode(errors="replace").rstrip(), flush=True)
        return await process.wait()
    finally:
        if process.returncode is None:
            await stop(process)


async def stop(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGINT)
    try:
        # `communicate` keeps reading: a child that waits for room in its pipe would never end.
        await asyncio.wait_for(process.communicate(), SECONDS_TO_STOP)
    except TimeoutError:
        process.kill()
        await process.wait()


def read_report(report: Path, backend: str, exit_code: int, seconds: float) -> Result:
    passed = skipped = 0
    failures = []
    durations = []
    # A process that crashed, or never started its tests, leaves no report.
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname')}::{case.get('name')}"
            durations.append((float(case.get("time", 0)), name))
            if (failure := failure_text(case)) is not None:
                failures.append(f"{name}\n{failure}")
            elif case.find("skipped") is not None:
                skipped += 1
            else:
                passed += 1
    return Result(
        backend, passed, skipped, tuple(failures), seconds, (exit_code,), tuple(durations)
    )


def failure_text(case: ElementTree.Element) -> str | None:
    """The last lines of what a test failed with; None if it did not fail."""
    for kind in ("failure", "error"):
        if (element := case.find(kind)) is not None:
            return "\n".join((element.text or "").splitlines()[-LINES_OF_A_FAILURE:])
    return None


def print_failures(results: list[Result]) -> None:
    """Again, in one place: pytest's own report stands between the lines of the other backends."""
    for result in results:
        for failure in result.failures:
            print(f"\nFAILED on {result.backend}: {failure}")


def print_slowest(results: list[Result]) -> None:
    """What to look at first when the run takes too long."""
    durations = [
        (seconds, result.backend, name) for result in results for seconds, name in result.durations
    ]
    print(f"\nThe {SLOWEST} slowest tests:")
    for seconds, backend, name in sorted(durations, reverse=True)[:SLOWEST]:
        print(f"{seconds:>7.1f} s  {backend:<12}{name}")


def print_table(results: list[Result]) -> None:
    print(f"\n{'backend':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for result in results:
        print(
            f"{result.backend:<12}{result.passed:>8}{result.failed:>8}{result.skipped:>9}"
            f"{result.seconds:>9.1f}  {result.note}".rstrip()
        )
    passed, failed, skipped = (
        sum(getattr(result, name) for result in results) for name in ("passed", "failed", "skipped")
    )
    # A process that died is a failure, though no test of it could say so.
    failed += sum(1 for result in results if not result.succeeded and not result.failed)
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")


if __name__ == "__main__":
    sys.exit(main())
