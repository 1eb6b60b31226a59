"""Is the market fast, near the optimum and worth more than other allocators, and what does lying to it gain?

Run on an otherwise idle machine: `python experiments/0006-market/run.py`, or with `--only clearing,welfare` in parts.
Writes result.json and the tables in README.md, both beside this file.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Any

from msgspec.structs import replace as with_changes

from nomx.market import assign, clearing, regret
from nomx.market.book import Book
from nomx.market.clearing import Market
from nomx.market.exchange import Exchange
from nomx.market.money import MAX_RATE, SECOND_NS
from nomx.market.policies import policy_named
from nomx.market.policy import Case
from nomx.market.population import crowd, draw_profile
from nomx.market.prices import welfare_bound
from nomx.market.regret import following, settled
from nomx.market.scenario import Scenario, changed
from nomx.market.simulate import percentile, simulate

HERE = Path(__file__).resolve().parent
SIZES = (20, 50, 300)
BASELINES = ("market", "priorities", "drf", "karma", "weighted", "first-come", "static")
Row = dict[str, Any]


def case_of(tenants: int, seed: int) -> Case:
    return crowd(with_changes(Scenario(), tenants=tenants, seed=seed))


def restless(case: Case, random: Random, part: float = 0.1) -> Case:
    """The case after a *part* of the tenants has got another load: menus are new objects, as they would be."""
    menus = [t.menu for t in case.tenants]
    for place in random.sample(range(len(menus)), max(1, int(part * len(menus)))):
        load = random.lognormvariate(0.0, 0.3)
        points = tuple(replace(p, value=min(MAX_RATE, max(1, int(p.value * load)))) for p in menus[place].points)
        menus[place] = replace(menus[place], points=points)
    return replace(case, tenants=tuple(replace(t, menu=m) for t, m in zip(case.tenants, menus, strict=True)))


def spread(numbers: list[float]) -> Row:
    return {
        "median": median(numbers),
        "p99": percentile(numbers, 99),
        "max": max(numbers),
        "runs": len(numbers),
    }


class Watch:
    """Milliseconds by the clock on the wall, and of this thread's own work, which neighbours disturb less."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.thread_time()
        yield
        self.cpu.append(1e3 * (time.thread_time() - cpu))
        self.wall.append(1e3 * (time.perf_counter() - wall))


def clearing_time() -> list[Row]:
    """`policy.clear`, from a Case of objects to an Outcome of objects; a tenth of the tenants re-bids each period."""
    rows = []
    for tenants, seeds, periods in (
        (5, 10, 60),
        (20, 10, 60),
        (50, 10, 60),
        (300, 10, 60),
        (1000, 5, 60),
        (10_000, 2, 30),
    ):
        cold, warm = Watch(), Watch()
        for seed in range(seeds):
            random, case = Random(seed), case_of(tenants, seed)
            for period in range(periods):
                with (warm if period else cold).one():
                    outcome = Market().clear(case)
                case = restless(following(case, outcome), random)
        rows.append(
            {"tenants": tenants, "cold_ms": spread(cold.wall), "ms": spread(warm.wall), "cpu_ms": spread(warm.cpu)}
        )
        say(f"clearing {tenants}: {rows[-1]}")
    return rows


def tick_time() -> list[Row]:
    """`Exchange.tick`: settlement, clearing, notices, grants and the ledger, all that a period needs."""
    rows = []
    for tenants in (50, 300, 1000):
        scenario, random = with_changes(Scenario(), tenants=tenants), Random(1)
        exchange = Exchange(scenario.host.quanta, Market(), scenario.rules)
        profiles = [draw_profile(scenario, random) for _ in range(tenants)]
        for number in range(tenants):
            exchange.join(f"t{number}", 0, income=MAX_RATE // 2, savings=MAX_RATE)
        watch = Watch()
        for period in range(200):
            now_ns = period * SECOND_NS
            for number in range(tenants) if not period else random.sample(range(tenants), tenants // 10):
                points = profiles[number].points(random.lognormvariate(0.0, 0.3), exchange.supply)
                exchange.bid(f"t{number}", now_ns, points)
            with watch.one():
                exchange.tick(now_ns)
        rows.append({"tenants": tenants, "ms": spread(watch.wall[1:]), "cpu_ms": spread(watch.cpu[1:])})
        say(f"tick {tenants}: {rows[-1]}")
    return rows


def welfare() -> list[Row]:
    """The welfare of each policy at rest, as a part of the dual bound, over 20 crowds a size."""
    rows = []
    for tenants in SIZES:
        parts: dict[str, list[float]] = {name: [] for name in BASELINES}
        for seed in range(20):
            case = case_of(tenants, seed)
            bound = welfare_bound(Book.of(case))
            for name in BASELINES:
                parts[name].append(settled(policy_named(name), case, 30)[1].welfare / bound)
        rows += [
            {"tenants": tenants, "policy": name, "mean": fmean(p), "least": min(p), "most": max(p), "runs": len(p)}
            for name, p in parts.items()
        ]
        say(f"welfare {tenants}: " + ", ".join(f"{name} {fmean(p):.3f}" for name, p in parts.items()))
    return rows


@contextmanager
def without(**constants: Any) -> Iterator[None]:
    """Take a part of the mechanism away by its constant."""
    modules = {"CORE": assign, "MARGIN": clearing, "FEW": clearing}
    before = {name: getattr(modules[name], name) for name in constants}
    try:
        for name, value in constants.items():
            setattr(modules[name], name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(modules[name], name, value)


ABLATIONS = {
    "all of it": {},
    "no search": {"CORE": 0},
    "no margin": {"MARGIN": 0.0, "FEW": 0},
    "neither: price and greedy": {"CORE": 0, "MARGIN": 0.0, "FEW": 0},
}


def ablation() -> list[Row]:
    """What each part of the mechanism contributes: welfare at rest as a part of the bound, over 20 crowds a size."""
    rows = []
    for tenants in (5, 10, *SIZES):
        for name, constants in ABLATIONS.items():
            with without(**constants):
                parts = []
                for seed in range(20):
                    case = case_of(tenants, seed)
                    parts.append(settled(Market(), case, 30)[1].welfare / welfare_bound(Book.of(case)))
            rows.append(
                {"tenants": tenants, "with": name, "mean": fmean(parts), "least": min(parts), "runs": len(parts)}
            )
            say(f"ablation {rows[-1]}")
    return rows


def lying() -> list[Row]:
    """The most that one of 20 lies gained each sampled tenant, as a part of its value, others being truthful."""
    rows = []
    for tenants, seeds, samples in ((20, 10, 10), (50, 10, 10), (300, 10, 8)):
        gains: list[float] = []
        for seed in range(seeds):
            gains += regret.sample(Market(), case_of(tenants, seed), Random(seed), samples)
        rows.append(
            {
                "tenants": tenants,
                "mean": fmean(gains),
                "p95": percentile(gains, 95),
                "max": max(gains),
                "gained_nothing": sum(gain <= 1e-9 for gain in gains) / len(gains),
                "samples": len(gains),
            }
        )
        say(f"lying {tenants}: {rows[-1]}")
    return rows


def an_hour() -> list[Row]:
    """An hour of coming, going and changing: what a declared switching cost saves, and what it costs."""
    rows = []
    for tenants in SIZES:
        for cost in (0.0, 0.05, 0.1):
            scenario = changed(Scenario(policies=("market",)), {"tenants": tenants, "switching_cost": cost})
            started = time.perf_counter()
            (result,) = simulate(scenario).results
            rows.append(
                {
                    "tenants": tenants,
                    "switching_cost": cost,
                    "welfare": result.welfare_part,
                    "changes_per_tenant_hour": result.changes_per_tenant_hour,
                    "seconds": time.perf_counter() - started,
                }
            )
            say(f"an hour {rows[-1]}")
    return rows


PARTS: dict[str, Callable[[], list[Row]]] = {
    "clearing": clearing_time,
    "tick": tick_time,
    "welfare": welfare,
    "ablation": ablation,
    "lying": lying,
    "hour": an_hour,
}


def machine() -> Row:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.split(":")[1].strip() for line in lines if "model name" in line)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
    }


def tables(result: Row) -> str:
    """The tables of README.md."""
    parts = []
    for name, render in RENDERERS.items():
        if name in result:
            on = result[name]["machine"]
            note = (
                f"{on['cpu']}, {on['cores']} cores, Python {on['python']}, load {on['load']} at the start, {on['at']}"
            )
            parts.append(f"### {TITLES[name]}\n\n{render(result[name]['rows'])}\n\n*{note}*")
    return "\n\n".join(parts)


def table(headings: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [headings, tuple("---:" if n else ":---" for n in range(len(headings))), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def render_times(rows: list[Row]) -> str:
    return table(
        ("tenants", "CPU median ms", "CPU p99", "CPU max", "wall median ms", "wall p99", "wall max", "runs"),
        [
            (
                f"{row['tenants']:,}",
                *(f"{row[clock][key]:.1f}" for clock in ("cpu_ms", "ms") for key in ("median", "p99", "max")),
                row["ms"]["runs"],
            )
            for row in rows
        ],
    )


def render_welfare(rows: list[Row]) -> str:
    cells = {(r["policy"], r["tenants"]): f"{r['mean']:.2f} ({r['least']:.2f} to {r['most']:.2f})" for r in rows}
    return table(
        ("policy", *(f"{size} tenants" for size in SIZES)),
        [(name, *(cells[name, size] for size in SIZES)) for name in BASELINES],
    )


def render_ablation(rows: list[Row]) -> str:
    sizes = list(dict.fromkeys(r["tenants"] for r in rows))
    cells = {(r["with"], r["tenants"]): f"{r['mean']:.3f} ({r['least']:.2f})" for r in rows}
    return table(
        ("mean (least)", *(f"{size} tenants" for size in sizes)),
        [(name, *(cells[name, size] for size in sizes)) for name in ABLATIONS],
    )


def render_lying(rows: list[Row]) -> str:
    return table(
        ("tenants", "mean gain", "95th percentile", "largest", "no lie gained", "sampled tenants"),
        [
            (
                row["tenants"],
                *(f"{100 * row[key]:.1f} %" for key in ("mean", "p95", "max")),
                f"{100 * row['gained_nothing']:.0f} %",
                row["samples"],
            )
            for row in rows
        ],
    )


def render_hour(rows: list[Row]) -> str:
    return table(
        ("tenants", "switching cost", "welfare of the bound", "changes a tenant and hour", "seconds to simulate"),
        [
            (
                row["tenants"],
                f"{100 * row['switching_cost']:.0f} %",
                f"{row['welfare']:.3f}",
                f"{row['changes_per_tenant_hour']:.2f}",
                f"{row['seconds']:.1f}",
            )
            for row in rows
        ],
    )


TITLES = {
    "clearing": "Clearing time (one tenth of the tenants re-bids each period)",
    "tick": "A whole period: settlement, clearing, notices, grants, ledger",
    "welfare": "Welfare at rest, as a part of the upper bound: mean of 20 crowds (least to most)",
    "ablation": "What the parts of the mechanism contribute: welfare at rest, as a part of the upper bound",
    "lying": "What lying gains, as a part of value",
    "hour": "An hour of coming, going and changing loads",
}
RENDERERS: dict[str, Callable[[list[Row]], str]] = {
    "clearing": render_times,
    "tick": render_times,
    "welfare": render_welfare,
    "ablation": render_ablation,
    "lying": render_lying,
    "hour": render_hour,
}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, by comma; the others' results stay")
    chosen = parser.parse_args().only.split(",")
    path = HERE / "result.json"
    result: Row = json.loads(path.read_text()) if path.exists() else {}
    for name in chosen:
        gc.collect()
        result[name] = {"machine": machine(), "rows": PARTS[name]()}
        path.write_text(json.dumps(result, indent=1) + "\n")
    readme = HERE / "README.md"
    before, _, rest = readme.read_text().partition("<!-- tables -->\n")
    after = rest.partition("<!-- end of tables -->")[2]
    readme.write_text(f"{before}<!-- tables -->\n{tables(result)}\n<!-- end of tables -->{after}")


if __name__ == "__main__":
    main()
