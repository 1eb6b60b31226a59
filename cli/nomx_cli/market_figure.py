"""The figure of `nomx market simulate`: welfare and prices over time; the only place that needs matplotlib."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomx.errors import InvalidRequest, NotSupported

if TYPE_CHECKING:
    from nomx.market.simulate import Comparison, Result

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Told apart by colour-blind readers. Source: Okabe and Ito, "Color Universal Design" (2008)."""

POINTS = 400
"""The most points of a line: more than the figure's dots would only draw noise."""


def require_matplotlib() -> None:
    """Check before a long run that its figure can be drawn.

    Raises: NotSupported: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise NotSupported(
            feature="drawing figures",
            missing="matplotlib is not installed",
            remedy='install it with: pip install "nomx[figures]"',
        )


def draw(comparison: Comparison, path: Path) -> None:
    """Draw welfare by policy and, of each that charges, prices over time into *path*; its suffix says the format.

    Raises: InvalidRequest: the file cannot be written, or matplotlib does not know the format.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    charging = [result for result in comparison.results if result.paid]
    figure, axes = plt.subplots(
        1 + len(charging), 1, figsize=(8, 3 * (1 + len(charging))), sharex=True, squeeze=False, layout="constrained"
    )
    figure.suptitle(comparison.title)
    _draw_welfare(axes[0, 0], comparison)
    for axis, result in zip(axes[1:, 0], charging, strict=True):
        _draw_prices(axis, result)
    axes[-1, 0].set_xlabel("hours")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            field="--figure", value=f"{path} ({error})", expected="a file such as market.png"
        ) from error
    finally:
        plt.close(figure)


def _draw_welfare(axis: Any, comparison: Comparison) -> None:
    for colour, result in zip(COLOURS, comparison.results, strict=False):
        hours, welfare = _thinned(result.series.hours), _thinned(result.series.welfare)
        axis.plot(hours, welfare, color=colour, label=f"{result.policy} ({100 * result.welfare_part:.0f} %)")
    axis.step(*zip(*comparison.bounds, strict=True), color="#999999", linestyle=":", where="post", label="upper bound")
    axis.set_ylabel("welfare, credits/s")
    axis.set_ylim(bottom=0)
    _explain(axis)


def _draw_prices(axis: Any, result: Result) -> None:
    """Draw each price relative to its mean, as resources' units have nothing in common."""
    hours = _thinned(result.series.hours)
    for colour, (name, mean), column in zip(
        COLOURS, result.prices.items(), zip(*result.series.prices, strict=True), strict=False
    ):
        average = sum(column) / len(column)
        axis.plot(hours, [price / average for price in _thinned(column)], color=colour, label=f"{name} ({mean:.3g})")
    axis.set_yscale("log")
    axis.set_ylabel(f"{result.policy}: price / (mean)")
    _explain(axis)


def _explain(axis: Any) -> None:
    """Put the legend above the lines, where it hides none."""
    axis.legend(
        ncols=4, columnspacing=1.2, fontsize="small", loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False
    )


def _thinned(numbers: Any) -> list[Any]:
    return list(numbers[:: max(1, len(numbers) // POINTS)])
