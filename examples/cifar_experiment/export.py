"""Writes a trained network for other programs, and checks what they compute with it."""

import argparse
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from cifar_experiment.training import load_network

TOLERANCE = 1e-4
# The backends from which Keras's `export` can write a format, given the packages that it asks for.
SUPPORTED = {
    "saved_model": ("tensorflow", "jax"),
    "onnx": ("tensorflow", "torch", "jax"),
    "litert": ("tensorflow", "torch"),
}


def run(options: argparse.Namespace) -> None:
    """Exports in every format asked for and prints how far each is from Keras."""
    backend = keras.backend.backend()
    for form in options.formats:
        if backend not in SUPPORTED[form]:
            raise ValueError(
                f"Keras does not export {form} on {backend}. A .keras file is the same on every "
                f"backend: run this command with --backend {SUPPORTED[form][0]}."
            )
    network = load_network(options.model)
    dtypes = {layer.compute_dtype for layer in network.layers}
    if dtypes != {"float32"}:
        raise ValueError(
            f"{options.model} computes in {' and '.join(sorted(dtypes))}; Keras exports float32 "
            "networks. Train without --mixed-precision, or load its weights into a float32 "
            "network of the same form."
        )
    images = np.random.default_rng(0).normal(size=(8, *network.input_shape[1:])).astype("float32")
    # A direct call: on JAX Keras exports only what has been called.
    expected = keras.ops.convert_to_numpy(network(images, training=False))
    output = options.output or options.model.parent
    output.mkdir(parents=True, exist_ok=True)
    for form in options.formats:
        path, computed = EXPORTERS[form](network, images, output / options.model.stem)
        difference = float(np.abs(computed - expected).max())
        if not difference <= TOLERANCE:
            raise ValueError(f"{path} differs from Keras by {difference:.1e} in its logits.")
        print(f"{path}: largest difference from Keras's logits {difference:.1e}")


def saved_model(network: keras.Model, images: np.ndarray, stem: Path) -> tuple[Path, np.ndarray]:
    """Writes a SavedModel folder and runs it in TensorFlow."""
    import tensorflow as tf

    path = stem.with_name(f"{stem.name}_saved_model")
    network.export(path, format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(path)
    return path, loaded.serve(images).numpy()


def onnx(network: keras.Model, images: np.ndarray, stem: Path) -> tuple[Path, np.ndarray]:
    """Writes an ONNX file and runs it in ONNX Runtime."""
    import onnxruntime

    path = stem.with_suffix(".onnx")
    network.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())
    return path, session.run(None, {name: images})[0]


def litert(network: keras.Model, images: np.ndarray, stem: Path) -> tuple[Path, np.ndarray]:
    """Writes a LiteRT file and runs it in LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    path = stem.with_suffix(".tflite")
    network.export(path, format="litert", verbose=False)
    interpreter = Interpreter(str(path))
    given, returned = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], images)
    interpreter.invoke()
    return path, interpreter.get_tensor(returned["index"])


EXPORTERS: dict[str, Callable[[keras.Model, np.ndarray, Path], tuple[Path, np.ndarray]]] = {
    "saved_model": saved_model,
    "onnx": onnx,
    "litert": litert,
}
