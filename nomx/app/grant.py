"""The grant, as the application finds it: JSON in a sealed memfd whose number is in NOMX_GRANT.

The launcher made it before it became the application. Without one the application runs all the
same, on the kernel path.
"""

from __future__ import annotations

import functools
import os

import msgspec

from nomx.api.lease import Grant
from nomx.errors import ProtocolError

VARIABLE = "NOMX_GRANT"
_MAX_BYTES = 1 << 20


@functools.cache
def load() -> Grant | None:
    """Read this process's grant, once; None without one.

    Descriptors in it are kept from programs that the application starts. Raises: ProtocolError: NOMX_GRANT
    names no descriptor of this process, or no grant is in it.
    """
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return None
    try:
        grant = msgspec.json.decode(os.pread(int(number), _MAX_BYTES, 0), type=Grant)
        device = grant.device
        fds = [int(number), grant.counters_fd, *([] if device is None else [device.umem_fd, *device.xsk_fds])]
        for fd in fds:
            if fd >= 0:
                os.set_inheritable(fd, False)
    except (ValueError, OSError, msgspec.MsgspecError) as error:
        raise ProtocolError(
            reason=f"{VARIABLE}={number!r} is no grant: {error}",
            remedy="start the application with `nomx run`, or without the variable",
        ) from error
    return grant
