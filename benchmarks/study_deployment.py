"""Size, time and accuracy of the networks of the study in LiteRT, in float32 and with int8 weights.

    KERAS_BACKEND=tensorflow python benchmarks/study_deployment.py --data-dir FOLDER-OF-INTENTS

Size and time depend on the form of a network. For the accuracies those of seed 0 are trained again
on CLINC150: the teachers, and the students alone and under ATS from the large one.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import study_page
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from study import sentences
from study.findings import Findings
from study.teaching import compiled_teacher
from study.training import School, accuracy, predict, say_again

DATA, SEED = "clinc150", 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--repeats", type=int, default=500, help="of one sentence (default: 500)")
    options = parser.parse_args()
    found = study_page.findings()
    task = sentences.load(DATA, options.data_dir, found.config)
    measured = {}
    for name, model in networks(found, task):
        measured[name] = {"parameters": model.count_params()}
        for form, optimizations in (("float32", []), ("int8", [tf.lite.Optimize.DEFAULT])):
            content = converted(model, optimizations)
            measured[name][form] = measure(model, content, task, options.repeats)
        print(name, measured[name], flush=True)
    path = study_page.DEPLOYED
    path.write_text(
        json.dumps({"tensorflow": tf.__version__, "networks": measured}, indent=1) + "\n"
    )


def networks(found: Findings, task: sentences.Task) -> Iterator[tuple[str, keras.Model]]:
    """The trained networks by name."""
    config = found.config
    for name, widths in config["teachers"]["networks"].items():
        teacher = compiled_teacher(widths, task, SEED, config)
        epochs = config["teachers"]["epochs"]
        teacher.fit(*task.train, epochs=epochs, batch_size=config["batch_size"], verbose=0)
        yield name, teacher
    # The last one is the large one.
    chosen = sentences.places_of_few(task, config["data"][DATA]["few"], SEED)
    train = task.train[0][chosen], task.train[1][chosen]
    said = predict(teacher, train[0])
    for name, widths in config["students"].items():
        ats = found.chosen(DATA, "ATS", found.large, size="few", student=name).setting
        epochs = config["epochs"]["few"]
        for method, setting in (("labels alone", {}), ("ATS", ats)):
            school = School(
                task, method, widths, say_again(task.classes), len(chosen), epochs, config
            )
            school.run(setting, train, said, SEED, watch=False)
            yield f"student {name}, {method}", school.distiller.student


def converted(model: keras.Model, optimizations: list) -> bytes:
    """A LiteRT file for one sentence at a time."""
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = optimizations
        return converter.convert()


def measure(
    model: keras.Model, content: bytes, task: sentences.Task, repeats: int
) -> dict[str, Any]:
    """Bytes, milliseconds on one thread, accuracy, and how far the logits are from Keras's."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    given, returned = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(given["index"], (1, task.test[0].shape[1]))
    interpreter.allocate_tensors()

    def said_of(sentence: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], sentence[None])
        interpreter.invoke()
        return interpreter.get_tensor(returned["index"])[0]

    logits = np.stack([said_of(sentence) for sentence in task.test[0]])
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - started)
    expected = predict(model, task.test[0])
    difference = np.abs(logits - expected).max()
    return {
        "test": accuracy(logits, task.test[1]),
        "bytes": len(content),
        # The machine is shared: what takes longer waits for others.
        "milliseconds": round(1000 * float(np.percentile(seconds, 10)), 4),
        "difference_of_largest_logit": round(float(difference / np.abs(expected).max()), 4),
    }


if __name__ == "__main__":
    main()
