"""One run: data, network, schedule; from the start or from where it was stopped."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from cifar_experiment.run_folder import RunFolder, SaveHistory
from keras_ats import data

Build = Callable[[tuple[int, ...], int], keras.Model]
PUBLISHED_EPOCHS = 240
WARMUP_EPOCHS = 5
MILESTONES = (150, 180, 210)


def train(
    options: argparse.Namespace,
    folder: RunFolder,
    load: Callable[[], data.Splits],
    build: Build,
) -> dict[str, Any]:
    """Trains what `build` returns, a compiled network or distiller, and returns the result.

    Args:
        options: The command line.
        folder: Where the run is kept; a finished run is not trained again.
        load: Reads the data, if it is needed.
        build: Makes the model from the shape of an image and the number of classes.
    """
    with folder:
        return folder.result or _train(options, folder, load, build)


def _train(
    options: argparse.Namespace,
    folder: RunFolder,
    load: Callable[[], data.Splits],
    build: Build,
) -> dict[str, Any]:
    backup = folder.backup()
    done = backup.epoch
    if done > options.epochs:
        raise ValueError(
            f"{folder.path / 'backup'} is of {done} epochs. Received: --epochs {options.epochs}. "
            "Give at least as many, or another folder with --run."
        )
    history = folder.history(done)
    if done:
        print(f"{folder.path}: going on after epoch {done} of {options.epochs}.")
    make_repeatable(options.seed)
    # After Keras's session was cleared, which sets the policy back.
    keras.config.set_dtype_policy(options.mixed_precision or "float32")
    splits = load()
    check_shares(splits, options.devices)
    train_split = splits.train
    batches = {"batch_size": options.batch_size}
    # Whole batches only: devices share them out evenly, and one shape is compiled.
    steps = train_split.steps(**batches, drop_remainder=True)
    with distribution(options.devices):
        model = build(train_split.features.shape[1:], len(train_split.class_names))
    validation = None
    if splits.validation is not None:
        validation = splits.validation.batches(**batches)
    model.fit(
        train_split.batches(
            **batches,
            shuffle=True,
            augment=True,
            seed=options.seed,
            first_epoch=done,
            drop_remainder=True,
        ),
        shuffle=False,  # The dataset does it.
        steps_per_epoch=steps,
        epochs=options.epochs,
        validation_data=validation,
        callbacks=[
            keras.callbacks.LearningRateScheduler(
                lambda epoch: learning_rate(epoch, options.epochs, options.learning_rate)
            ),
            SaveHistory(folder, history),
            backup,
        ],
        verbose=1 if sys.stdout.isatty() else 2,
    )
    test = model.evaluate(splits.test.batches(**batches), return_dict=True, verbose=0)
    result = describe(network_of(model), splits, history, test)
    return folder.finish(network_of(model), result)


def describe(
    network: keras.Model,
    splits: data.Splits,
    history: list[dict[str, float]],
    test: dict[str, float],
) -> dict[str, Any]:
    """What a finished run came to."""
    return {
        "test_accuracy": round(test["accuracy"], 5),
        "validation_accuracy": history[-1].get("val_accuracy"),
        "train_accuracy": round(history[-1]["accuracy"], 5),
        "epochs": len(history),
        "train_images": len(splits.train),
        "test_images": len(splits.test),
        "parameters": network.count_params(),
        "seconds": round(sum(epoch["seconds"] for epoch in history), 1),
    }


def check_shares(splits: data.Splits, devices: int) -> None:
    """Raises where JAX could not divide the last batch of a split evenly."""
    for samples in (splits.validation, splits.test):
        if keras.backend.backend() == "jax" and samples is not None and len(samples) % devices:
            raise ValueError(
                f"On JAX the {len(samples)} samples of {samples.name} must divide evenly by "
                f"--devices {devices}. Give another number of devices, or another "
                "--validation-fraction."
            )


def learning_rate(epoch: int, epochs: int, base: float) -> float:
    """The published schedule, scaled to `epochs`: linear warm-up, then a tenth at each milestone.

    Of 240 epochs 5 are warm-up and the milestones are 150, 180 and 210.
    """
    scale = epochs / PUBLISHED_EPOCHS
    warmup = round(WARMUP_EPOCHS * scale)
    passed = sum(epoch >= round(milestone * scale) for milestone in MILESTONES)
    # The authors' first epoch has a rate of nearly 0; one of 1 / (warmup + 1) is not lost.
    return min(1.0, (epoch + 1) / (warmup + 1)) * base * 0.1**passed


def sgd() -> keras.optimizers.Optimizer:
    """SGD as published. Weight decay is in the networks, and the rate is set every epoch."""
    return keras.optimizers.SGD(momentum=0.9)


def network_of(model: keras.Model) -> keras.Model:
    """The network that a run is about: a distiller's student, or the model itself."""
    return getattr(model, "student", model)


def load_network(file: Path) -> keras.Model:
    """A network that `teacher` or `distill` wrote."""
    try:
        return keras.saving.load_model(file, compile=False)
    except Exception as error:  # A damaged file raises nearly anything.
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{file} cannot be read as a Keras model: {reason}. Bring it back, or delete it and "
            "the result.json beside it and repeat the command that wrote it."
        ) from error


def make_repeatable(seed: int) -> None:
    """Draws the same weights, and computes the same sums, in every run of the same seed."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def distribution(devices: int) -> contextlib.AbstractContextManager[Any]:
    """The scope in which a model is built that trains on several devices."""
    if devices == 1:
        return contextlib.nullcontext()
    if keras.backend.backend() == "tensorflow":
        return mirrored(devices).scope()
    import jax

    found = jax.devices()
    if len(found) < devices:
        raise ValueError(f"--devices {devices}: JAX has {len(found)}: {found}.")
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=found[:devices], auto_shard_dataset=False)
    )
    return contextlib.nullcontext()


def mirrored(devices: int) -> Any:
    """TensorFlow's strategy over GPUs if there are enough of them, else over parts of the CPU."""
    import tensorflow as tf

    if len(tf.config.list_logical_devices("GPU")) >= devices:
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(devices)])
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(devices)])


def divide_cpu(devices: int) -> None:
    """Makes several devices of one CPU; to be called before the backend starts any."""
    if devices == 1:
        return
    if keras.backend.backend() == "jax":
        import jax

        # With fewer than two threads for each device, XLA can wait for ever.
        os.environ["NPROC"] = str(max(2 * devices, os.cpu_count() or 1))
        jax.config.update("jax_num_cpu_devices", devices)  # leaves accelerators alone
        return
    import tensorflow as tf

    if len(tf.config.list_physical_devices("GPU")) < devices:
        cpu = tf.config.list_physical_devices("CPU")[0]
        part = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [part] * devices)
