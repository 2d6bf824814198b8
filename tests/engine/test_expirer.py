"""Uploads to which nothing comes end after their time, and their room is free."""

import os

from afterwards._domain.ids import new_id
from afterwards._domain.uploads import REMEMBERED, Upload, UploadState
from afterwards._engine.clock import boot_id
from afterwards._engine.expirer import MOST, ROUND, Expirer
from afterwards._files.parts import Part, part_path
from afterwards._store.contract import ask
from afterwards._store.upload_commands import CreateUpload
from engine.rig import Rig

LIFE = 3600.0  # seconds


async def begin(hands: Rig) -> Upload:
    now = hands.clock.now()
    upload = Upload(
        id=new_id(),
        explicit=False,
        length=10,
        boot=boot_id(),
        created_at=now,
        changed_at=now,
        expires_at=now + int(LIFE * 1_000_000),
    )
    await ask(hands.store, CreateUpload(upload=upload))
    part = Part.open(upload.id, hands.root)
    assert part is not None
    os.pwrite(part.fd, b"hello", 0)
    part.close()
    return upload


async def test_an_upload_ends_after_its_time_and_is_forgotten_later(hands: Rig):
    expirer = Expirer(root=hands.root, store=hands.store, clock=hands.clock)
    upload = await begin(hands)
    hands.clock.advance(LIFE - 1)
    assert await expirer.round() == ROUND
    assert hands.store.upload(upload.id) == upload
    assert part_path(upload.id, hands.root).exists()

    hands.clock.advance(2)
    await expirer.round()

    assert hands.store.upload(upload.id).state is UploadState.EXPIRED
    assert not part_path(upload.id, hands.root).exists()
    hands.clock.advance(REMEMBERED / 1_000_000 + 1)
    await expirer.round()
    assert hands.store.upload(upload.id) is None


async def test_many_end_in_rounds(hands: Rig):
    expirer = Expirer(root=hands.root, store=hands.store, clock=hands.clock)
    now = hands.clock.now()
    for _ in range(MOST + 3):
        upload = Upload(id=new_id(), explicit=False, boot="b", created_at=now, changed_at=now, expires_at=now + 1)
        await ask(hands.store, CreateUpload(upload=upload))
    hands.clock.advance(1)
    assert await expirer.round() == 0.1
    assert await expirer.round() == ROUND
