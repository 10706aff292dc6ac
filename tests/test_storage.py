"""Files are whole or absent, also when the disk is full."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from snce.errors import SnceError
from snce.storage import kept_tensors, locked, parse_json, read_tensors, replacing, write_tensors, write_text
from tests.examples import same_bits

SMALL_DISK = """
import resource, sys
from pathlib import Path
import torch
from snce.errors import SnceError
from snce.storage import write_tensors, write_text
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for write in (lambda: write_text(path, "n" * 100_000), lambda: write_tensors(path, {"t": torch.ones(9999)}, {})):
    try:
        write()
    except SnceError as error:
        print(error)
"""


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "f.txt"
    write_text(path, "one")
    write_text(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert names(path.parent) == ["f.txt"]


def test_a_file_is_flushed_to_the_disk_by_a_handle_that_may_write(tmp_path, monkeypatch):
    """Windows refuses any other."""
    flushed, fsync = [], os.fsync

    def as_on_windows(file):
        os.write(file, b"")
        fsync(file)
        flushed.append(file)

    monkeypatch.setattr(os, "fsync", as_on_windows)
    write_text(tmp_path / "f.txt", "text")
    assert len(flushed) == 1
    assert (tmp_path / "f.txt").read_text() == "text"


escapes = st.sampled_from(
    ("\\ud83d", "\\uDE00", "\\u0041", "\\\\", "\\n", '\\"', "ud83d", "u", "d83d", "é", "\U0001f600")
)


@given(st.lists(st.lists(escapes, max_size=5).map("".join), max_size=3))
def test_json_is_text_that_can_be_written_or_refused(texts):
    """Halves of surrogate pairs are JSON, and no text; whole pairs are."""
    written = "[" + ",".join(f'"{text}", {{"{text}": 1}}' for text in texts) + "]"
    value = json.loads(written)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        with pytest.raises(ValueError, match="surrogate"):
            parse_json(written)
    else:
        assert parse_json(written) == value


def test_tensors_are_made_once_for_each_stamp(tmp_path):
    made = []

    def keep(stamp):
        def make():
            made.append(stamp)
            return {"t": torch.full((2,), float(len(made)))}

        return kept_tensors(tmp_path / "t.safetensors", "kind", stamp, make)["t"].tolist()

    assert [keep(stamp) for stamp in ("a", "a", "b", "b", "a")] == [[1, 1], [1, 1], [2, 2], [2, 2], [3, 3]]
    assert made == ["a", "b", "a"]
    with pytest.raises(SnceError):
        kept_tensors(tmp_path / "t.safetensors", "another kind", "a", dict)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failing_block_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "f.txt"
    path.write_text("old")

    def break_off():
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(SnceError if error is OSError else error):
        break_off()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["f.txt"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
    assert path.read_text() == "new"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("old")
    run = subprocess.run([sys.executable, "-c", SMALL_DISK, path], capture_output=True, text=True, check=True)
    messages = run.stdout.splitlines()
    assert len(messages) == 2
    assert all(str(path) in m and "untouched" in m for m in messages)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["f.txt"]


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SnceError, match=r"cannot write .*f\.txt"):
        write_text(tmp_path / "file" / "f.txt", "text")
    with pytest.raises(SnceError, match="cannot write"):
        write_text(tmp_path, "text")


@given(
    st.dictionaries(
        st.text("abc/", min_size=1), st.sampled_from((torch.float32, torch.float16, torch.bool)), max_size=4
    ),
    st.dictionaries(st.text("abc", min_size=1), st.text()),
)
def test_tensors_and_metadata_come_back(tmp_path_factory, dtypes, metadata):
    path = tmp_path_factory.mktemp("tensors") / "t.safetensors"
    tensors = {name: torch.randn(2, 3).T.to(dtype) for name, dtype in dtypes.items()}
    write_tensors(path, tensors, metadata | {"format": "kind"})
    found, said = read_tensors(path, "kind")
    assert said == metadata | {"format": "kind"}
    assert found.keys() == tensors.keys()
    assert all(same_bits(found[name], tensors[name].contiguous()) for name in tensors)


def test_files_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "t.safetensors"
    with pytest.raises(SnceError, match="no such file"):
        read_tensors(path, "kind")
    for content in (b"", b"hello", b"\xff" * 100, bytes(8), (1 << 40).to_bytes(8, "little") + b"{}"):
        path.write_bytes(content)
        with pytest.raises(SnceError, match=r"t\.safetensors is truncated or not a safetensors file"):
            read_tensors(path, "kind")
    save_file({"t": torch.ones(1)}, path)
    with pytest.raises(SnceError, match="no format"):
        read_tensors(path, "kind")
    write_tensors(path, {"t": torch.ones(1)}, {"format": "another"})
    with pytest.raises(SnceError, match="another"):
        read_tensors(path, "kind")


def test_a_lock_keeps_others_out_and_goes_with_the_process_that_held_it(tmp_path):
    path = tmp_path / "new" / "sae.safetensors"
    held = FileLock(path.with_name(f".{path.name}.lock"))
    with locked(path), pytest.raises(Timeout):
        held.acquire(timeout=0)
    with locked(tmp_path / "new" / "other.safetensors"), held.acquire(timeout=0):
        pass
    holder = "import os, sys; from pathlib import Path; from snce.storage import locked\n"
    holder += "with locked(Path(sys.argv[1])): os._exit(3)"
    assert subprocess.run([sys.executable, "-c", holder, str(path)], check=False).returncode == 3
    with locked(path):
        pass


def test_a_lock_in_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SnceError, match="cannot write"), locked(tmp_path / "file" / "x"):
        pass
