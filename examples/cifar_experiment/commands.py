"""What each command of examples/cifar.py does."""

import argparse
import functools
import itertools
from typing import Any

import keras

from cifar_experiment import export, report, training
from cifar_experiment.run_folder import RunFolder
from keras_ats import Distiller, data, files, losses, models

# What defines a run's result, beside what a command adds.
RECIPE = (
    "dataset",
    "train_size",
    "validation_fraction",
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "seed",
    "mixed_precision",
    "devices",
    "backend",
)
SMALL_RATE = ("shufflenet", "mobilenet")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    commands = {
        "teacher": teacher,
        "distill": distill,
        "sweep": sweep,
        "report": report.run,
        "export": export.run,
    }
    if hasattr(options, "mixed_precision"):
        training.divide_cpu(options.devices)
        if options.learning_rate is None:
            name = getattr(options, "model", None) or options.student
            options.learning_rate = 0.01 if name.startswith(SMALL_RATE) else 0.05
    commands[options.command](options)


def teacher(options: argparse.Namespace) -> None:
    """Trains a network on labels alone."""
    config = {"network": options.model, "method": report.ALONE, **recipe(options)}
    folder = RunFolder(options.run or options.runs / run_name(config), config)

    def build(image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
        network = new_network(options, options.model, image_shape, num_classes)
        crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        network.compile(training.sgd(), crossentropy, metrics=["accuracy"])
        return network

    announce(folder, training.train(options, folder, lambda: load_data(options), build))


def distill(options: argparse.Namespace) -> None:
    """Trains a student on a teacher."""
    folder = student_folder(options)
    build = student_builder(options)
    announce(folder, training.train(options, folder, lambda: load_data(options), build))


def sweep(options: argparse.Namespace) -> None:
    """Trains a student per pair of temperatures and seed, and says which pair was best."""
    options.method, options.run = "ats", None
    pairs = list(itertools.product(options.correct_temperatures, options.wrong_temperatures))
    seeds = options.seeds or [options.seed]
    load = functools.lru_cache(maxsize=1)(lambda seed: load_data(options))
    accuracies: dict[tuple[float, float], list[float]] = {pair: [] for pair in pairs}
    for number, (seed, pair) in enumerate(itertools.product(seeds, pairs), start=1):
        options.seed = seed
        options.correct_temperature, options.wrong_temperature = pair
        folder = student_folder(options)
        print(f"Run {number} of {len(pairs) * len(seeds)}: {folder.path}")
        build = student_builder(options)
        result = training.train(options, folder, functools.partial(load, seed), build)
        accuracies[pair].append(result["validation_accuracy"])
    report.print_sweep(accuracies)


def student_folder(options: argparse.Namespace) -> RunFolder:
    """The folder of the distillation that the options describe."""
    config = {
        "network": options.student,
        "method": options.method,
        "temperatures": temperatures(options),
        "kd_weight": options.kd_weight,
        "teacher": options.teacher.parent.name,
        "teacher_file": files.checksum(options.teacher),
        **recipe(options),
    }
    return RunFolder(options.run or options.runs / run_name(config), config)


def student_builder(options: argparse.Namespace) -> training.Build:
    """Makes the compiled distiller."""

    def build(image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
        network = training.load_network(options.teacher)
        student = new_network(options, options.student, image_shape, num_classes)
        distiller = Distiller(network, student)
        distiller.compile(
            training.sgd(),
            kd_loss=kd_loss(options),
            kd_weight=options.kd_weight,
            metrics=["accuracy"],
        )
        return distiller

    return build


def kd_loss(options: argparse.Namespace) -> losses.KDLoss:
    """The loss that `--method` names."""
    pair = temperatures(options)
    return losses.get(options.method) if pair is None else losses.AsymmetricTemperatureKD(*pair)


def temperatures(options: argparse.Namespace) -> list[float] | None:
    """The teacher's temperatures, of the correct class and of the wrong ones, where given."""
    if options.method == "ats":
        return [options.correct_temperature, options.wrong_temperature]
    # One temperature as in the paper: the student's is 1, so that only one thing differs.
    return [options.temperature] * 2 if options.method == "ts" else None


def new_network(
    options: argparse.Namespace, name: str, image_shape: tuple[int, ...], num_classes: int
) -> keras.Model:
    """An untrained network with the weight decay asked for."""
    return models.get(name, num_classes, input_shape=image_shape, weight_decay=options.weight_decay)


def load_data(options: argparse.Namespace) -> data.Splits:
    """The images, split."""
    return data.load(
        options.dataset,
        options.data_dir,
        size=options.train_size,
        validation_fraction=options.validation_fraction,
        seed=options.seed,
    )


def recipe(options: argparse.Namespace) -> dict[str, Any]:
    """The options that define a run's result."""
    return {name: getattr(options, name) for name in RECIPE}


def run_name(config: dict[str, Any]) -> str:
    """A folder name that tells runs apart at a glance; the config tells the rest."""
    parts = [config["network"]]
    if "teacher" in config:
        pair = config["temperatures"]
        parts += [config["method"], *(f"{value:g}" for value in pair or ())]
        parts += ["from", config["teacher"].partition("-")[0]]
    size = config["train_size"]
    parts += [config["dataset"], *([str(size)] if size else []), f"{config['epochs']}epochs"]
    if config["validation_fraction"]:
        parts.append("validation")
    return "-".join([*parts, f"seed{config['seed']}"])


def announce(folder: RunFolder, result: dict[str, Any]) -> None:
    """Prints the result of a run."""
    print(
        f"{folder.path}: test accuracy {100 * result['test_accuracy']:.2f} % after "
        f"{result['epochs']} epochs ({result['seconds']:.0f} s); {folder.model_file}"
    )
