"""Pictures from files: upright, no brightness lost, and only by three decoders."""

import os
import stat
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from core.measure.pie_folder import read_picture
from core.pictures import extent, opened, read_pixels
from core.train.pictures import Folder, fitted, picture_files

RAMP = np.tile(np.arange(256, dtype=np.uint8), (64, 1))


def photo():
    pixels = np.zeros((48, 32, 3), np.uint8)
    pixels[:24, :16], pixels[:24, 16:], pixels[24:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    return pixels


TURN = {
    1: None,
    2: 0,
    3: 3,
    4: 1,
    5: 5,
    6: 2,
    7: 6,
    8: 4,
}  # orientation -> transposition that stores the picture so (PIL numbers)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_every_orientation_reads_upright(tmp_path, orientation, suffix):
    upright = Image.fromarray(photo())
    stored = upright if TURN[orientation] is None else upright.transpose(Image.Transpose(TURN[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"a{suffix}"
    stored.save(
        file,
        exif=exif,
        **({"lossless": True} if suffix == ".webp" else {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}),
    )
    found = read_pixels(file).movedim(0, -1).float()
    near = 12 if suffix == ".jpg" else 0
    assert found.shape == (48, 32, 3) and float((found - torch.from_numpy(photo()).float()).abs().mean()) <= near
    assert extent(file) == (32, 48)
    assert torch.equal(((read_picture(file) + 1) * 127.5).round(), read_pixels(file).float())
    assert float((fitted(file, 32).float() - found[8:40].movedim(-1, 0)).abs().mean()) <= near


@pytest.mark.parametrize("orientation", [1, 6])
def test_sixteen_bits_are_scaled_and_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "a.png", exif=exif)
    found = read_pixels(tmp_path / "a.png")
    expected = torch.from_numpy(RAMP) if orientation == 1 else torch.from_numpy(np.rot90(RAMP, -1).copy())
    assert torch.equal(found, expected.expand(3, -1, -1))


@pytest.mark.parametrize(
    ("value", "shown"), [(0, 0), (128, 0), (129, 1), (255, 1), (256, 1), (32768, 128), (65535, 255)]
)
def test_sixteen_bits_round_to_the_nearest(tmp_path, value, shown):
    Image.fromarray(np.full((2, 2), value, np.uint16)).save(tmp_path / "a.png")
    assert read_pixels(tmp_path / "a.png").unique().tolist() == [shown]


def in_mode(mode):
    grey = Image.fromarray(RAMP)
    if mode == "P":
        return grey.convert("RGB").quantize(256)
    if mode == "P with transparency":
        return grey.convert("P")
    if mode in ("LA", "RGBA"):
        made = grey.convert(mode)
        made.putalpha(Image.fromarray(255 - RAMP))
        return made
    return grey.convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA", "P", "P with transparency", "CMYK"])
def test_a_ramp_keeps_its_values_in_every_mode(tmp_path, mode):
    file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    in_mode(mode).save(
        file, **({"quality": 100} if mode == "CMYK" else {"transparency": 7} if mode == "P with transparency" else {})
    )
    found = read_pixels(file).float()
    assert float((found - torch.from_numpy(RAMP).float()).abs().max()) <= (3 if mode == "CMYK" else 0), (
        "transparency is dropped"
    )


def test_one_bit(tmp_path):
    Image.fromarray(RAMP > 127).save(tmp_path / "a.png")
    assert torch.equal(
        read_pixels(tmp_path / "a.png"), torch.from_numpy((RAMP > 127) * np.uint8(255)).expand(3, -1, -1)
    )


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "GIF", "PPM", "ICO", "TGA", "EPS"])
def test_other_formats_are_not_decoded(tmp_path, kind):
    Image.fromarray(RAMP).save(tmp_path / "a.png", kind)
    for read in (read_pixels, extent, read_picture, lambda f: fitted(f, 8)):
        with pytest.raises(ValueError, match="cannot identify image file"):
            read(tmp_path / "a.png")


def test_floating_point_of_another_kind_of_file(tmp_path):
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=r"pictures end in \.png"):
        read_pixels(tmp_path / "a.tiff")


def test_no_process_is_started_for_a_picture(tmp_path, monkeypatch):
    trap = tmp_path / "bin" / "gs"
    trap.parent.mkdir()
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    trap.chmod(trap.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{trap.parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("Popen", "run", "check_call", "check_output", "call"):
        monkeypatch.setattr(subprocess, name, lambda *_, **__: pytest.fail("a process"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    file = folder / "portrait.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n")
    for read in (read_pixels, extent, read_picture, lambda f: fitted(f, 8), lambda f: Folder(f.parent, 8)):
        with pytest.raises(ValueError, match="cannot be read as a picture"):
            read(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_cut_off_and_damaged_pictures(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    whole = file.read_bytes()
    for length in (0, 1, 20, len(whole) // 2, len(whole) - 40):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cannot be read as a picture"):
            read_pixels(file)
    random = np.random.default_rng(1)
    for _ in range(300):
        data = bytearray(whole)
        for place in random.integers(0, min(len(data), 400), 3):
            data[place] = random.integers(0, 256)
        file.write_bytes(data)
        try:
            assert read_pixels(file).dtype == torch.uint8
        except ValueError as error:
            assert f"a{suffix}" in str(error) and str(error).isprintable()


def test_a_small_file_of_many_pixels(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 50_000
    with pytest.raises(ValueError, match="9000 x 9000 pixels, at most"):
        read_pixels(tmp_path / "a.png")
    with pytest.raises(ValueError, match="larger than 4096"):
        Image.new("1", (5000, 5)).save(tmp_path / "b.png")
        read_picture(tmp_path / "b.png")


def test_pipes_and_missing_files(tmp_path):
    if hasattr(os, "mkfifo"):  # not on Windows, where the file is then missing
        os.mkfifo(tmp_path / "a.png")
    for file in (tmp_path / "a.png", tmp_path / "none.png", tmp_path):
        with pytest.raises(ValueError, match=r"no such file|pictures end in"):
            read_pixels(file)


def test_whatever_goes_wrong_inside_names_the_file(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png.*ZeroDivision|a\.png.*division"), opened(tmp_path / "a.png"):
        raise ZeroDivisionError("division")
    assert picture_files(tmp_path) == [tmp_path / "a.png"]
