"""Whether a CBF file has all of its first binary section, told before anything decodes it."""

from __future__ import annotations

import base64
import hashlib
import re

from offbragg.errors import FormatError

#: What CBF files begin with.
CBF_START = b"###CBF"
_DATA = b"\x0c\x1a\x04\xd5"  # stands before the binary data
_SIZE = re.compile(rb"X-Binary-Size:\s*(\d+)", re.IGNORECASE)
_DIGEST = re.compile(rb"Content-MD5:\s*([A-Za-z0-9+/=]{24})", re.IGNORECASE)


def check_cbf(content: bytes, *, digest: bool = False) -> None:
    """Check that the binary section of a CBF file is there to its end.

    Parameters
    ----------
    content : bytes
        Of the whole file.
    digest : bool
        Compare the MD5 as well, where the header has one: a file may have its length before it
        has its data.

    Raises
    ------
    FormatError
        If something lacks; the message does not name the file.

    Examples
    --------
    >>> check_cbf(bytes.fromhex("0c1a04d5") + b"data")
    >>> check_cbf(b"X-Binary-Size: 5 " + bytes.fromhex("0c1a04d5") + b"data")
    Traceback (most recent call last):
    offbragg.errors.FormatError: expected a binary section of 5 bytes, found 4
    """
    begin = content.find(_DATA)
    if begin < 0:
        raise FormatError("expected a binary section, found none")
    header, begin = content[:begin], begin + len(_DATA)
    size = _SIZE.search(header)
    if size is None:
        return
    end = begin + int(size[1])
    if len(content) < end:
        raise FormatError(
            f"expected a binary section of {end - begin} bytes, found {len(content) - begin}"
        )
    given = _DIGEST.search(header) if digest else None
    if given is not None:
        found = hashlib.md5(content[begin:end], usedforsecurity=False).digest()
        if base64.b64encode(found) != given[1]:
            raise FormatError(f"expected data of MD5 {given[1].decode()}, found other")
