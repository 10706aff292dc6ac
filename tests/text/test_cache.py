"""The cache of embeddings: whatever becomes of its files, harvesting ends with the right bytes, or says why not."""

import json
import os
import resource
import shutil
import signal
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from snce.errors import SnceError
from snce.text.harvest import harvest
from snce.text.store import EmbeddingStore
from snce.text.towers import TextTower
from tests.examples import PROMPTS, same_bits, tiny_pipeline
from tests.text.breaking import BreakingTower, file_of

FILES = ("embeddings.npy", "checksums.bin", "progress.json")


@pytest.fixture(scope="module")
def cached(tower, tmp_path_factory):
    """A complete cache of three blocks, and its embeddings."""
    folder = tmp_path_factory.mktemp("cache")
    return folder, harvest(tower, PROMPTS, folder, batch_size=3).x.clone()


@pytest.fixture
def copy(cached, tmp_path):
    """One of the test's own, with the times of its files."""
    shutil.copytree(cached[0], tmp_path / "copy")
    return tmp_path / "copy"


def overwrite(path: Path, place: int, value: int) -> None:
    """Flip bits of one byte, as a bad disk does: the file's size and time stay."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= value
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@settings(max_examples=15)
@given(file=st.sampled_from(FILES), place=st.integers(0, 10**6), value=st.integers(1, 255))
@pytest.mark.filterwarnings("ignore:the cache")
def test_any_flipped_byte_is_found_and_mended(tower, cached, file, place, value):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "cache")
        shutil.copytree(cached[0], folder)
        path = file_of(folder).with_name(file)
        overwrite(path, place, value)
        assert same_bits(harvest(tower, PROMPTS, folder, batch_size=3, verify=True).x, cached[1])
        assert file_of(folder).read_bytes() == file_of(cached[0]).read_bytes()
        assert same_bits(harvest(BreakingTower(tower, 0), PROMPTS, folder, verify=True).x, cached[1])


@settings(max_examples=15)
@given(file=st.sampled_from(FILES), kept=st.integers(0, 9000))
@pytest.mark.filterwarnings("ignore:the cache")
def test_truncated_files_are_found_without_being_asked_for(tower, cached, file, kept):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "cache")
        shutil.copytree(cached[0], folder)
        path = file_of(folder).with_name(file)
        path.write_bytes(path.read_bytes()[:kept])
        assert same_bits(harvest(tower, PROMPTS, folder, batch_size=3).x, cached[1])


@pytest.mark.parametrize("file", FILES)
def test_lost_files_are_made_again(tower, cached, copy, file):
    file_of(copy).with_name(file).unlink()
    assert same_bits(harvest(tower, PROMPTS, copy, batch_size=3).x, cached[1])


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", '{"done": 99}', "{", '{"format": "snce-embeddings-2"}'])
def test_a_damaged_record_loses_no_block(tower, cached, copy, content):
    file_of(copy).with_name("progress.json").write_text(content)
    assert same_bits(harvest(BreakingTower(tower, 0), PROMPTS, copy, batch_size=3).x, cached[1])


def test_only_the_damaged_block_is_encoded_anew_and_the_user_is_told(tower, cached, copy):
    overwrite(file_of(copy), -1, 1)  # of the last block of three
    rest = BreakingTower(tower, 1)
    with pytest.warns(UserWarning, match="1 of 3 blocks of prompts are encoded anew"):
        assert same_bits(harvest(rest, PROMPTS, copy, batch_size=3, verify=True).x, cached[1])
    assert rest.left == 0


def test_embeddings_written_to_by_others_are_checked_once(tower, cached, copy):
    path = file_of(copy)
    path.touch()
    assert same_bits(harvest(BreakingTower(tower, 0), PROMPTS, copy).x, cached[1])
    assert json.loads(path.with_name("progress.json").read_text())["finished"][1] == path.stat().st_mtime_ns


def test_blocks_that_were_damaged_before_an_interruption_are_found_after_it(tower, cached, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        harvest(BreakingTower(tower, 2), PROMPTS, tmp_path, batch_size=3)
    overwrite(file_of(tmp_path), 1000, 1)  # of the first block
    with pytest.warns(UserWarning, match="1 of 3"):
        assert same_bits(harvest(tower, PROMPTS, tmp_path, batch_size=3).x, cached[1])


def test_a_cache_without_checksums_is_made_anew(tower, cached, copy):
    path = file_of(copy)
    path.with_name("checksums.bin").unlink()
    path.with_name("progress.json").write_text('{"done": 8}')
    np.save(path, np.zeros((8, 16, 32), np.float16))
    with pytest.warns(UserWarning, match="without checksums: 3 of 3 blocks"):
        assert same_bits(harvest(tower, PROMPTS, copy, batch_size=3).x, cached[1])


@pytest.mark.filterwarnings("ignore:waiting")
def test_the_second_of_two_on_one_cache_waits_and_takes_what_the_first_has_made(tower, cached, tmp_path):
    first, second = [], []
    entered, go = threading.Event(), threading.Event()

    class Slow(BreakingTower):
        def encode_tokens(self, tokens, edited=False):
            if getattr(self, "left", 9) == 3:
                entered.set()
                go.wait()
            return super().encode_tokens(tokens, edited)

    slow, idle = Slow(tower, 3), BreakingTower(tower, 0)
    one = threading.Thread(target=lambda: first.append(harvest(slow, PROMPTS, tmp_path, batch_size=3).x))
    one.start()
    entered.wait()
    lock = next(tmp_path.rglob(".lock"))
    with pytest.raises(TimeoutError):
        FileLock(lock).acquire(timeout=0)  # another process would wait here
    two = threading.Thread(target=lambda: second.append(harvest(idle, PROMPTS, tmp_path, batch_size=3).x))
    two.start()
    go.set()
    one.join()
    two.join()
    assert same_bits(first[0], cached[1])
    assert same_bits(second[0], cached[1])
    assert idle.left == 0


@contextmanager
def largest_file(size: int):
    """No file of this process may grow beyond: what the system says then comes the way of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_is_told_and_loses_nothing(tower, cached, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        harvest(BreakingTower(tower, 2), PROMPTS, tmp_path, batch_size=3)
    with largest_file(4000), pytest.raises(SnceError, match=r"cannot use the cache .*nothing that it holds is lost"):
        harvest(tower, PROMPTS, tmp_path, batch_size=3)
    rest = BreakingTower(tower, 1)
    assert same_bits(harvest(rest, PROMPTS, tmp_path, batch_size=3).x, cached[1])
    assert rest.left == 0


def test_embeddings_that_do_not_fit_the_disk_are_refused_before_the_work(tmp_path):
    prompts = shutil.disk_usage(tmp_path).free // (77 * 768 * 2) + 1000
    with (
        pytest.raises(SnceError, match=r"need .* GB more, .* has .* GB free"),
        EmbeddingStore(tmp_path, (prompts, 77, 768), 256),
    ):
        pass


def test_embeddings_larger_than_memory_can_be_mapped(tmp_path):
    """A sparse file: the system must not set memory aside for all of it."""
    memory = psutil.virtual_memory().total + psutil.swap_memory().total
    prompts = 2 * memory // (77 * 768 * 2)
    store = EmbeddingStore(tmp_path, (prompts, 77, 768), 256)
    with (tmp_path / "embeddings.npy").open("wb") as file:
        file.write(store._header)
        file.truncate(len(store._header) + prompts * 77 * 768 * 2)
    x = store.read()
    assert x.shape == (prompts, 77, 768)
    x[-1] = 1
    assert store.read()[-1].sum() == 0


def test_a_finished_cache_on_a_medium_that_takes_no_files_is_read(tower, cached):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "cache")
        shutil.copytree(cached[0], folder)
        Path(name).chmod(0o755)
        inside = file_of(folder).parent
        for path in (*inside.iterdir(), inside, folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        with not_root():
            for touched in (False, True):
                assert same_bits(harvest(BreakingTower(tower, 0), PROMPTS, folder, verify=touched).x, cached[1])
            with pytest.raises(SnceError, match="cannot"):
                harvest(tower, PROMPTS[:2], folder)
        folder.chmod(0o755)
        inside.chmod(0o755)


@contextmanager
def not_root():
    """Root may write anywhere."""
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("write", range(4, 11))
@pytest.mark.filterwarnings("ignore:the cache", "ignore:This process:DeprecationWarning")
def test_a_kill_within_a_write_leaves_a_cache_that_goes_on(tower, cached, tmp_path, write):
    """The first writes begin the file and forget three blocks; then numbers and checksum of a block take turns."""
    if (child := os.fork()) == 0:
        kill_within_write(write)
        harvest(tower, PROMPTS, tmp_path, batch_size=3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert same_bits(harvest(tower, PROMPTS, tmp_path, batch_size=3).x, cached[1])
    assert file_of(tmp_path).read_bytes() == file_of(cached[0]).read_bytes()


def kill_within_write(number: int) -> None:
    """Let power fail when half of the `number`-th write of this process is done."""
    left, write = [number], os.write

    def half_written(file, data):
        left[0] -= 1
        if left[0] == 0:
            write(file, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(file, data)

    os.write = half_written


def test_embeddings_of_another_shape_are_not_stored(tower, tmp_path):
    def encode(blocks):
        return ((i, np.zeros((1, 2, 3), np.float16)) for i, _ in blocks)

    with pytest.raises(SnceError, match="does not fit"):
        harvest(tower, PROMPTS, tmp_path, encode=encode)


def test_blocks_may_come_in_any_order(tower, cached, tmp_path):
    from snce.text.harvest import encode_blocks

    def encode(blocks):
        return reversed(list(encode_blocks(tower, blocks)))

    assert same_bits(harvest(tower, PROMPTS, tmp_path, batch_size=3, encode=encode).x, cached[1])
    assert file_of(tmp_path).read_bytes() == file_of(cached[0]).read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_encoders_of_half_precision_are_kept_as_float16(tmp_path, dtype):
    pipe = tiny_pipeline(0)
    pipe.text_encoder.to(dtype)
    tower = TextTower.from_pipeline(pipe)
    assert same_bits(harvest(tower, PROMPTS, tmp_path).x, tower.encode(PROMPTS).half())
