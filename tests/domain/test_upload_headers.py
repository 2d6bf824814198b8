"""Headers of uploads: what is read, and what is refused."""

import pytest

from afterwards._domain.upload_headers import boolean
from afterwards.errors.uploads import BadUploadHeader


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        ("?1", True),
        ("?0", False),
        (" ?1\t", True),
        ("?1;x", True),
        ("?0; a=1;b=-2.5;*c=tok/en:x;d=?0", False),
        ('?1;e="a \\"quoted\\" text";f=:YQ==:;g=@1700000000;h=%"f%c3%bc"', True),
    ],
)
def test_a_boolean_may_have_parameters_which_mean_nothing_here(text, value):
    """RFC 9651, sections 3.1.2 and 3.3.6."""
    assert boolean("Upload-Complete", text) is value


@pytest.mark.parametrize(
    "text", ["", "?2", "?", "1", "true", "?1 ;x", "?1;", "?1;X", "?1;x=", "?1,?1", "?1, ?1", '?1;x="', "?1?1", "\x0b?1"]
)
def test_what_is_no_boolean_is_refused(text):
    """A file must not be taken for whole because nobody could read whether it is."""
    with pytest.raises(BadUploadHeader, match="Upload-Complete"):
        boolean("Upload-Complete", text)
