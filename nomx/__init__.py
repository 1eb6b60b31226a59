"""nomx: applications that drive their own network device from Python, without root and without the kernel's stack.

What an application imports is here, and is loaded when it is first used: `import nomx` itself costs nothing.

    udp, serve, NO_REPLY            compiled handlers (`nomx.app.handlers`, `nomx.app.serve`)
    tune                            their knobs, while they run (`nomx.app.tuning`)
    open_device, Batch,             frames in NumPy batches, or one by one
    recv_frame, send_frame          (`nomx.app.frames`)
    grant                           what was granted to this process (`nomx.app.grant`)
    NomxError and its kin           (`nomx.errors`)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nomx.app.frames import open_device, recv_frame, send_frame
    from nomx.app.grant import load as grant
    from nomx.app.handlers import NO_REPLY, udp
    from nomx.app.serve import serve
    from nomx.app.tuning import tune
    from nomx.device.base import Batch
    from nomx.errors import NomxError
    from nomx.version import VERSION as __version__  # noqa: N811

__all__ = [
    "NO_REPLY",
    "Batch",
    "NomxError",
    "__version__",
    "grant",
    "open_device",
    "recv_frame",
    "send_frame",
    "serve",
    "tune",
    "udp",
]

_HOMES = {
    "NO_REPLY": ("nomx.app.handlers", "NO_REPLY"),
    "Batch": ("nomx.device.base", "Batch"),
    "NomxError": ("nomx.errors", "NomxError"),
    "__version__": ("nomx.version", "VERSION"),
    "grant": ("nomx.app.grant", "load"),
    "open_device": ("nomx.app.frames", "open_device"),
    "recv_frame": ("nomx.app.frames", "recv_frame"),
    "send_frame": ("nomx.app.frames", "send_frame"),
    "serve": ("nomx.app.serve", "serve"),
    "tune": ("nomx.app.tuning", "tune"),
    "udp": ("nomx.app.handlers", "udp"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nomx' has no attribute {name!r}")
    import importlib

    home, attribute = _HOMES[name]
    value = getattr(importlib.import_module(home), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
