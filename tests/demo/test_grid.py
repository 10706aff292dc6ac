"""The demo's picture shows every prompt before and after, and says truly which changed."""

import pytest
import torch
from PIL import Image

from snce.demo.grid import CHANGED, GAP, LABEL, SAME, TILE, before_after, contact_sheet, save_png, to_image


def flat(*colours):
    """Pictures of one colour each, uint8 [n, 3, 64, 64]."""
    return torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 64, 64).clone()


RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def count(image, colour):
    return {c: n for n, c in image.getcolors(1 << 24)}.get(colour, 0)


@pytest.fixture
def sheet():
    one_bit = flat(BLUE)
    one_bit[0, 2, 63, 63] ^= 1
    sections = [
        ("the concept", ["a bomb", "two bombs"], flat(RED, RED), flat(BLUE, RED)),
        ("everything else", ["a violin"], flat(BLUE), one_bit),
    ]
    return before_after(sections, "title", "subtitle")


def test_all_pictures_are_on_it_enlarged(sheet):
    assert count(sheet, RED) == 3 * TILE**2
    assert count(sheet, BLUE) > 2.9 * TILE**2
    assert sheet.width == LABEL + 2 * (TILE + GAP) + GAP


def test_a_frame_is_green_for_the_same_bytes_and_red_for_one_changed_bit(sheet):
    frame = count(sheet, SAME)
    assert frame > 4 * TILE
    assert count(sheet, CHANGED) == 2 * frame


def test_headings_and_prompts_are_written(sheet):
    blank = before_after([("", ["", ""], flat(RED, RED), flat(BLUE, RED))], "")
    written = before_after([("heading", ["a bomb", ""], flat(RED, RED), flat(BLUE, RED))], "title")
    assert blank.size == written.size
    assert count(blank, WHITE) > count(written, WHITE)


def test_a_file_is_that_image(sheet, tmp_path):
    save_png(sheet, tmp_path / "new" / "grid.png")
    with Image.open(tmp_path / "new" / "grid.png") as image:
        assert image.format == "PNG"
        assert image.tobytes() == sheet.tobytes()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_an_image_keeps_channels_and_orientation():
    picture = flat(WHITE)[0]
    picture[:, :32, :32] = torch.tensor(RED, dtype=torch.uint8)[:, None, None]
    image = to_image(picture, 64)
    assert image.getpixel((5, 5)) == RED
    assert image.getpixel((60, 5)) == image.getpixel((5, 60)) == WHITE


def test_a_contact_sheet_reads_from_left_to_right():
    sheet = contact_sheet(flat(RED, BLUE, BLUE), columns=2, side=20)
    assert sheet.size == (2 * 24 + 4, 2 * 24 + 4)
    assert [sheet.getpixel(p) for p in ((14, 14), (38, 14), (14, 38), (38, 38))] == [RED, BLUE, BLUE, WHITE]
