"""Several GPUs or machines, PyTorch: a loop of your own under DistributedDataParallel.

On one machine, or on several with torchrun's own arguments for that:

    torchrun --nproc-per-node 2 examples/devices/ddp.py

Without torchrun the script starts it itself:

    python examples/devices/ddp.py --devices 2
"""

import argparse
import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from keras_ats import losses
from keras_ats.teachers import LiveTeacher

BATCH_SIZE = 64  # of all devices together
KD_WEIGHT = 0.5


def network(*hidden_units: int, ending: str | None) -> keras.Model:
    hidden = [keras.layers.Dense(units, "relu") for units in hidden_units]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, ending)])


def trained_teacher(x: torch.Tensor, y: torch.Tensor, epochs: int) -> keras.Model:
    """Yours would be loaded from a file; here every process trains the same one."""
    teacher = network(256, 256, ending="softmax")
    teacher.compile("adam", "sparse_categorical_crossentropy")
    teacher.fit(x, y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return teacher


def train(epochs: int) -> None:
    """Runs in every process alike; only the data and who saves differ."""
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = map(
        keras.ops.convert_to_tensor,
        train_test_split((images / 16).astype("float32"), labels, test_size=597, random_state=0),
    )
    data = TensorDataset(x, y)
    sampler = DistributedSampler(data)
    batches = DataLoader(data, BATCH_SIZE // processes, sampler=sampler)

    keras.utils.set_random_seed(0)
    # Reads the logits of a model that ends in softmax, and keeps no gradients.
    teacher = LiveTeacher(trained_teacher(x, y, epochs))
    student = network(16, ending=None)
    replica = DistributedDataParallel(student)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.001)
    label_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    kd_loss = losses.AsymmetricTemperatureKD(4, 2)

    for epoch in range(epochs):
        sampler.set_epoch(epoch)  # shuffles anew, alike in all processes
        for images, labels in batches:
            student_logits = replica(images, training=True)
            loss = (1 - KD_WEIGHT) * label_loss(labels, student_logits)
            loss += KD_WEIGHT * kd_loss(student_logits, teacher(images).logits, labels=labels)
            loss += sum(student.losses)  # regularisers, if the student has any
            optimizer.zero_grad()
            loss.backward()  # averages the gradients over all processes
            optimizer.step()

    if rank == 0:
        with torch.no_grad():
            right = student(x_test, training=False).argmax(-1) == y_test
        student.save("student.keras")
        print(f"Test accuracy {float(right.float().mean()):.1%} on {processes} devices")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=2, help="processes to start, one for each")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    if "RANK" not in os.environ:  # which torchrun sets
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        os.execv(sys.executable, [*torchrun, f"--nproc-per-node={options.devices}", *sys.argv])
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # Keras's "cuda" is then this one
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    # In a function of its own, so that DistributedDataParallel is gone before its process group:
    # the other way round, torch 2.13's gloo now and then never ends.
    train(options.epochs)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
