"""Creates and migrates the schema, and refuses a file that is not ours before anything in it is changed."""

import os

import apsw

from afterwards._store.sqlite.connection import Database, Patience, close, foreign, refused
from afterwards._store.sqlite.place import check_file_system, check_library, file_system, make_file
from afterwards._store.sqlite.sql import MIGRATIONS, QUERIES
from afterwards.errors import StoreRefused

APPLICATION_ID = 0x41667477  # "Aftw", in the header of every database of ours

SMALLEST = 512  # bytes: the smallest page SQLite knows


def prepare(database: Database) -> None:
    """Check the place and the file, create or migrate the schema.

    Raises:
        StoreRefused: The library, the place or the file cannot be used; nothing was changed.
    """
    path = database.path
    check_library(apsw.sqlite_lib_version())
    check_file_system(path.parent, file_system(path.parent))
    make_file(path)
    if 0 < os.stat(path).st_size < SMALLEST and not os.path.exists(f"{path}-journal"):
        raise foreign(path, "it is too short for an SQLite database")  # and SQLite would write over it
    patience = Patience(database.busy)
    tries = 0
    while True:
        try:
            _prepare_file(database)
            return
        except apsw.Error as error:
            # Of several that switch a new file to write-ahead logging at once, some are refused without any waiting.
            if not isinstance(error, apsw.BusyError) or not patience(tries):
                raise refused(database, error) from error
        tries += 1


def _prepare_file(database: Database) -> None:
    connection = database.open()
    try:
        if _has_log(database):
            # Closing would copy the log into the file, which may be another program's.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        check_owner(connection, database)
        if connection.pragma("journal_mode", "wal") != "wal":
            raise StoreRefused(
                f"the database {database.path} cannot use write-ahead logging on this file system. "
                "Choose a data directory on a local disk with --data or AFTERWARDS_DATA."
            )
        _migrate(connection, database)
    finally:
        close(connection)


def check_owner(connection: apsw.Connection, database: Database) -> None:
    """Refuse a database of another program or of a newer one of ours."""
    application, version = connection.pragma("application_id"), connection.pragma("user_version")
    if application == 0 and version == 0 and connection.execute(QUERIES["count_tables"]).get == 0:
        return  # empty: ours to fill
    if application != APPLICATION_ID:
        raise foreign(database.path, f"it belongs to another program (application id {application})")
    if version > len(MIGRATIONS):
        raise StoreRefused(
            f"the database {database.path} was written by a newer Afterwards (schema {version}, this program knows up "
            f"to {len(MIGRATIONS)}). Upgrade this program; going back needs a backup made before the upgrade."
        )


def _has_log(database: Database) -> bool:
    try:
        return os.stat(f"{database.path}-wal").st_size > 0
    except FileNotFoundError:
        return False


def _migrate(connection: apsw.Connection, database: Database) -> None:
    if connection.pragma("user_version") == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")  # of several that start at once the first migrates, the others find it done
    try:
        check_owner(connection, database)
        for number in range(connection.pragma("user_version"), len(MIGRATIONS)):
            connection.execute(MIGRATIONS[number])
            connection.pragma("user_version", number + 1)
        connection.pragma("application_id", APPLICATION_ID)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
