"""SQLite's own interface to the disk, with errors on demand: everything above it is the real thing."""

import apsw


def disk_error(code: int) -> apsw.IOError:
    error = apsw.IOError("injected by the test")
    error.extendedresult = code
    return error


def full() -> apsw.FullError:
    return apsw.FullError("injected by the test")


class FaultyDisk(apsw.VFS):
    """Raises what was planned for a call on a file, by the ending of its name: "-wal" or "" for the database."""

    def __init__(self, name: str = "faulty") -> None:
        super().__init__(name, "")
        self.name = name
        self.plan: dict[tuple[str, str], Exception] = {}  # (call, ending of the name): what to raise
        self.once = False  # the plan ends with its first error
        self.raised = 0

    def xOpen(self, name, flags):
        return _File(self, name, flags)

    def meet(self, call: str, ending: str) -> None:
        planned = self.plan.get((call, ending))
        if planned is not None:
            self.raised += 1
            if self.once:
                self.plan.clear()
            raise planned


class _File(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name, flags) -> None:
        text = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self.disk = disk
        self.ending = next((ending for ending in ("-wal", "-journal") if text.endswith(ending)), "")
        super().__init__("", name, flags)

    def xWrite(self, data, offset):
        self.disk.meet("write", self.ending)
        super().xWrite(data, offset)

    def xSync(self, flags):
        self.disk.meet("sync", self.ending)
        super().xSync(flags)

    def xRead(self, amount, offset):
        self.disk.meet("read", self.ending)
        return super().xRead(amount, offset)
