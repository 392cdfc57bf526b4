"""A writer that is killed leaves what the next one needs, and nothing that it does not."""

from backends import on_one_backend
from processes import ROOT, run_together


@on_one_backend("files and NumPy")
def test_files_after_kills_are_those_of_a_writer_left_alone():
    # `python tests/kill_cache.py` kills twenty.
    (printed,) = run_together([[ROOT / "tests" / "kill_cache.py", "--kills", 3]])
    assert printed.splitlines()[-1].startswith("3 kills")
    assert printed.rstrip().endswith("all as the one left alone, bit for bit")
