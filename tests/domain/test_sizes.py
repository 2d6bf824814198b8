"""Sizes as people write them."""

import pytest

from afterwards._domain.sizes import parse_size


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (0, 0),
        (512, 512),
        ("512", 512),
        ("512 B", 512),
        ("1 kB", 1_000),
        ("1KiB", 1_024),
        ("10 MB", 10_000_000),
        ("10mb", 10_000_000),
        ("2 GiB", 2_147_483_648),
        ("1.5 MiB", 1_572_864),
        (" 3 TB ", 3_000_000_000_000),
        ("4 G", 4_000_000_000),
        (2**62, 2**62),
    ],
)
def test_a_size_is_read(written, size):
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written", [-1, 1.5, True, None, "", "MB", "ten MB", "-1 MB", "1 iB", "1 PB", "1e3", "1 MB/s", 2**62 + 1, "9" * 30]
)
def test_what_is_no_size_is_refused(written):
    """A limit that is misunderstood would be none."""
    with pytest.raises(ValueError, match=r'such as "512 MB"'):
        parse_size(written)
