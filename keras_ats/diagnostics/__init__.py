"""Why a teacher teaches well, what is wrong before it trains, and figures of both."""

from keras_ats.diagnostics.advice import Suggestion as Suggestion
from keras_ats.diagnostics.advice import suggest_temperatures as suggest_temperatures
from keras_ats.diagnostics.checkup import check as check
from keras_ats.diagnostics.diagnosis import diagnose as diagnose
from keras_ats.diagnostics.finding import CheckUp as CheckUp
from keras_ats.diagnostics.finding import Finding as Finding
from keras_ats.diagnostics.findings import TeacherFindings as TeacherFindings
from keras_ats.diagnostics.report import Report as Report
from keras_ats.diagnostics.result_figures import plot_capacity as plot_capacity
from keras_ats.diagnostics.result_figures import plot_student_gain as plot_student_gain
from keras_ats.diagnostics.result_figures import plot_temperature_map as plot_temperature_map
from keras_ats.diagnostics.softening import Softening as Softening
from keras_ats.diagnostics.teacher_figures import plot_class_similarity as plot_class_similarity
from keras_ats.diagnostics.teacher_figures import plot_logits as plot_logits
from keras_ats.diagnostics.teacher_figures import plot_reliability as plot_reliability
from keras_ats.diagnostics.teacher_figures import plot_soft_targets as plot_soft_targets
from keras_ats.diagnostics.teacher_figures import (
    plot_temperature_curves as plot_temperature_curves,
)

__all__ = [
    "CheckUp",
    "Finding",
    "Report",
    "Softening",
    "Suggestion",
    "TeacherFindings",
    "check",
    "diagnose",
    "plot_capacity",
    "plot_class_similarity",
    "plot_logits",
    "plot_reliability",
    "plot_soft_targets",
    "plot_student_gain",
    "plot_temperature_curves",
    "plot_temperature_map",
    "suggest_temperatures",
]
