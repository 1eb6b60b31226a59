/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The structs that the BPF programs and Python share: fixed width, explicit
 * padding, version first. nomx/linux/abi.py mirrors them; a test compares
 * sizes and offsets with the objects' BTF.
 */
#ifndef NOMX_ABI_H
#define NOMX_ABI_H

#define NOMX_ABI_VERSION 1
#define NOMX_MAX_PORTS 1024
#define NOMX_NO_SLOT NOMX_MAX_PORTS /* counters of frames that came from no port */
#define NOMX_MAX_QUEUES 8

/* What the switch knows of a port, keyed by the ifindex of its near end. */
struct nomx_port {
	__u32 version;
	__u32 slot; /* index of its counters */
	__u32 flags; /* NOMX_PORT_* */
	__be32 ip4;
	__u8 mac[6];
	__u8 pad[2];
	__u8 ip6[16];
	__u64 rate_bytes_per_s; /* 0: no limit */
	__u64 burst_bytes;
};

/* The port belongs to an application: it may send with its own addresses only. */
#define NOMX_PORT_GUARDED 1

/* Why a frame went no further; index of the drop counters. */
enum nomx_drop {
	NOMX_DROP_RUNT, /* shorter than its own headers say */
	NOMX_DROP_NO_PORT, /* came from an interface that is no port */
	NOMX_DROP_SPOOFED_MAC,
	NOMX_DROP_SPOOFED_IP, /* IPv4, ARP, IPv6 or neighbour discovery */
	NOMX_DROP_ETHERTYPE, /* guarded port: neither ARP, IPv4 nor IPv6 (VLAN tags, LLDP, ...) */
	NOMX_DROP_RATE, /* over the port's bandwidth */
	NOMX_DROP_UNKNOWN_MAC, /* nobody has that unicast address */
	NOMX_DROP_NOT_OURS, /* steer: for another address */
	NOMX_DROP_NO_XSK, /* steer: no socket bound to the queue, or its ring full */
	NOMX_DROP_REASONS,
};

/* Per-CPU counters of a port, index its slot: one set at the switch, one at steer. */
struct nomx_counters {
	__u64 packets;
	__u64 bytes;
	__u64 drops[NOMX_DROP_REASONS];
};

/* What steer knows of a device, keyed by its ifindex. */
struct nomx_device {
	__u32 version;
	__u32 slot; /* its first XSK is at slot * NOMX_MAX_QUEUES */
	__u8 mac[6];
	__u8 pad[2];
};

/* Crossings of one cgroup, per CPU; see docs/explanation/crossings.md. */
struct nomx_crossings {
	__u64 syscalls;
	__u64 page_faults;
	__u64 voluntary_switches;
	__u64 involuntary_switches;
	__u64 napi_polls;
	__u64 socket_rx_packets;
	__u64 socket_tx_packets;
	__u64 socket_rx_bytes;
	__u64 socket_tx_bytes;
};

#endif
