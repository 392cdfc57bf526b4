"""A chain in which a student becomes the next one's teacher."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import keras

from keras_ats.checks import as_list, check_function
from keras_ats.distiller.distiller import Distiller

Train = Callable[[Distiller], object]


def distill_chain(models: Sequence[keras.Model], train: Train) -> keras.Model:
    """Distils along a chain: each model teaches the next (teacher assistants, TAKD).

    Where a teacher is too large for its student, one of middle size between them may help.

    Args:
        models: A trained teacher, then one or more students, each of which teaches the next.
        train: Compiles and fits one distiller. Called once per link with a new `Distiller`, so it
            must make its optimizer anew.

    Returns:
        The last model, trained.

    Raises:
        TypeError: If `models` is no list, or `train` no function.
        ValueError: If there are fewer than two models, or one of them twice.

    Example:

    ```python
    def network(width):
        return keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(3)]
        )

    x, y = np.random.rand(16, 4), np.random.randint(0, 3, 16)

    def train(distiller):
        distiller.compile("adam", kd_loss=keras_ats.losses.TemperatureKD(4))
        distiller.fit(x, y, verbose=0)

    student = keras_ats.distill_chain([network(64), network(16), network(4)], train)
    ```

    Reference: Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", AAAI 2020,
    arXiv 1902.03393.
    """
    models = as_list(models, "models", "[large, medium, small], all of them keras.Models")
    check_function(train, "train", "it compiles and fits the distiller that it is given")
    if len(models) < 2:
        raise ValueError(
            "`models` is too short: a chain needs a teacher and at least one student. Received: "
            f"{len(models)} model(s). Example: distill_chain([large, medium, small], train)."
        )
    if len({id(model) for model in models}) < len(models):
        raise ValueError(
            "The models of a chain must differ, or a later link would change an earlier model. "
            f"Received: {[model.name for model in models]}, one of them twice. Use a copy: "
            "keras.models.clone_model, then set_weights."
        )
    for teacher, student in pairwise(models):
        train(Distiller(teacher, student))
    return models[-1]
