"""Hostile and broken cases: each one line or masks, never a traceback, a hang or much memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.batch.hostile import folder as hostile
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and odd file names")


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> tuple[Path, set[str]]:
    folder = tmp_path_factory.mktemp("hostile")
    must_succeed = hostile.write_all(folder)
    return folder, must_succeed


@pytest.fixture(scope="module", params=["boxes", "gt"])
def report(request, cases, tmp_path_factory) -> dict:
    outputs = tmp_path_factory.mktemp("masks")
    command = [sys.executable, "-m", "tests.batch.hostile", cases[0], outputs, request.param]
    # The limit is far beyond what it takes; it turns a hang into a failure.
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return {"outputs": outputs, **json.loads(run.stdout)}


def test_there_are_enough_of_them(cases):
    assert len(list(cases[0].iterdir())) >= 400


def test_every_case_is_answered_once(cases, report):
    names = sorted(path.name for path in cases[0].iterdir())
    assert sorted([*report["done"], *report["failed"]]) == names


def test_no_answer_is_a_bug_to_report(report):
    unexpected = {name: why for name, why in report["failed"].items() if "bug to report" in why}
    assert unexpected == {}


def test_answers_are_single_lines_that_any_terminal_shows(report):
    for line in report["lines"]:
        assert line.isprintable() and 0 < len(line) < 800, line
    ends = [line for line in report["lines"] if ": warning: " not in line]
    assert len(ends) == len(report["done"]) + len(report["failed"])


def test_good_cases_among_them_are_segmented(cases, report):
    assert cases[1] - set(report["done"]) == set()


def test_whole_files_of_masks_and_nothing_else_are_written(cases, report):
    written = {path.name for path in report["outputs"].iterdir()} - {"efficiency.csv"}
    assert written == set(report["done"])
    for name in report["done"]:
        with np.load(report["outputs"] / name) as output, np.load(cases[0] / name) as case:
            segs = output["segs"]
            assert segs.dtype in (np.uint8, np.uint16)
            assert segs.shape == case["imgs"].shape[: segs.ndim]


def test_faults_are_not_segmented(report):
    failed = {name.partition("_")[0] for name in report["failed"]}
    assert {"truncated", "flipped", "pickled", "declared", "folder.npz", "pipe.npz"} <= failed
    done = {name.partition("_")[0] for name in report["done"]}
    assert {"truncated", "garbage"}.isdisjoint(done)


def test_memory_stays_below_two_gigabytes(report):
    assert report["peak"] < 2e9
