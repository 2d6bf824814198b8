"""Small files are handed to their task without reading them back, within a limit and only once."""

from afterwards._files.recent import Recent
from afterwards._files.stored import StoredFile, digest_of


def stored(id: str, content: bytes | None) -> StoredFile:
    digest = digest_of(content or b"")
    return StoredFile(id=id, name=None, size=3, content_type=None, headers=(), digest=digest, content=content)


def test_each_is_given_out_once():
    recent = Recent()
    file = stored("a", b"abc")
    recent.add([file, file])

    assert [recent.pop("a"), recent.pop("a")] == [file, None]


def test_what_rests_in_a_file_of_its_own_is_not_remembered():
    recent = Recent()
    recent.add([stored("a", None)])

    assert recent.pop("a") is None


def test_the_oldest_is_forgotten_first():
    recent = Recent(most=10)
    for id in "abcd":
        recent.add([stored(id, b"1234")])
    recent.add([stored("e", b"12345678901")])

    assert [recent.pop(id) is not None for id in "abcde"] == [False, False, True, True, False]


def test_what_was_given_out_leaves_its_room():
    recent = Recent(most=4)
    for id in "abcdefgh":
        recent.add([stored(id, b"1234")])
        assert recent.pop(id) is not None
