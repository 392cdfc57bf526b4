"""The process that trains, on one device or several; started by test_distribution.py.

A process of its own, because a distribution is global state and because it can be stopped:

    python tests/device_runs.py                                  # one process, several devices
    python tests/device_runs.py --process 0 --address HOST:PORT  # one of two processes

Its last line is JSON: for each case the logs, the student's final weights, and what else the tests
ask for.
"""

import argparse
import json
import os
import re
import tempfile

import feature_cases
import keras
import numpy as np
from device_training import BATCH, EPOCHS, SAMPLES, make_data, make_distiller, train

from keras_ats._keras import BatchAndLent

PROCESSES = 2


def on_tensorflow():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    return {
        "one": train(),
        "one_batch_norm": train(batch_norm=True),
        "mirrored": train(strategy.scope()),
        "mirrored_batch_norm": train(strategy.scope(), batch_norm=True),
    }


def on_jax():
    import jax

    os.environ["NPROC"] = "8"  # two threads for each device, as docs/guides/several_devices.md says
    jax.config.update("jax_num_cpu_devices", 4)
    data_parallel = keras.distribution.DataParallel(devices=keras.distribution.list_devices())
    return {
        "one": train(),
        "one_batch_norm": train(batch_norm=True),
        "data_parallel_batch_norm": in_distribution(data_parallel, batch_norm=True),
        "data_parallel": in_distribution(data_parallel),
        "data_parallel_exchange": in_distribution(
            data_parallel, with_lesson_metrics=False, examine=collectives
        ),
        "teacher_on_two": in_distribution(teacher_sharded(1, 2), examine=teacher_shards),
        "teacher_on_two_rows": in_distribution(teacher_sharded(2, 2), examine=teacher_shards),
        "teacher_over_batch": in_distribution(
            teacher_sharded(4, 1, axis="batch"), examine=teacher_shards
        ),
    }


def in_distribution(distribution, **arguments):
    with distribution.scope():
        return train(**arguments)


def teacher_sharded(batch_devices, model_devices, axis="model", **arguments):
    """The teacher's large layers in pieces, as in Megatron: columns, then rows."""
    devices = keras.distribution.list_devices()[: batch_devices * model_devices]
    mesh = keras.distribution.DeviceMesh(
        (batch_devices, model_devices), ["batch", "model"], devices
    )
    layout_map = keras.distribution.LayoutMap(mesh)
    layout_map[".*wide/kernel"] = (None, axis)
    layout_map[".*wide/bias"] = (axis,)
    layout_map[".*wide_again/kernel"] = (axis, None)
    return keras.distribution.ModelParallel(
        layout_map=layout_map, batch_dim_name="batch", **arguments
    )


def teacher_shards(distiller):
    """Shapes of what each device holds of the teacher after training, and what is exchanged."""
    shapes = {
        variable.path: sorted({shard.data.shape for shard in variable.value.addressable_shards})
        for variable in distiller.teacher.variables
    }
    return {"shards": shapes, **collectives(distiller)}


def collectives(distiller):
    """What the compiled step sends between devices: operation and shapes of each."""
    import jax

    distribution = keras.distribution.distribution()
    batch = tuple(
        jax.device_put(part[:BATCH], distribution.get_data_layout(part.shape).backend_layout)
        for part in make_data()
    )
    variables = (
        distiller.trainable_variables,
        distiller.non_trainable_variables,
        distiller.optimizer.variables,
        distiller.metrics_variables,
    )
    state = tuple([variable.value for variable in group] for group in variables)
    shardings = tuple([value.sharding for value in group] for group in state)
    step = jax.jit(distiller.train_step, out_shardings=(None, shardings))
    batch = BatchAndLent(batch, [variable.value for variable in distiller.lent_variables])
    program = step.lower(state, batch).compile().as_text()
    operation = re.compile(
        r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\S*\("
    )
    return {
        "collectives": [
            [
                name,
                [shape.split(",") if shape else [] for shape in re.findall(r"\[(.*?)\]", shapes)],
            ]
            for shapes, name in operation.findall(program)
        ]
    }


def on_jax_processes(process, address):
    import jax

    os.environ["NPROC"] = "4"
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    keras.distribution.initialize(address, PROCESSES, process)
    own_share = keras.distribution.DataParallel(auto_shard_dataset=False)
    whole_dataset = keras.distribution.DataParallel()
    over_all = teacher_sharded(1, 4, auto_shard_dataset=False)
    return {
        "own_share": in_distribution(own_share, shares=PROCESSES, share=process, examine=refused),
        "whole_dataset": in_distribution(whole_dataset, as_dataset=True),
        # One row of the mesh, so both processes feed the same.
        "teacher_over_processes": in_distribution(over_all, examine=refused),
    }


def refused(distiller):
    """What a process refuses that sees only a part: of the batch, or of the teacher."""
    calls = {
        "predict": lambda folder: distiller.predict(make_data()[0], verbose=0),
        "save student": lambda folder: distiller.student.save(f"{folder}/student.keras"),
        "save weights": lambda folder: distiller.save_weights(f"{folder}/step.weights.h5"),
        "save all": lambda folder: distiller.save(f"{folder}/distiller.keras"),
    }
    messages = {}
    for name, call in calls.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                call(folder)
            except RuntimeError as error:
                messages[name] = str(error)
    return {"refused": messages}


def on_torch_processes(process, address):
    from torch import distributed

    distributed.init_process_group(
        "gloo", init_method=f"tcp://{address}", rank=process, world_size=PROCESSES
    )
    # By the time the group is destroyed, DistributedDataParallel must be gone, or gloo may hang.
    results = {"ddp": loop_of_ones_own(process), "contrast": refusal(contrast)}
    distributed.destroy_process_group()
    return results


def contrast():
    """The loss of a share of a batch, which keeps what it has seen."""
    values = np.ones((4, 3), "float32")
    return feature_cases.crd("a", "b")(values, values, ids=np.arange(4))


def refusal(call):
    """What an error says."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return None


def loop_of_ones_own(process):
    """On the losses by themselves, under DistributedDataParallel."""
    import torch
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    from keras_ats import losses, teachers

    initial = make_distiller()
    teacher, student = teachers.LiveTeacher(initial.teacher), initial.student
    replica = DistributedDataParallel(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.2, momentum=0.9)
    label_loss, kd_loss = losses.LabelCrossentropy(), losses.AsymmetricTemperatureKD(4, 2)
    mine = [torch.tensor(part[process::PROCESSES]) for part in make_data()]
    history = {"loss": [], "student_loss": [], "kd_loss": []}
    for _ in range(EPOCHS):
        sums = torch.zeros(3)
        for x, y, weight in zip(*[part.split(BATCH // PROCESSES) for part in mine], strict=True):
            logits = replica(x)
            of_labels = label_loss(y, logits, sample_weight=weight)
            of_teacher = kd_loss(logits, teacher(x).logits, labels=y, sample_weight=weight)
            loss = 0.7 * of_labels + 0.3 * of_teacher + sum(student.losses)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums += torch.stack([loss, of_labels, of_teacher]).detach()
        distributed.all_reduce(sums)
        for name, value in zip(history, sums, strict=True):
            history[name].append(float(value) / (PROCESSES * SAMPLES // BATCH))
    weights = [weight.tolist() for weight in student.get_weights()]
    return {"logs": history, "weights": weights, "devices": PROCESSES}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--process", type=int)
    parser.add_argument("--address")
    options = parser.parse_args()
    if options.process is None:
        runs = {"tensorflow": on_tensorflow, "jax": on_jax, "torch": lambda: {"one": train()}}
        results = runs[keras.backend.backend()]()
    else:
        runs = {"jax": on_jax_processes, "torch": on_torch_processes}
        results = runs[keras.backend.backend()](options.process, options.address)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
