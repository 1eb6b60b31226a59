"""Money, quantities and bids: exact within their bounds, and what is outside them is refused by name."""

from __future__ import annotations

import math

import pytest

from nomx.errors import InvalidRequest
from nomx.market.bids import MAX_POINTS, Menu, Point, tenant_name
from nomx.market.money import (
    HOST_GOODS,
    MAX_QUANTA,
    MAX_RATE,
    MAX_RESOURCES,
    Goods,
    Resource,
    cost,
    micro_credits,
    whole,
)

ROOM = (64, 512, 64, 1000)


def test_the_dearest_bundle_of_the_largest_host_fits_in_64_bits() -> None:
    assert cost((MAX_RATE,) * MAX_RESOURCES, (MAX_QUANTA,) * MAX_RESOURCES) < 2**63


@pytest.mark.parametrize(
    ("text", "micro"), [(1, 10**6), ("0.0000015", 2), ("0.0000025", 2), (0.1, 100_000), ("1e3", 10**9)]
)
def test_credits_are_read_exactly(text: float | str, micro: int) -> None:
    assert micro_credits(text, "price") == micro


@pytest.mark.parametrize("wrong", [-1, math.inf, -math.inf, math.nan, 1e30, "ten", "", True, "0x10"])
def test_an_amount_that_is_none_is_refused(wrong: float | str) -> None:
    with pytest.raises(InvalidRequest, match="price"):
        micro_credits(wrong, "price")


@pytest.mark.parametrize("wrong", [-1, 1.0, math.inf, "1", None, True, MAX_RATE + 1, 2**64])
def test_a_number_from_outside_has_to_be_whole_and_within_bounds(wrong: object) -> None:
    with pytest.raises(InvalidRequest, match="value"):
        whole(wrong, "value", MAX_RATE)


def test_amounts_are_ordered_by_resource() -> None:
    assert HOST_GOODS.quanta({"bandwidth": 5, "cores": 1}, "floor") == (1, 0, 0, 5)
    assert HOST_GOODS.units((1, 2, 3, 4)) == {"cores": 1, "memory": 0.5, "units": 3, "bandwidth": 0.4}


def test_goods_have_different_names() -> None:
    with pytest.raises(InvalidRequest):
        Goods((Resource("cores", "core"), Resource("cores", "core")))


def point(amounts: dict[str, int], value: object = 10) -> list[tuple[dict[str, int], int]]:
    return [(amounts, value)]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("points", "named"),
    [
        (point({"cores": 1}) * 2, "points[1]"),
        ([({"cores": n}, 10) for n in range(1, MAX_POINTS + 2)], "points: 9"),
        (point({"cores": 65}), "points[0].cores: 65"),
        (point({"cores": -1}), "points[0].cores: -1"),
        (point({"cores": 1, "gpus": 1}), "points[0].gpus"),
        (point({}), "points[0]"),
        (point({"memory": 0}), "points[0]"),
        (point({"cores": 1}, 0), "points[0].value: 0"),
        (point({"cores": 1}, -5), "points[0].value: -5"),
        (point({"cores": 1}, math.inf), "points[0].value: inf"),
        (point({"cores": 1}, MAX_RATE + 1), "points[0].value"),
        (point({"cores": 1}, "1"), "points[0].value"),
    ],
)
def test_a_bid_that_makes_no_sense_is_refused_and_the_place_named(
    points: list[tuple[dict[str, int], int]], named: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Menu.of(HOST_GOODS, ROOM, points)
    assert named in str(refused.value)


def test_a_switching_cost_counts_up_to_a_tenth_of_the_value() -> None:
    menu = Menu.of(HOST_GOODS, ROOM, [({"cores": 1}, 100), ({"cores": 2}, 5_000)], switching_cost=50)
    assert [menu.stay(each) for each in menu.points] == [10, 50]


def test_a_holding_is_worth_the_best_point_that_it_covers() -> None:
    menu = Menu((Point((2, 0), 10), Point((4, 2), 30), Point((8, 0), 20)))
    assert [menu.value_of(held) for held in ((1, 9), (2, 9), (4, 1), (4, 2), (8, 1), (9, 9))] == [0, 10, 10, 30, 20, 30]


@pytest.mark.parametrize("name", ["", "a" * 65, "a\nb", "\x00"])
def test_a_name_can_be_printed(name: str) -> None:
    with pytest.raises(InvalidRequest, match="tenant"):
        tenant_name(name)
