"""Stacks as folded lines and as a flame graph: one SVG file, with each frame's share when the mouse is on it.

The width of a frame is the share of the samples that fell on it or on what it called; roots are at
the bottom. Source: Brendan Gregg, "The Flame Graph", CACM 59(6), 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TextIO
from xml.sax.saxutils import escape
from zlib import crc32

from nomx.trace.report import StackLine

_WIDTH = 1200
_ROW = 17
_MARGIN = 10
_HEAD = 40
_LETTER = 7
"""Width of a letter of the 12-pixel font, about."""
_NARROWEST = 0.2
"""Frames narrower than this, in pixels, are left out."""


def write_folded(file: TextIO, stacks: Iterable[StackLine]) -> None:
    """Write `root;...;leaf count` lines, which flamegraph.pl, speedscope and inferno read."""
    for stack in stacks:
        file.write(f"{';'.join(frame.replace(';', ':') for frame in stack.frames)} {stack.samples}\n")


@dataclass
class _Frame:
    """A frame of the merged stacks."""

    name: str
    samples: int = 0
    callees: dict[str, _Frame] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return 1 + max((callee.depth for callee in self.callees.values()), default=0)


def _merged(stacks: Iterable[StackLine]) -> _Frame:
    root = _Frame("all")
    for stack in stacks:
        frame = root
        frame.samples += stack.samples
        for name in stack.frames:
            frame = frame.callees.setdefault(name, _Frame(name))
            frame.samples += stack.samples
    return root


def write_svg(file: TextIO, stacks: Iterable[StackLine], title: str) -> None:
    """Draw the flame graph of *stacks*."""
    root = _merged(stacks)
    height = _HEAD + root.depth * _ROW + _MARGIN
    file.write(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
        ' font-family="monospace" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="#fffef8"/>\n'
        f'<text x="{_WIDTH / 2}" y="24" text-anchor="middle" font-size="16">{escape(title)}</text>\n'
    )
    if root.samples:
        scale = (_WIDTH - 2 * _MARGIN) / root.samples
        for line in _drawn(root, _MARGIN, height - _MARGIN - _ROW, scale, root.samples):
            file.write(line)
    else:
        file.write(f'<text x="{_MARGIN}" y="{_HEAD + _ROW}">no samples</text>\n')
    file.write("</svg>\n")


def _drawn(frame: _Frame, x: float, y: float, scale: float, total: int) -> Iterator[str]:
    width = frame.samples * scale
    if width < _NARROWEST:
        return
    told = f"{frame.name}: {frame.samples} samples, {100 * frame.samples / total:.1f} %"
    letters = int(width / _LETTER) - 1
    shown = frame.name if len(frame.name) <= letters else frame.name[: max(0, letters - 1)] + "…" if letters > 2 else ""
    yield (
        f"<g><title>{escape(told)}</title>"
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_ROW - 1}" fill="{_colour(frame.name)}" rx="1"/>'
        f'<text x="{x + 3:.1f}" y="{y + _ROW - 5:.1f}">{escape(shown)}</text></g>\n'
    )
    for name in sorted(frame.callees):
        callee = frame.callees[name]
        yield from _drawn(callee, x, y - _ROW, scale, total)
        x += callee.samples * scale


def _colour(name: str) -> str:
    """Give what belongs together one hue: XDP and AF_XDP blue, BPF violet, networking green, the rest warm."""
    shade = crc32(name.encode()) % 20
    if "xsk" in name or "xdp" in name:
        hue = 205
    elif name.startswith("bpf_prog"):
        hue = 270
    elif any(part in name for part in ("net", "skb", "napi", "ip_", "udp", "tcp", "sock", "veth")):
        hue = 130
    elif name.startswith("["):
        return f"hsl(0, 0%, {70 + shade // 2}%)"
    else:
        hue = 25
    return f"hsl({hue + shade - 10}, 75%, {68 + shade // 3}%)"
