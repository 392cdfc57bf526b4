"""Every public callable is called with the same bad values in each argument.

The callables and their arguments are found by their signatures, so that what is added is covered
when it is added. A call raises a TypeError or ValueError that names the argument or what was
received, or it is allowed below, with the reason. An allowed call that raises is a stale entry.
"""

import inspect
import re
import warnings
from typing import Unpack, get_origin

import models
import numpy as np
import pytest
from backends import cases_in_turn

import keras_ats

OBJECT = object()
BAD = {
    "None": None,
    "True": True,
    "'a'": "a",
    "''": "",
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "-1": -1,
    "0": 0,
    "1.5": 1.5,
    "1j": 1j,
    "[]": [],
    "{}": {},
    "object": OBJECT,
    "array": np.array([1.0, 2.0]),
    "print": print,
}
ROOMS = (
    "losses",
    "features",
    "temperatures",
    "adjustments",
    "callbacks",
    "diagnostics",
    "metrics",
    "teachers",
    "views",
    "ops",
)

LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]], "float32")
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], "float32")


def good(argument):
    """What an argument without a default is given while another one is bad."""
    if argument in ("teacher", "model", "source"):
        return TEACHER
    if argument == "student":
        return STUDENT
    if argument in ("teachers", "models"):
        return [TEACHER, STUDENT]
    if argument == "labels":
        return np.array([0, 2])
    if "log_probabilities" in argument:
        return np.log(PROBABILITIES)
    if "probabilities" in argument:
        return PROBABILITIES
    return GOOD.get(argument, LOGITS)


TEACHER, STUDENT = models.linear(), models.linear()
REPORT = keras_ats.diagnose(LOGITS, np.array([0, 2]), verbose=False)
GOOD = {
    "adjustments": [keras_ats.adjustments.Swap()],
    "backup_dir": "never_written",
    "path": "never_written",
    "bias": 1.0,
    "correct_temperature": 4.0,
    "data": (np.zeros((2, models.FEATURES), "float32"), np.array([0, 2])),
    "directory": "never_written",
    "filepath": "never_written.keras",
    "first": 4.0,
    "from_logits": None,
    "generations": 1,
    "identifier": "temperature_kd",
    "kd_loss": keras_ats.losses.TemperatureKD(),
    "kd_weight": 0.5,
    "minimum": 1.0,
    "report": REPORT,
    "role": "model",
    "sample_weight": np.ones(2, "float32"),
    "samples": 8,
    "second": 2.0,
    "student_layers": "hidden",
    "teacher_layers": "hidden",
    "student_layer": "hidden",
    "teacher_layer": "hidden",
    "temperature": 4.0,
    "train": lambda distiller: None,
    "weights": 1.0,
    "wrong_temperature": 2.0,
    "variable": "kd_weight",
    "values": 4.0,
    "start": 1.0,
    "end": 0.5,
    "length": 3,
    "x": np.zeros((2, models.FEATURES), "float32"),
    "y": np.array([0, 2]),
}


def arguments_of(function):
    """The arguments that a callable names, `**options` followed to where they are named."""
    for one in inspect.signature(function).parameters.values():
        if get_origin(one.annotation) is Unpack:
            yield from ((name, False) for name in one.annotation.__args__[0].__annotations__)
        elif one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL):
            yield one.name, one.default is one.empty


def public():
    """All public callables by name."""
    for room in ROOMS:
        members = getattr(keras_ats, room)
        for name in members.__all__:
            yield f"{room}.{name}", getattr(members, name)
    for name in keras_ats.__all__:
        if inspect.isfunction(getattr(keras_ats, name)):
            yield name, getattr(keras_ats, name)
    yield "Distiller", keras_ats.Distiller
    yield "Distiller.compile", keras_ats.Distiller(TEACHER, STUDENT).compile


def outcome(function, argument, value):
    """What comes of a call with one bad value: "taken", "refused", or what is unclear about it."""
    required = {name: good(name) for name, is_required in arguments_of(function) if is_required}
    if function is keras_ats.ops.pearson_correlation:
        required |= {"x": LOGITS, "y": LOGITS}
    if function.__name__ == "compile":
        required["kd_loss"] = good("kd_loss")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Weights of 0 and the like are warned of.
            function(**{**required, argument: value})
    except Exception as error:
        is_of_its_kind = isinstance(error, TypeError | ValueError)
        # `from_logits` is called `teacher_from_logits` where a teacher is meant.
        is_named = re.search(rf"(?<![a-z]){argument}(?![a-z])", str(error)) is not None
        if is_of_its_kind and (is_named or repr(value) in str(error)):
            return "refused"
        return f"{type(error).__name__}: {error}"
    return "taken"


# What is taken, by argument: the values, and why they are right. The same for all callables that
# have the argument, unless their name stands in front of it.
NUMBERS = ("-1", "0", "1.5")
AT_LEAST_0 = ("0", "1.5")
ABOVE_0 = ("1.5",)
SWITCH = ("True", "0")  # 1 and 0 are True and False to Python.
ALLOWED = {
    # Numbers within their range.
    "axis": (("-1", "0"), "axes"),
    "batch_weight": (AT_LEAST_0, "a weight"),
    "bias": (AT_LEAST_0, "a spread"),
    "class_weight": (AT_LEAST_0, "a weight"),
    "correct_temperature": (ABOVE_0, "a temperature"),
    "correct_weight": (AT_LEAST_0, "a weight"),
    "first": (ABOVE_0, "a temperature"),
    "focus": (ABOVE_0, "an exponent"),
    "images": (("None",), "no images"),
    "initial_value_threshold": (
        ("None", "inf", "-inf", *NUMBERS),
        "None for none; infinity is worse than any value",
    ),
    "inter_class_weight": (AT_LEAST_0, "a weight"),
    "intra_class_weight": (AT_LEAST_0, "a weight"),
    "callbacks.DistillationMonitor x": (("array",), "two samples"),
    "callbacks.DistillationMonitor y": (("array", "[]", "{}"), "two labels, or those of no output"),
    "callbacks.DistillationMonitor metrics": (("None", "[]"), "the usual ones, or none"),
    "callbacks.DistillationMonitor sample_weight": (("None", "array"), "none, or two"),
    "callbacks.Schedule values": ((*NUMBERS, "array", "print"), "a number, several, a function"),
    "callbacks.Schedule variable": (("'a'",), "a name"),
    **{
        f"callbacks.TemperatureSchedule {name}": (
            ("1.5", "array", "print"),
            "a temperature, several, a function",
        )
        for name in ("temperature", "correct_temperature", "wrong_temperature")
    },
    "callbacks.KDWeightSchedule kd_weight": (
        (*AT_LEAST_0, "array", "print"),
        "a weight, several, a function",
    ),
    "start": (NUMBERS, "any finite number"),
    "end": (NUMBERS, "any finite number"),
    "prefix": (("'a'",), "a name"),
    "callbacks.KDWeightWarmup kd_weight": (
        AT_LEAST_0,
        "how much is allowed depends on the distiller, and is looked at in `fit`",
    ),
    "Distiller.compile kd_weight": (("0",), "a weight, to be raised later"),
    "minimum": (ABOVE_0, "a temperature"),
    "raw_temperature": (NUMBERS, "any finite number"),
    "second": (ABOVE_0, "a temperature"),
    "smoothing": (("0",), "no smoothing"),
    "span": (ABOVE_0, "a span"),
    "student_weight": (("None", *AT_LEAST_0), "a weight; None: what is left of 1"),
    "temperature": (ABOVE_0, "a temperature"),
    "threshold": (ABOVE_0, "a threshold"),
    "unknown_label": (("None", *NUMBERS), "any label may stand for unknown; None for none"),
    "value": (ABOVE_0, "a temperature"),
    "verbose": (SWITCH, "as in Keras, where it is 0 or 1"),
    "wrong_temperature": (ABOVE_0, "a temperature"),
    "wrong_weight": (AT_LEAST_0, "a weight"),
    "temperatures.Learned gradient_factor": (NUMBERS, "either sign, and 0 for a fixed one"),
    # Class ids.
    "ignore_class": (("None", "-1", "0"), "an id, -1 being a usual one; None for none"),
    "ignore_label": (("None", "-1", "0"), "an id, -1 being a usual one; None for none"),
    # Switches.
    "delete_checkpoint": (SWITCH, "1 and 0 are True and False"),
    "evaluate_teacher": (SWITCH, "1 and 0 are True and False"),
    "pseudo_labels": (SWITCH, "1 and 0 are True and False"),
    "save_best_only": (SWITCH, "1 and 0 are True and False"),
    "save_weights_only": (("0",), "0 is False; True needs a path of another ending"),
    "scale_by_squared_temperature": (SWITCH, "1 and 0 are True and False"),
    "weighted": (SWITCH, "1 and 0 are True and False"),
    "from_logits": (("None", "True", "{}"), "None, or no output named: find out"),
    **{
        f"metrics.{name} from_logits": (SWITCH, "1 and 0 are True and False")
        for name in keras_ats.metrics.__all__
    },
    "deviation": (SWITCH, "1 and 0 are True and False"),
    "student_from_logits": (("None", "True", "{}"), "None, or no output named: find out"),
    "teacher_from_logits": (("None", "True", "{}"), "None, or no output named: find out"),
    "augmentation": (("None", "print"), "nothing, a function"),
    "normalize": (SWITCH, "1 and 0 are True and False"),
    "pool": (SWITCH, "1 and 0 are True and False"),
    # Inner layers.
    "binarize": (SWITCH, "1 and 0 are True and False"),
    "use_projector": (SWITCH, "1 and 0 are True and False"),
    "channels": (("None",), "as the deepest layer"),
    "features.ContrastiveRepresentation ids": (("'a'",), "a key"),
    "momentum": (("0",), "a share"),
    "mean_weight": (AT_LEAST_0, "a weight"),
    "normalizations": (("None", "'a'"), "the layers themselves; the name of a layer"),
    "seed": (("-1", "0"), "whole numbers"),
    "student_layer": (("'a'",), "the name of a layer"),
    "teacher_layer": (("'a'",), "the name of a layer"),
    "temperatures.StandardDeviation factor": (ABOVE_0, "a factor"),
    "angle_weight": (AT_LEAST_0, "a weight"),
    "data_format": (("None",), "as Keras is configured"),
    "features.CorrelationCongruence dimensions": (("None",), "no embedding"),
    "distance_weight": (AT_LEAST_0, "a weight"),
    "epsilon": (("1.5",), "a small number above 0"),
    "features.layers print_fn": (("print",), "a function"),
    "hidden_channels": (("None",), "as many as the teacher's"),
    "initial_variance": (("1.5",), "a variance"),
    "projector": (("None",), "no projector"),
    "student_layers": (("'a'",), "the name of a layer"),
    "teacher_layers": (("'a'",), "the name of a layer"),
    # Left out.
    "adjustment": (("None",), "no adjustment"),
    "callbacks.GradientReversalSchedule gradient_factor": (("None",), "found in `fit`"),
    "losses.CurriculumTemperatureKD temperature": (("None",), "a Learned() of its own"),
    "losses.DynamicTemperatureKD temperature": (("None", "1.5"), "None: a FocalWeighted()"),
    "losses.SoftTargetKD student_temperature": (("None", "1.5"), "None: the teacher's"),
    "losses.TransformedTeacherKD student_temperature": (("None", "1.5"), "None: the paper's"),
    "student_temperature": (ABOVE_0, "a temperature"),
    "identifier": (("None",), "None for None, as `get` of Keras"),
    "losses.ScaleDecoupledKD loss": ((), "a loss on logits"),
    "losses.ScaleDecoupledKD name": (("'a'",), "a name"),
    "loss": (("None", "print"), "None: the teacher alone; a function may be a loss"),
    "mask": (("None",), "everything counts"),
    "metrics": (("None", "[]", "{}"), "no metrics"),
    "distillation_metrics": (("[]",), "no metrics"),
    "augment": (("None",), "True where there are samples, and arrays are given"),
    "teachers.estimate_cache padding": (("None",), "an eighth of the height"),
    "mixup": (("None",), "none; a number is for samples alone, and arrays are given"),
    "cutmix": (("None",), "none; likewise"),
    "teachers.estimate_cache ids": (("None",), "places"),
    "top_k": (("None",), "all"),
    "classes": (("None",), "all"),
    "teachers.estimate_cache views": (("None",), "one, where nothing is augmented"),
    "teachers.estimate_cache dtype": ((), "a name"),
    "probabilities_of": (("None",), "found out"),
    "reduction": (("None",), "no reduction, as in Keras"),
    "teachers.Ensemble weights": (("None", "array"), "all alike; two numbers for two teachers"),
    # Names, paths, functions.
    "backup_dir": (("'a'",), "a path"),
    "directory": (("'a'",), "a path"),
    "dtype": (("None",), "Keras's default"),
    "features": (("[]", "{}"), "no layers"),
    "inputs": (("None", "'a'", "print"), "the same inputs, a key, a function"),
    "check x": (("array",), "two samples, which the finding says cannot be read"),
    "check y": (("array",), "two labels"),
    "check kd_loss": (("None",), "the one that fits the heads"),
    "check kd_weight": (AT_LEAST_0, "a weight"),
    "check teacher_from_logits": (("None", "{}", *SWITCH), "what is wrong with it is a finding"),
    "check student_from_logits": (("None", "{}", *SWITCH), "what is wrong with it is a finding"),
    "diagnose inputs": (("None",), "the same inputs"),
    "suggest_temperatures inputs": (("None",), "the same inputs"),
    "diagnose output": (("None",), "the only one"),
    "suggest_temperatures output": (("None",), "the only one"),
    "diagnostics.plot_soft_targets samples": (("None",), "chosen by themselves"),
    "diagnostics.plot_soft_targets teacher": (("None",), "the first"),
    "diagnostics.plot_soft_targets temperatures": (("None",), "three of them"),
    "monitor": (("'a'",), "logs have any name"),
    "name": (("None", "'a'"), "a name; None: made of the class's"),
    "losses.LabelCrossentropy name": (("'a'",), "a name"),
    "teachers.Ensemble name": (("None", "'a'", "''"), "Keras makes one up"),
    "Distiller name": (("None", "'a'", "''"), "Keras makes one up"),
    "output": (("None", "'a'"), "the only one, or a name"),
    "outputs": (("None", "[]", "{}"), "no outputs in particular"),
    "teacher_inputs": (("None", "'a'", "print"), "the same inputs, a key, a function"),
    "train": (("print",), "a function"),
    # Tensors.
    "labels": (("array",), "ids, one for each of two rows"),
    "logits": (("array",), "one row"),
    "probabilities": (("array",), "one row"),
    "ops.bernoulli_logits probabilities": (("0", "[]", "array"), "each entry by itself"),
    "ops.bernoulli_kl_divergence logits": ((), "the other side has other classes"),
    "positions": (("array",), "two positions"),
    "sample_weight": (("None", *NUMBERS, "array"), "no weights, one for all, or one each"),
    "temperatures.batch_mean values": (
        ("True", "nan", "inf", "-inf", *NUMBERS, "[]", "array"),
        "the mean of one value is that value, whatever it is; of none it is 0",
    ),
    "values": (("array",), "one row"),
    "ops.weighted_log_softmax weights": (AT_LEAST_0, "one weight for all classes"),
}
NOT_CALLED = {
    "teachers.CacheEstimate",
    # They read and write files; test_cache_files.py calls them. `estimate_cache` has their
    # arguments.
    "teachers.CachedTeacher",
    "cache_teacher",
    # They train students with whatever is taken; test_comparison.py has what they refuse.
    "compare",
    "search_temperatures",
    # Tables of results that functions make; what they draw is tested in test_comparison.py.
    "diagnostics.plot_capacity",
    "diagnostics.plot_student_gain",
    "diagnostics.plot_temperature_map",
    # By their shorter names.
    "diagnostics.check",
    "diagnostics.diagnose",
    "diagnostics.suggest_temperatures",
    # Described by their fields, or made by functions.
    "diagnostics.CheckUp",
    "diagnostics.Finding",
    "diagnostics.Report",
    "diagnostics.Softening",
    "diagnostics.Suggestion",
    "diagnostics.TeacherFindings",
    "features.FeatureMap",
    "ops.KDParts",
    "teachers.Teacher",
}
CALLABLES = {name: one for name, one in public() if name not in NOT_CALLED}
CALLS = {
    f"{name} {argument}": (function, argument)
    for name, function in CALLABLES.items()
    for argument, _ in arguments_of(function)
}


def allowed(call):
    """The labels of values that a call takes."""
    values, _ = ALLOWED.get(call) or ALLOWED.get(call.split(" ")[1], ((), ""))
    return set(values)


@cases_in_turn("arguments are looked at by Python")
@pytest.mark.parametrize("call", CALLS)
def test_bad_values_are_refused_by_name(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, argument = CALLS[call]
    outcomes = {label: outcome(function, argument, value) for label, value in BAD.items()}
    taken = {label for label, said in outcomes.items() if said == "taken"}
    unclear = {label: said for label, said in outcomes.items() if said not in ("taken", "refused")}
    assert not unclear
    assert taken == allowed(call)
    assert not list(tmp_path.iterdir())


def test_all_public_callables_are_called():
    assert len(CALLS) * len(BAD) >= 900
    # A callable of each room, and arguments that stand behind `**options`.
    for room in ROOMS:
        assert any(name.startswith(f"{room}.") for name in CALLABLES)
    assert {"Distiller", "Distiller.compile", "distill_chain", "self_distill"} <= set(CALLABLES)
    assert "losses.DIST pseudo_labels" in CALLS


def test_no_allowance_is_stale():
    known = set(CALLS) | {call.split(" ")[1] for call in CALLS}
    assert set(ALLOWED) <= known
