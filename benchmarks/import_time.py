"""How long `import keras_ats` takes after `import keras`.

    KERAS_BACKEND=jax python benchmarks/import_time.py [--runs 10]

Each run is a process of its own. Other processes can only make an import slower, so the minimum
counts.
"""

import argparse
import statistics
import subprocess
import sys

SCRIPT = """
import time
import keras
started = time.perf_counter()
import keras_ats
print(time.perf_counter() - started)
"""


def main() -> None:
    """Prints minimum and median over the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    milliseconds = [1000 * seconds_of_one_import() for _ in range(runs)]
    print(
        f"import keras_ats: min {min(milliseconds):.1f} ms, "
        f"median {statistics.median(milliseconds):.1f} ms over {runs} runs"
    )


def seconds_of_one_import() -> float:
    """Seconds that the import takes in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
