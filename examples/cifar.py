"""The experiment of the ATS paper on CIFAR: teachers, and what a student learns from them.

    python examples/cifar.py teacher --model resnet110 --data-dir DATA
    python examples/cifar.py teacher --model vgg8 --data-dir DATA       # the student alone
    python examples/cifar.py distill --teacher runs/.../model.keras --student vgg8 --method ats \
        --correct-temperature 4 --wrong-temperature 2 --data-dir DATA
    python examples/cifar.py sweep --teacher runs/.../model.keras --student vgg8 --data-dir DATA
    python examples/cifar.py report runs
    python examples/cifar.py export --model runs/.../model.keras --formats onnx litert

Every run has a folder with its options, history, versions and result. The same command goes on
where a run was stopped, however it was stopped, and ends at the same weights. `COMMAND --help`
lists the options.
"""

import os
import sys

from cifar_experiment import options


def main() -> None:
    """Reads the command line, chooses the backend, and only then lets Keras be imported."""
    chosen = options.parse(sys.argv[1:], description=__doc__)
    options.choose_backend(chosen)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from cifar_experiment import commands

    try:
        commands.run(chosen)
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The same command goes on where this run stopped.")
    except (ValueError, OSError, ImportError) as error:
        if chosen.debug:
            raise
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
