"""Cases for training, validation and testing."""

from litemedsam_jax.cli import main


def test_split_keeps_patients_together_and_moves_nothing(tmp_path, capsys):
    data = tmp_path / "data"
    for i in range(20):
        (data / "imgs").mkdir(parents=True, exist_ok=True)
        (data / f"imgs/P{i % 5:02d}_{i}_0000.nii.gz").write_text("image")
        (data / f"imgs/P{i % 5:02d}_{i}.nii.gz").write_text("mask")
    command = ["split", str(data), "-o", f"{tmp_path}/out", "--copy", "--patient", "(P[0-9]+)_"]
    assert main(command) == 0
    first = (tmp_path / "out/validation.txt").read_text()
    assert len({name.split("_")[0] for name in first.split()}) == 1
    assert len(first.split()) == 4
    copied = list((tmp_path / "out/validation/imgs").iterdir())
    assert len(copied) == 8
    assert len(list((data / "imgs").iterdir())) == 40
    assert main(command) == 0
    assert (tmp_path / "out/validation.txt").read_text() == first
    assert main(["split", str(data), "-o", f"{data}/in", "--copy"]) == 2
    assert main(["split", str(data), "-o", f"{tmp_path}/x", "--validation", "0.9"]) == 2
    assert main(["split", str(data), "-o", f"{tmp_path}/x", "--testing", "1"]) == 2
    assert main(["split", str(data), "-o", f"{tmp_path}/x", "--patient", "Z"]) == 2
    assert "finds no patient" in capsys.readouterr().err
