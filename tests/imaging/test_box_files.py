"""Files of boxes that are none: told with the file's name, whatever they hold."""

import pytest

from litemedsam_jax.imaging.box_files import read_boxes

HEADER = b"case,x_min,y_min,x_max,y_max\n"


@pytest.mark.parametrize(
    ("suffix", "content", "words"),
    [
        (".csv", HEADER + b"caf\xe9,1,2,3,4\n", "not CSV in UTF-8"),
        (".csv", HEADER + b'a,1,2,3,4\n"' + b"x" * 200_000 + b'",1\n', "not CSV in UTF-8"),
        (".csv", b"x_min,y_min,x_max,y_max,case\n1,2,3,4\n", "no row for a"),
        (".csv", HEADER.replace(b",", b";") + b"a;1;2;3;4\n", "lacks the column x_min"),
        (".csv", HEADER + b"a,nan,1,2,3\n", "must be rows of 4 numbers"),
        (".csv", b"", "lacks the column"),
        (".json", b"", "not valid JSON"),
        (".json", b"\xff\xfe[]", "not valid JSON"),
        (".json", b"[" * 100_000, "not valid JSON"),
        (".json", b"[[1,2,3," + b"9" * 5000 + b"]]", "not valid JSON"),
        (".json", b"[[1,2,3," + b"9" * 400 + b"]]", "must be rows of 4 numbers"),
        (".json", b"[[1,2,3,1e999]]", "must be rows of 4 numbers"),
        (".json", b'{"a": {"units": ["mm"], "boxes": [[1,2,3,4]]}}', "units"),
    ],
)
def test_hostile_files_of_boxes(tmp_path, suffix, content, words):
    path = tmp_path / f"boxes{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_boxes(path, "a", None)
    assert str(caught.value).startswith(f"{path}: ")
