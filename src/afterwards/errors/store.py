"""What can be wrong with the place where everything is kept."""

from afterwards.errors.base import Error


class StorageFull(Error):
    """The disk is full: nothing of what was asked has been stored."""

    code = "storage_full"
    retry_after: int | None = 10


class DiskTooSmall(StorageFull):
    """An upload is larger than the disk: it can never be stored, however much is removed there."""

    retry_after = None

    def __init__(self, *, asked: int, size: int) -> None:
        super().__init__(
            f"{asked:,} bytes were announced, and the whole disk for uploads has {size:,}. Nothing of it was read. "
            "Send less."
        )


class TooManyOpenFiles(Error):
    """All file descriptors of the process, or of the machine, are in use: nothing of what was asked has been done."""

    code = "too_many_open_files"
    retry_after = 5


class StorageUnsure(Error):
    """The disk failed while committing: whether it was stored will be known after the reopening."""

    code = "storage_unsure"


class StoreRefused(Error):
    """The data directory or its database cannot be used as it is."""

    code = "store_refused"


class StoreBusy(Error):
    """Another program held the database's write lock for too long; nothing has been stored."""

    code = "store_busy"


class Stopped(Error):
    """The engine has been stopped and takes nothing more."""

    code = "stopped"


class CommandRefused(Error):
    """The store could not carry out a change, so nothing of it was stored."""

    code = "command_refused"

    def __init__(self, *, command: str, problem: str) -> None:
        super().__init__(
            f"the store could not carry out {command} ({problem}); nothing of it was stored, and trying again will "
            "not help. Where no value is far too large, this is a fault in Afterwards: please report it."
        )


class BrokenRule(CommandRefused):
    """A change would have broken a rule that the database keeps, so it was not stored: a fault in Afterwards."""

    code = "broken_rule"

    def __init__(self, *, command: str, rule: str) -> None:
        Error.__init__(
            self,
            f"the database refused {command}, because it breaks one of its rules ({rule}); nothing of it was stored. "
            "This is a fault in Afterwards: please report it with this message.",
        )


class BackupRefused(Error):
    """A backup cannot be made or restored there."""

    code = "backup_refused"
