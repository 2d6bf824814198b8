"""Files go into a backup by the safest way that costs nothing."""

from pathlib import Path

import pytest
from blake3 import blake3

from afterwards._files import cloning, copying
from afterwards._files.copying import NotAsStored, Way, bring

CONTENT = b"some bytes"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "stored"
    path.write_bytes(CONTENT)
    return path


def brought(source: Path, way: Way, content: bytes = CONTENT) -> tuple[Path, Way]:
    draft = source.with_name(f"draft-{way}")
    digest = f"blake3:{blake3(content).hexdigest()}"
    return draft, bring(source, draft, size=len(CONTENT), digest=digest, way=way, advance=lambda _: None)


def test_a_clone_is_tried_before_a_link(source, monkeypatch):
    """What writes into a stored file must not reach the backup where the file system can keep the two apart."""
    asked = []

    def watching(name):
        real = getattr(cloning, name)
        return lambda *arguments: (asked.append(name), real(*arguments))[1]

    for name in ("share_blocks", "add_name"):
        monkeypatch.setattr(copying, name, watching(name))

    _, way = brought(source, Way.LINKED)

    assert asked == (["share_blocks"] if way is Way.CLONED else ["share_blocks", "add_name"])


@pytest.mark.parametrize("way", list(Way))
def test_what_is_brought_is_whole_and_alone(source, way):
    draft, done = brought(source, way)

    assert draft.read_bytes() == CONTENT
    assert (draft.stat().st_ino == source.stat().st_ino) == (done is Way.LINKED)
    assert done is not Way.LINKED or way is Way.LINKED
    assert sorted(path.name for path in source.parent.iterdir()) == [draft.name, "stored"]


@pytest.mark.parametrize("way", list(Way))
def test_of_other_bytes_nothing_is_left(source, way):
    with pytest.raises(NotAsStored, match=r"the digest of .* instead of blake3:"):
        brought(source, way, b"other bytes")

    assert [path.name for path in source.parent.iterdir()] == ["stored"]
