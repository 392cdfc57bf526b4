"""The command line of examples/cifar.py. Nothing here imports Keras: it chooses the backend."""

import argparse
import os
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")
DATASETS = ("cifar10", "cifar100", "cinic10", "tiny_imagenet")
FORMATS = ("saved_model", "onnx", "litert")


def parse(arguments: list[str], description: str) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    teacher = commands.add_parser(
        "teacher",
        parents=[_general(), _training()],
        help="train a network on labels alone: a teacher, or the student for comparison",
    )
    teacher.add_argument("--model", required=True, help="a name of keras_ats.models, as resnet110")
    teacher.add_argument("--run", type=Path, help="its folder (default: runs/NAME-OF-THE-RUN)")

    distill = commands.add_parser(
        "distill",
        parents=[_general(), _training(), _distillation()],
        help="train a student on a teacher",
    )
    distill.add_argument(
        "--method",
        default="ats",
        help="ats; ts (the paper's one temperature, for the teacher only); or the name of a loss "
        "of keras_ats.losses, as it comes (default: ats)",
    )
    distill.add_argument("--temperature", type=float, default=4.0, help="of ts (default: 4)")
    distill.add_argument("--correct-temperature", type=float, default=4.0, help="default: 4")
    distill.add_argument("--wrong-temperature", type=float, default=2.0, help="default: 2")
    distill.add_argument("--run", type=Path, help="its folder (default: runs/NAME-OF-THE-RUN)")

    sweep = commands.add_parser(
        "sweep",
        parents=[_general(), _training(), _distillation()],
        help="choose ATS temperatures on a validation split carved from train",
    )
    grid = {"type": float, "nargs": "+"}
    sweep.add_argument("--correct-temperatures", **grid, default=[2.0, 3.0, 4.0, 5.0, 6.0])
    sweep.add_argument("--wrong-temperatures", **grid, default=[1.0, 2.0, 3.0, 4.0])
    sweep.add_argument("--seeds", type=int, nargs="+", help="default: the one of --seed")
    sweep.set_defaults(validation_fraction=0.1)

    report = commands.add_parser("report", parents=[_general()], help="table of all finished runs")
    report.add_argument("runs", type=Path, nargs="+", help="run folders, or folders of these")
    report.add_argument("--json", type=Path, help="write the rows and the runs there as well")

    export = commands.add_parser(
        "export",
        parents=[_general()],
        help="write a trained network for other programs, and check it",
    )
    export.add_argument("--model", type=Path, required=True, help="a .keras file")
    export.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    export.add_argument("--output", type=Path, help="folder (default: beside the .keras file)")
    return _checked(parser, parser.parse_args(arguments))


def _general() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default=os.environ.get("KERAS_BACKEND", "tensorflow"),
        help="default: KERAS_BACKEND, else tensorflow",
    )
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def _training() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument
    add("--dataset", choices=DATASETS, default="cifar10")
    add("--data-dir", type=Path, help="where the data set lies; nothing is downloaded")
    add("--train-size", type=int, help="class-balanced subset of the training images")
    add("--validation-fraction", type=float, default=0.0, help="carved from train (default: 0)")
    add("--epochs", type=int, default=240, help="the published schedule is scaled (default: 240)")
    add("--batch-size", type=int, default=128)
    add(
        "--learning-rate",
        type=float,
        help="default: 0.05; 0.01 for ShuffleNet and MobileNet, as published",
    )
    add("--weight-decay", type=float, default=5e-4, help="torch's meaning (default: 5e-4)")
    add("--seed", type=int, default=0)
    add(
        "--mixed-precision",
        nargs="?",
        const="mixed_bfloat16",
        choices=("mixed_bfloat16", "mixed_float16"),
        help="without a value: mixed_bfloat16",
    )
    add("--devices", type=int, default=1, help="data-parallel; CPUs are divided as needed")
    add("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    return parser


def _distillation() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--teacher", type=Path, required=True, help="a .keras file")
    parser.add_argument("--student", required=True, help="a name of keras_ats.models, as vgg8")
    parser.add_argument("--kd-weight", type=float, default=0.5, help="of the teacher (default: .5)")
    return parser


def _checked(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> argparse.Namespace:
    for name in ("epochs", "batch_size", "devices", "train_size"):
        number = getattr(chosen, name, None)
        if number is not None and number < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, not {number}")
    if getattr(chosen, "devices", 1) > 1:
        if chosen.backend == "torch":
            parser.error("--devices: on torch see examples/devices/ddp.py, one process per device")
        if chosen.batch_size % chosen.devices:
            parser.error("--batch-size must be a multiple of --devices")
    if chosen.command == "sweep" and not 0 < chosen.validation_fraction < 1:
        parser.error("sweep chooses on validation images: --validation-fraction must be in (0, 1)")
    for name in ("teacher", "model"):
        file = getattr(chosen, name, None)
        if isinstance(file, Path) and not file.is_file():
            parser.error(f"--{name}: there is no file {file}; `teacher` and `distill` write one")
    return chosen


def choose_backend(chosen: argparse.Namespace) -> None:
    """Sets what Keras reads from the environment when it is imported."""
    os.environ["KERAS_BACKEND"] = chosen.backend
