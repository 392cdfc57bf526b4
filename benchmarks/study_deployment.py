"""Size and time of the networks of the study in LiteRT, in float32 and with int8 weights.

    KERAS_BACKEND=tensorflow python benchmarks/study_deployment.py

Both depend on the form of a network, not on what it was trained on: the weights are random.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from study.sentences import network

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 150  # of CLINC150
KNOWN = 12  # n-grams of a sentence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=500, help="of one sentence (default: 500)")
    options = parser.parse_args()
    config = json.loads((ROOT / "benchmarks/study/intents.json").read_text())
    widths = {f"student {name}": each for name, each in config["students"].items()}
    measured = {}
    for name, each in {**widths, **config["teachers"]["networks"]}.items():
        keras.utils.set_random_seed(0)
        model = network(each, CLASSES, config)
        measured[name] = {"parameters": model.count_params()}
        for form, optimizations in (("float32", []), ("int8", [tf.lite.Optimize.DEFAULT])):
            content = converted(model, optimizations)
            measured[name][form] = measure(model, content, config, options.repeats)
        print(name, measured[name], flush=True)
    path = ROOT / "benchmarks/results/study_deployment.json"
    path.write_text(
        json.dumps({"tensorflow": tf.__version__, "networks": measured}, indent=1) + "\n"
    )


def converted(model: keras.Model, optimizations: list) -> bytes:
    """A LiteRT file for one sentence at a time."""
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = optimizations
        return converter.convert()


def measure(model: keras.Model, content: bytes, config: dict, repeats: int) -> dict:
    """Bytes, milliseconds on one thread, and how far the logits are from Keras's."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    given, returned = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    sentence = np.zeros((1, config["longest"]), "int32")
    sentence[0, :KNOWN] = np.random.default_rng(0).integers(1, config["ngrams"], KNOWN)
    interpreter.resize_tensor_input(given["index"], sentence.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], sentence)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - started)
    expected = keras.ops.convert_to_numpy(model(sentence))
    difference = np.abs(interpreter.get_tensor(returned["index"]) - expected).max()
    return {
        "bytes": len(content),
        # The machine is shared: what takes longer waits for others.
        "milliseconds": round(1000 * float(np.percentile(seconds, 10)), 4),
        "difference_of_largest_logit": round(float(difference / np.abs(expected).max()), 4),
    }


if __name__ == "__main__":
    main()
