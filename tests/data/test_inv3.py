import io
import tarfile

import numpy as np
import pytest
from tests.data.inv3_files import pack, properties, write_inv3

from foveate.data import inv3
from foveate.data.demo_lesions import HEAD
from foveate.data.inv3 import read_inv3
from foveate.errors import DataError

SCAN = np.arange(-12, 12, dtype=np.int16).reshape(2, 3, 4)
BYTES = SCAN.astype("<i2").tobytes()


def test_a_scan_comes_back_as_it_was(tmp_path):
    write_inv3(tmp_path / "a.inv3", SCAN)
    found = read_inv3(tmp_path / "a.inv3")
    assert (found == SCAN).all()
    assert found.dtype == np.int16


@pytest.mark.parametrize(
    ("files", "links", "told"),
    [
        ({"matrix.dat": BYTES}, {}, "one file main.plist is wanted; there are 0"),
        ({"main.plist": b"<plist>"}, {}, "is damaged and cannot be read"),
        ({"main.plist": b" " * 2**17}, {}, "main.plist has 131072 bytes"),
        ({"main.plist": properties(SCAN)}, {}, "one file matrix.dat is wanted; there are 0"),
        ({"main.plist": properties(SCAN)}, {"matrix.dat": "/etc/passwd"}, "one file matrix.dat is wanted; there are 0"),
        ({"main.plist": properties(SCAN, filename="/etc/passwd")}, {}, "one file /etc/passwd is wanted; there are 0"),
        (
            {"main.plist": properties(SCAN), "a/matrix.dat": BYTES, "b/matrix.dat": BYTES},
            {},
            "one file matrix.dat is wanted; there are 2",
        ),
        ({"main.plist": properties(SCAN), "matrix.dat": BYTES[:-2]}, {}, "cannot reshape"),
        ({"main.plist": properties(SCAN, shape=[2, 3]), "matrix.dat": BYTES}, {}, "cannot reshape"),
        ({"main.plist": properties(SCAN, shape=[4, 6]), "matrix.dat": BYTES}, {}, "a matrix of three sides is wanted"),
        ({"main.plist": properties(SCAN, dtype="float64"), "matrix.dat": BYTES}, {}, "int16 is wanted"),
    ],
)
def test_a_project_that_is_damaged_or_means_harm_is_told(tmp_path, files, links, told):
    pack(tmp_path / "a.inv3", files, links)
    with pytest.raises(DataError, match=told):
        read_inv3(tmp_path / "a.inv3")


def test_a_file_that_ends_early_or_is_no_archive_is_told(tmp_path):
    write_inv3(tmp_path / "a.inv3", SCAN)
    whole = (tmp_path / "a.inv3").read_bytes()
    for held in (whole[: len(whole) // 2], b"text", b""):
        (tmp_path / "a.inv3").write_bytes(held)
        with pytest.raises(DataError, match=r"a.inv3 is damaged and cannot be read"):
            read_inv3(tmp_path / "a.inv3")
    with pytest.raises(DataError, match=r"none.inv3 does not exist"):
        read_inv3(tmp_path / "none.inv3")


def test_what_unpacks_to_too_much_is_not_unpacked_further(tmp_path, monkeypatch):
    monkeypatch.setattr(inv3, "LARGEST", 1000)
    write_inv3(tmp_path / "a.inv3", SCAN)
    with pytest.raises(DataError, match="unpacks to more than 1000 bytes"):
        read_inv3(tmp_path / "a.inv3")


@pytest.mark.slow
@pytest.mark.skipif(not HEAD.is_file(), reason=f"there is no {HEAD}")
def test_the_head_of_the_package_is_read():
    head = read_inv3(HEAD)
    assert head.shape == (108, 256, 256)
    assert (head.min(), head.max()) == (-1024, 2986)


def test_a_sparse_file_that_says_to_be_huge_is_not_filled(tmp_path):
    said = tarfile.TarInfo("matrix.dat")
    said.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(2**40)}
    said.pax_headers |= {"GNU.sparse.numblocks": "0", "GNU.sparse.map": "0,0"}
    about = tarfile.TarInfo("main.plist")
    about.size = len(properties(SCAN))
    with tarfile.open(tmp_path / "a.inv3", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(about, io.BytesIO(properties(SCAN)))
        archive.addfile(said)
    with pytest.raises(DataError, match=f"matrix.dat has {2**40} bytes"):
        read_inv3(tmp_path / "a.inv3")
