"""A step that Linux refuses half way: told with what to do next, and taken back whole."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from nomx.alloc.actions import PlugPort
from nomx.errors import MechanismError
from nomx.linux import bpf, netns
from nomx.linux.links import Links
from nomx.mech.station import Station
from nomx.mech.switch import Switch
from tests.kernel.conftest import Wired, ip4, port_of

pytestmark = [pytest.mark.root, pytest.mark.netns]


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_switch_without_its_programs_is_no_switch(
    instance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    monkeypatch.setattr(bpf, "OBJECTS", tmp_path)
    with pytest.raises(MechanismError, match="was not built"):
        Switch(instance)
    assert not netns.exists(instance)
    assert descriptors() == before


def test_what_an_earlier_daemon_made_stays_when_the_next_one_fails(
    wired: Wired, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wired.port(1)
    monkeypatch.setattr(bpf, "OBJECTS", tmp_path)
    with pytest.raises(MechanismError, match="was not built"):
        Switch(wired.instance)
    assert wired.switch.interfaces() == ["s1", "a1"]


def plug(wired: Wired, ifname: str) -> PlugPort:
    """What plugs slot 2's namespace in a second time, under another slot."""
    first = wired.station(2)
    return dataclasses.replace(first, port=3, switch_ifname="s3", ifname=ifname, mac="02:00:00:00:00:03")


def test_a_station_whose_interface_name_is_taken_leaves_nothing(wired: Wired) -> None:
    action, station = plug(wired, "eth0"), Station(wired.switch)
    with pytest.raises(MechanismError, match="File exists") as refusal:
        station.apply(action)
    assert "interface name" in refusal.value.hint
    station.undo(action)
    station.undo(action)
    assert wired.switch.interfaces() == ["s2"]


def test_a_station_whose_address_is_no_address_leaves_nothing(wired: Wired) -> None:
    action, station = dataclasses.replace(plug(wired, "eth1"), prefix_len=99), Station(wired.switch)
    with pytest.raises(MechanismError, match="add address"):
        station.apply(action)
    station.undo(action)
    assert wired.switch.interfaces() == ["s2"]
    with Links(Path(action.netns)) as there:
        assert "eth1" not in there.names()


def test_a_host_without_ipv6_is_plugged_in_all_the_same(wired: Wired) -> None:
    first = wired.station(2)
    with netns.inside(Path(first.netns)):
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    action = dataclasses.replace(first, port=3, switch_ifname="s3", ifname="eth1", ip4=ip4(3), mac="02:00:00:00:00:03")
    Station(wired.switch).apply(action)
    with Links(Path(first.netns)) as there:
        assert f"{action.ip4}/{action.prefix_len}" in there.addresses()
    Station(wired.switch).undo(action)


def test_undo_of_what_was_never_done_does_nothing(wired: Wired) -> None:
    wired.soft_vf.undo(port_of(wired.instance, 1))
    wired.port(1)
    assert wired.switch.interfaces() == ["s1", "a1"]


def test_a_namespace_is_made_and_removed_once(instance: str) -> None:
    netns.create(instance)
    with pytest.raises(FileExistsError):
        netns.create(instance)
    netns.remove(instance)
    netns.remove(instance)
    assert not netns.exists(instance)


def test_a_name_without_a_namespace_is_no_namespace(instance: str) -> None:
    """What a kill between two steps leaves: a plain file, which the next daemon takes for its own."""
    netns.path(instance).touch()
    assert not netns.exists(instance)
    netns.create(instance)
    assert netns.exists(instance)
    netns.remove(instance)
