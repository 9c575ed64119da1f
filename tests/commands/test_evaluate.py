"""`litemedsam evaluate`, `compare` and `time` as a user meets them."""

import csv
import os
import stat
import sys

import numpy as np
import pytest

from litemedsam_jax.cli import main
from tests.conftest import REPOSITORY


@pytest.fixture
def demo(tmp_path):
    """Masks and truth of the demo's cases that have one."""
    for name in ("2DBox_Microscope_dsb2018_crop256", "3DBox_MR_breast1_tumor"):
        for source, target in (("tests/data/reference_segs", "segs"), ("demo/gts", "gts")):
            (tmp_path / target).mkdir(exist_ok=True)
            data = (REPOSITORY / source / f"{name}.npz").read_bytes()
            (tmp_path / target / f"{name}.npz").write_bytes(data)
    return tmp_path


def _rows(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_evaluate_writes_the_reference_s_table(demo, capsys):
    done = main(
        [
            "evaluate",
            "-s",
            f"{demo}/segs",
            "-g",
            f"{demo}/gts",
            "-csv_dir",
            f"{demo}/m.csv",
            "--per-label",
            f"{demo}/l.csv",
            "--plot",
            f"{demo}/p.png",
            "-num_workers",
            "1",
        ]
    )
    assert done == 0
    assert (demo / "m.csv").read_text() == (
        "case,dsc,nsd\n"
        "2DBox_Microscope_dsb2018_crop256.npz,0.7954,0.9163\n"
        "3DBox_MR_breast1_tumor.npz,0.6475,0.9996\n"
    )
    assert len(_rows(demo / "l.csv")) == 26
    assert (demo / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "2 of 2 cases scored" in capsys.readouterr().out


def test_evaluate_without_nsd_and_with_a_missing_case(demo, capsys):
    (demo / "segs/3DBox_MR_breast1_tumor.npz").unlink()
    done = main(
        [
            "evaluate",
            "-s",
            f"{demo}/segs",
            "-g",
            f"{demo}/gts",
            "-csv_dir",
            f"{demo}/m.csv",
            "-nsd",
            "False",
            "-num_workers",
            "1",
        ]
    )
    assert done == 1
    assert [list(row) for row in _rows(demo / "m.csv")] == [["case", "dsc"]]
    assert "breast1_tumor.npz: FAILED" in capsys.readouterr().err


def test_evaluate_says_when_there_is_nothing(tmp_path, capsys):
    assert main(["evaluate", "-s", str(tmp_path), "-g", f"{tmp_path}/none"]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err


def test_compare_pairs_cases_and_draws_the_extremes(demo, capsys):
    (demo / "b").mkdir()
    for path in (demo / "segs").iterdir():
        np.savez(demo / "b" / path.name, segs=np.roll(np.load(path)["segs"], 2, -1))
    (demo / "b/efficiency.csv").write_text("case,time\n3DBox_MR_breast1_tumor.npz,2.0\n")
    (demo / "segs/efficiency.csv").write_text("case,time\n3DBox_MR_breast1_tumor.npz,8.0\n")
    done = main(
        [
            "compare",
            f"{demo}/segs",
            f"{demo}/b",
            "-g",
            f"{demo}/gts",
            "-csv_dir",
            f"{demo}/c.csv",
            "--images",
            str(REPOSITORY / "demo/imgs"),
            "--pictures",
            f"{demo}/pictures",
            "--extremes",
            "1",
            "-num_workers",
            "1",
        ]
    )
    assert done == 0
    assert [row["B/A"] for row in _rows(demo / "c.csv")] == ["nan", "0.25", "0.25"]
    assert "A better in 2" in capsys.readouterr().out
    assert len(list((demo / "pictures").glob("*.png"))) == 2


def test_compare_without_truth_measures_agreement(demo):
    done = main(
        [
            "compare",
            f"{demo}/segs",
            f"{demo}/segs",
            "-csv_dir",
            f"{demo}/c.csv",
            "-num_workers",
            "1",
            "--corrected",
        ]
    )
    assert done == 0
    assert {row["dsc B"] for row in _rows(demo / "c.csv")} == {"1.0"}


_ENGINE = """#!{python}
import pathlib, shutil, sys
words = sys.argv[1:]
if words == ["version"]:
    sys.exit()
if words[:2] == ["image", "inspect"]:
    sys.exit(words[2] != "good")
assert "--network" in words and "--memory" in words
folders = [w.split("source=")[1].split(",")[0] for w in words if w.startswith("type=bind")]
case, = pathlib.Path(folders[0]).iterdir()
if "bad" in case.name:
    sys.exit("no such luck")
shutil.copy(case, folders[1])
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A stand-in for docker that copies inputs to outputs."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(_ENGINE.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return program


def test_time_runs_a_container_a_case(engine, tmp_path, capsys):
    (tmp_path / "imgs").mkdir()
    for name in ("a b;c", "bad", "good"):
        np.savez(tmp_path / f"imgs/{name}.npz", imgs=np.zeros(3))
    done = main(["time", "--image", "good", "-i", f"{tmp_path}/imgs", "-o", f"{tmp_path}/out"])
    assert done == 1
    rows = _rows(tmp_path / "out/running_time.csv")
    assert [row["CaseName"] for row in rows] == ["a b;c.npz", "good.npz"]
    assert all(float(row["RunningTime"]) > 0 for row in rows)
    assert (tmp_path / "out/good.npz").is_file()
    assert "bad.npz: FAILED: the container failed: exit status 1: no such luck" in (
        capsys.readouterr().err
    )


def test_time_says_that_the_image_is_missing(engine, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", imgs=np.zeros(3))
    assert main(["time", "--image", "none", "-i", str(tmp_path), "-o", f"{tmp_path}/out"]) == 2
    assert "there is no image 'none'" in capsys.readouterr().err


def test_time_tells_an_engine_that_does_not_run_from_a_missing_image(engine, tmp_path, capsys):
    engine.write_text("#!/bin/sh\necho Cannot connect to the Docker daemon >&2\nexit 1\n")
    np.savez(tmp_path / "a.npz", imgs=np.zeros(3))
    assert main(["time", "--image", "good", "-i", str(tmp_path), "-o", f"{tmp_path}/out"]) == 2
    assert "does not answer" in capsys.readouterr().err
