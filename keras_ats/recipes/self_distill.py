"""A model that teaches copies of itself."""

import keras

from keras_ats.checks import as_integer, check_function
from keras_ats.recipes.distill_chain import Train, distill_chain


def self_distill(model: keras.Model, generations: int, train: Train) -> keras.Model:
    """Distils a trained model into untrained copies of itself, one after the other (born-again).

    Args:
        model: A trained Sequential or Functional model; left as it is.
        generations: How many copies follow each other, at least 1.
        train: As for `distill_chain`.

    Returns:
        The last copy, trained.

    Raises:
        ValueError: If `generations` is below 1.

    Example:

    ```python
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x, y = np.random.rand(16, 4), np.random.randint(0, 3, 16)

    def train(distiller):
        distiller.compile("adam", kd_loss=keras_ats.losses.TemperatureKD(4))
        distiller.fit(x, y, verbose=0)

    student = keras_ats.self_distill(model, generations=2, train=train)
    ```

    Reference: Furlanello et al., "Born Again Neural Networks", ICML 2018, arXiv 1805.04770.
    """
    generations = as_integer(generations, "generations")
    check_function(train, "train", "it compiles and fits the distiller that it is given")
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a keras.Model, trained, Sequential or Functional. Received: "
            f"model={model!r} of type {type(model).__name__}."
        )
    copies = [keras.models.clone_model(model) for _ in range(generations)]
    return distill_chain([model, *copies], train)
