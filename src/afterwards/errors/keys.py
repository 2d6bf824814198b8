"""What can be wrong with an idempotency key."""

from afterwards.errors.base import Error


class InvalidKey(Error):
    """The request's Idempotency-Key is not one."""

    code = "invalid_idempotency_key"

    def __init__(self, *, problem: str, longest: int) -> None:
        super().__init__(
            f"the Idempotency-Key of this request {problem}, so nothing was done. Send one of 1 to {longest} printable "
            "ASCII characters, such as a UUID in quotes, and the same one when you send the request again."
        )


class KeyInUse(Error):
    """An earlier request with the same Idempotency-Key is still being answered."""

    code = "idempotency_key_in_use"

    def __init__(self) -> None:
        super().__init__(
            "an earlier request with this Idempotency-Key is still being answered, so this one was not begun. "
            "Send it again in a moment, with the same key: then it gets the answer of the first."
        )


class KeyReused(Error):
    """The Idempotency-Key belongs to another request."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "this Idempotency-Key was used before for a request with another path, query or body, so nothing was done. "
            "Send a new request with a new key; send the same request again exactly as it was."
        )


class KeyLost(Error):
    """A request took so long that another one with the same Idempotency-Key was begun: nothing of it was stored."""

    code = "idempotency_key_lost"

    def __init__(self) -> None:
        super().__init__(
            "this process did not renew its lease in time, and another request with the same Idempotency-Key was begun "
            "meanwhile, so nothing of this one was stored. Send it again with the same key to get that answer."
        )
