"""Derived names and addresses: distinct for each slot and instance, within what Linux takes."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomx.alloc import names
from nomx.errors import InvalidRequest

SLOTS = st.integers(0, names.MAX_SLOTS - 1)
PREFIX = IPv4Network("10.77.0.0/16")


@given(SLOTS, SLOTS)
def test_slots_share_nothing(one, other):
    if one != other:
        assert names.mac("nomx", one) != names.mac("nomx", other)
        assert names.ip4(PREFIX, one) != names.ip4(PREFIX, other)
        assert names.ip6("nomx", one) != names.ip6("nomx", other)


@given(SLOTS)
def test_a_mac_is_local_and_unicast(slot):
    first = int(names.mac("nomx", slot)[:2], 16)
    assert first & 0b11 == 0b10


def test_instances_have_macs_and_subnets_of_their_own():
    assert names.mac("nomx", 1) != names.mac("other", 1)
    assert names.ip6("nomx", 1) != names.ip6("other", 1)
    assert IPv6Address(names.ip6("nomx", 1)).is_private


def test_the_host_has_the_first_address():
    assert str(names.ip4(PREFIX, names.HOST_SLOT)) == "10.77.0.1"
    assert str(names.ip4(PREFIX, 1)) == "10.77.0.2"


def test_a_small_prefix_ends_before_its_broadcast_address():
    prefix = IPv4Network("10.1.2.0/29")
    assert [str(names.ip4(prefix, slot)) for slot in range(6)] == [f"10.1.2.{host}" for host in range(1, 7)]
    assert names.ip4(prefix, 6) is None


@pytest.mark.parametrize("instance", ["", "Nomx", "1st", "a.b", "a/b", "a" * 15, "ä"])
def test_an_instance_that_cannot_name_an_interface_is_refused(instance):
    with pytest.raises(InvalidRequest, match="instance"):
        names.check_instance(instance)


def test_the_longest_instance_fits_an_interface_name():
    assert len(names.host_ifname(names.check_instance("a" * 14))) == 15


@pytest.mark.parametrize("ifname", ["", "a b", "a/b", "a:b", ".", "..", "a" * 16, "a\n"])
def test_a_bad_interface_name_is_refused(ifname):
    with pytest.raises(InvalidRequest, match="ifname"):
        names.check_ifname(ifname)


@pytest.mark.parametrize("text", ["", "8.8.8.0/24", "10.0.0.1/24", "10.0.0.0/30", "10.0.0.0/33", "fd00::/64"])
def test_a_prefix_must_be_private_and_have_room(text):
    with pytest.raises(InvalidRequest, match="prefix"):
        names.parse_prefix(text)


@pytest.mark.parametrize("text", ["10.77.0.0", "10.77.255.255", "10.78.0.1", "::1", "host", ""])
def test_an_address_outside_the_prefix_is_refused(text):
    with pytest.raises(InvalidRequest, match="address"):
        names.parse_address(text, PREFIX)
