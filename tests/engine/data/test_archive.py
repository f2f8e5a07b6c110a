"""One contract for both kinds of archive, then what only one of them can do wrong."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from modelpress.engine.data import archive, expansion, fit, image_folders, tar_stream
from modelpress.engine.data.fit import Fit
from modelpress.engine.data.registry import dataset_format, read_file
from modelpress.spec.failure import InvalidDataset
from tests.support.archives import picture, pixels_of, write_tar, write_zip, write_zst

Write = Callable[[Path, dict[str, bytes]], Path]


def write_plain_tar(path: Path, files: dict[str, bytes]) -> Path:
    return write_tar(path, files, "")


def write_bz2(path: Path, files: dict[str, bytes]) -> Path:
    return write_tar(path, files, "bz2")


def write_xz(path: Path, files: dict[str, bytes]) -> Path:
    return write_tar(path, files, "xz")


@pytest.mark.parametrize("write", [write_zip, write_tar, write_plain_tar, write_bz2, write_xz, write_zst])
class TestArchives:
    def test_pixels_and_labels(self, write: Write, tmp_path: Path):
        files = {f"{name}/{index}.png": picture(index) for index, name in enumerate(["dog", "cat", "dog"])}
        content = read_file(write(tmp_path / "file", files))
        assert content.classes == ("cat", "dog")
        assert content.heldout is None
        assert content.train.labels.tolist() == [0, 1, 1]
        assert content.train.images.dtype == np.uint8
        for index, image in zip([1, 0, 2], content.train.images, strict=True):
            np.testing.assert_array_equal(image, pixels_of(picture(index)))

    def test_given_split(self, write: Write, tmp_path: Path):
        files = {
            f"{part}/{name}/0.png": picture(index)
            for index, (part, name) in enumerate((p, n) for p in ("test", "train") for n in ("dog", "cat"))
        }
        content = read_file(write(tmp_path / "file", files))
        assert content.heldout is not None
        np.testing.assert_array_equal(content.heldout.images[1], pixels_of(picture(0)))
        np.testing.assert_array_equal(content.train.images[0], pixels_of(picture(3)))

    def test_all_grey_is_one_channel(self, write: Write, tmp_path: Path):
        files = {"a/1.png": picture(1, mode="L"), "b/1.png": picture(2, mode="1")}
        images = read_file(write(tmp_path / "file", files)).train.images
        assert images.shape == (2, 5, 6, 1)
        np.testing.assert_array_equal(images[0, :, :, 0], pixels_of(files["a/1.png"]))
        np.testing.assert_array_equal(images[1, :, :, 0], pixels_of(files["b/1.png"]) * 255)

    def test_one_in_colour_makes_all_colour(self, write: Write, tmp_path: Path):
        files = {"a/1.png": picture(1, mode="L"), "b/1.png": picture(2), "b/2.png": picture(3, mode="L")}
        images = read_file(write(tmp_path / "file", files)).train.images
        assert images.shape == (3, 5, 6, 3)
        for channel in range(3):
            np.testing.assert_array_equal(images[0, :, :, channel], pixels_of(files["a/1.png"]))
            np.testing.assert_array_equal(images[2, :, :, channel], pixels_of(files["b/2.png"]))
        np.testing.assert_array_equal(images[1], pixels_of(files["b/1.png"]))

    def test_unreadable_image_is_named(self, write: Write, tmp_path: Path):
        files = {"a/1.png": picture(1), "b/broken.png": picture(2)[:60]}
        with pytest.raises(InvalidDataset, match=r"b/broken.png cannot be read"):
            read_file(write(tmp_path / "file", files))

    def test_text_called_png_is_named(self, write: Write, tmp_path: Path):
        with pytest.raises(InvalidDataset, match=r"b/1.png cannot be read .it is no image of a known type"):
            read_file(write(tmp_path / "file", {"a/1.png": picture(1), "b/1.png": b"hello"}))

    def test_images_of_two_sizes_are_named_where_nothing_says_how_to_resize(self, write: Write, tmp_path: Path):
        files = {"a/1.png": picture(1), "b/2.png": picture(2, size=(7, 5))}
        with pytest.raises(InvalidDataset, match=r"a/1.png is 6 x 5 pixels, b/2.png is 7 x 5 pixels; .*`resize`"):
            read_file(write(tmp_path / "file", files), Fit((3, 5, 6)))

    def test_large_files_are_refused_before_they_are_read(
        self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(image_folders, "MAX_IMAGE_FILE_BYTES", 1000)
        with pytest.raises(InvalidDataset, match=r"b/1.png has 1001 bytes, the limit is 1000"):
            read_file(write(tmp_path / "file", {"a/1.png": picture(1), "b/1.png": bytes(1001)}))

    def test_too_many_pixels_in_all(self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(fit, "MAX_DECODED_BYTES", 2 * 5 * 6 * 3 - 1)
        with pytest.raises(InvalidDataset, match="2 images of 6 x 5 pixels are more than"):
            read_file(write(tmp_path / "file", {"a/1.png": picture(1), "b/1.png": picture(2)}))

    def test_too_many_members(self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
        with pytest.raises(InvalidDataset, match="more than 2 members"):
            read_file(write(tmp_path / "file", {f"{name}/1.png": picture() for name in "abc"}))

    def test_nothing_but_typed_errors_from_damaged_files(self, write: Write, tmp_path: Path):
        path = write(tmp_path / "file", {f"{name}/{i}.png": picture(i) for name in "ab" for i in range(3)})
        whole = path.read_bytes()
        draw = np.random.default_rng(0)
        refused = 0
        for _ in range(150):
            damaged = bytearray(whole)
            if draw.random() < 0.5:
                del damaged[int(draw.integers(1, len(whole))) :]
            else:
                for place in draw.integers(0, len(whole), 20):
                    damaged[place] = draw.integers(256)
            path.write_bytes(damaged)
            try:
                read_file(path)
            except InvalidDataset:
                refused += 1
        assert refused > 75


@pytest.mark.parametrize("side", [4097, 12_000, 60_000])
def test_declared_giants_are_refused_before_they_are_decoded(tmp_path: Path, side: int):
    small = bytearray(picture(1, mode="L"))
    # A PNG's header declares width and height in bytes 16 to 24, under a checksum.
    small[16:24] = side.to_bytes(4, "big") * 2
    small[29:33] = zlib.crc32(bytes(small[12:29])).to_bytes(4, "big")
    path = write_zip(tmp_path / "file", {"a/1.png": picture(1), "b/giant.png": bytes(small)})
    with pytest.raises(InvalidDataset, match=r"b/giant.png is .*the limit is 16777216 pixels"):
        read_file(path)


def test_encrypted_zip(tmp_path: Path):
    path = write_zip(tmp_path / "file", {"a/1.png": picture(1), "b/1.png": picture(2)})
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InvalidDataset, match=r"a/1.png is encrypted"):
        read_file(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes):
    path = tmp_path / "file"
    with tarfile.open(path, "w") as tar:
        for name in ("a/1.png", "b/1.png"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    with pytest.raises(InvalidDataset, match=r"a/1.png is a link or a device.*--dereference"):
        read_file(path)


def test_links_in_a_zip(tmp_path: Path):
    link = zipfile.ZipInfo("a/1.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "file", "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidDataset, match=r"a/1.png is a link or a device"):
        read_file(tmp_path / "file")


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("name", ["../a/1.png", "a/../../1.png", "a\\..\\1.png"])
def test_names_that_lead_out(tmp_path: Path, write: Write, name: str):
    with pytest.raises(InvalidDataset, match=r"leads out of the archive"):
        read_file(write(tmp_path / "file", {name: picture(1), "b/1.png": picture(2)}))


def test_a_file_that_is_there_twice(tmp_path: Path):
    with tarfile.open(tmp_path / "file", "w") as tar:
        for content in (picture(1), picture(2)):
            member = tarfile.TarInfo("a/1.png")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(InvalidDataset, match=r"a/1.png is in the archive twice"):
        read_file(tmp_path / "file")


def test_a_header_of_a_tar_that_declares_a_giant_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tar_stream, "MAX_MEMBER_BYTES", 2**20)
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 2**33
    with gzip.open(tmp_path / "file", "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**16))
    with pytest.raises(InvalidDataset, match="a header or a file of more than 1 MiB"):
        read_file(tmp_path / "file")


def test_a_tar_packed_in_several_frames_of_zstandard(tmp_path: Path):
    files = {f"{name}/{index}.png": picture(index) for index, name in enumerate("abab")}
    whole = write_plain_tar(tmp_path / "plain", files).read_bytes()
    packed = b"".join(zstandard.compress(whole[start : start + 1000]) for start in range(0, len(whole), 1000))
    (tmp_path / "file").write_bytes(packed)
    found, expected = read_file(tmp_path / "file"), read_file(tmp_path / "plain")
    np.testing.assert_array_equal(found.train.images, expected.train.images)


def test_a_window_that_takes_much_memory_is_refused(tmp_path: Path):
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=parameters)
    whole = write_plain_tar(tmp_path / "plain", {"a/1.png": picture(1), "b/1.png": picture(2)}).read_bytes()
    stream = packer.compressobj()  # writes no size, which would make the window as small as the content
    packed = stream.compress(whole) + stream.flush()
    (tmp_path / "file").write_bytes(packed)
    with pytest.raises(InvalidDataset, match=r"the tar is damaged .*memory"):
        read_file(tmp_path / "file")


def test_a_tar_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive, "MAX_DECODED_BYTES", 5000)
    path = write_tar(tmp_path / "file", {"zeros.bin": bytes(6000), "a/1.png": picture(1), "b/1.png": picture(2)})
    with pytest.raises(InvalidDataset, match="unpacks to more than"):
        read_file(path)


class TestFormats:
    def test_by_content(self, tmp_path: Path):
        files = {"a/1.png": picture(1), "b/1.png": picture(2)}
        assert dataset_format(write_zip(tmp_path / "x.tar", files)) == "zip"
        assert dataset_format(write_tar(tmp_path / "x.zip", files)) == "tar"
        np.savez(tmp_path / "x.npz", images=np.zeros(1), labels=np.zeros(1))
        assert dataset_format(tmp_path / "x.npz") == "npz"
        np.save(tmp_path / "x.npy", np.zeros(1))
        assert dataset_format(tmp_path / "x.npy") == "npy"

    def test_others_are_told_apart(self, tmp_path: Path):
        path = tmp_path / "file"
        for content, message in [
            (b"", "the file is empty"),
            (b"hello", "neither a zip, a tar, an npz, an npy nor a Parquet"),
            (write_zip(path, {"a/1.png": picture()}).read_bytes()[:-30], "cut off"),
        ]:
            path.write_bytes(content)
            with pytest.raises(InvalidDataset, match=message):
                dataset_format(path)

    def test_a_zip_of_something_else(self, tmp_path: Path):
        with zipfile.ZipFile(tmp_path / "file", "w") as file:
            file.writestr("model/data.pkl", b"x")
        with pytest.raises(InvalidDataset, match="there is no image in the archive"):
            read_file(tmp_path / "file")


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_compressed_tar_is_not_unpacked_without_end(tmp_path, monkeypatch, compression, kind):
    files = {"cat/1.png": picture(1), "dog/1.png": picture(2)}
    path = write_tar(tmp_path / "good", files, compression)
    monkeypatch.setattr(expansion, "MIN_EXPANDED_BYTES", 1 << 20)
    assert read_file(path).classes == ("cat", "dog")
    with tarfile.open(path, f"w:{compression}") as file:
        info = tarfile.TarInfo("notes.txt")
        info.type, info.size = kind, 4 << 20
        file.fileobj.write(info.tobuf() + bytes(4 << 20))
    with pytest.raises(InvalidDataset, match="unpacks to more than"):
        read_file(path)


def test_a_zip_is_not_unpacked_without_end(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("cat/1.png", bytes(4 << 20))
    monkeypatch.setattr(expansion, "MIN_EXPANDED_BYTES", 1 << 20)
    with pytest.raises(InvalidDataset, match="unpacks to more than"):
        read_file(path)
