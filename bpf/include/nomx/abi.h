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
	__u64 rate_bps; /* 0: no limit */
	__u64 burst_ns; /* how much of it an idle port saves up, as time at that rate */
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
	NOMX_DROP_NO_XSK, /* steer: no socket bound to the queue (a full ring the socket counts) */
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

/*
 * What the tracer adds to the totals; the daemon leaves all of it off. Times
 * are CLOCK_MONOTONIC nanoseconds.
 */

/* Constants of crossings.bpf.c, set before it is loaded. */
struct nomx_config {
	__u8 by_group; /* count the cgroups of nomx_groups */
	__u8 by_process; /* count the processes of nomx_processes, and what they fork */
	__u8 detail; /* keep times, and what is below */
	__u8 timeline; /* write each event to nomx_events */
	__u8 pad[4];
};

/* Set in a subject that is a tree of processes; a cgroup's id is far below. */
#define NOMX_TREE (1ULL << 63)

/* What a system call is besides its number. */
enum nomx_call_kind {
	NOMX_CALL_PLAIN,
	NOMX_CALL_XSK, /* on an AF_XDP socket, without data: it wakes the kernel, and moves packets there */
	NOMX_CALL_COMPAT = 1 << 8, /* of the 32-bit table */
};

struct nomx_call_key {
	__u64 subject;
	__u32 number;
	__u32 kind; /* enum nomx_call_kind */
};

#define NOMX_LOG2_NS 32

/* System calls of one number, per CPU, counted when they end. */
struct nomx_call {
	__u64 count;
	__u64 wall_ns;
	__u64 cpu_ns; /* of it on a CPU, without interrupts */
	__u64 errors; /* EAGAIN among them */
	__u64 again;
	__u64 wall_log2_ns[NOMX_LOG2_NS]; /* [i]: 2^i to 2^(i+1) ns, the last one and all above */
};

/* One thread. Only it and the CPU that switches it write; so no element is per CPU. */
struct nomx_thread {
	__u64 subject;
	__u64 start_ns; /* with the thread id, one thread and no other */
	__u64 ended_ns; /* 0: it lives */
	__u64 running_since_ns; /* start of the stretch not yet added to the times; 0: it is on no CPU */
	__u64 stolen_mark_ns; /* its CPU's stolen_ns at that moment */
	__u64 arrived_ns; /* when it was last given a CPU */
	__u64 call_since_ns; /* entry of the call that it is in; 0: it is in none */
	__u64 call_cpu_ns; /* of that call, so far */
	__u32 call_number;
	__u32 call_kind;
	__u64 user_ns; /* on a CPU outside system calls; page faults among them */
	__u64 call_ns; /* on a CPU in system calls */
	__u64 stolen_ns; /* interrupt handlers and softirqs that ran in its place */
	__u64 syscalls;
	__u64 page_faults;
	__u64 kernel_faults; /* taken inside a system call: no crossing */
	__u64 major_faults; /* the kernel's own count for the thread, of its whole life */
	__u64 major_before; /* that count when tracing began */
	__u64 voluntary_switches;
	__u64 involuntary_switches;
	__u64 migrations;
	__u32 tgid;
	__u32 cpu;
	char comm[16];
};

/* Work of a subject's device, per CPU. */
struct nomx_device_work {
	__u64 interrupts;
	__u64 frames;
	__u64 full_polls; /* that used up their budget */
	__u64 poll_ns;
	__u64 own_polls; /* in the context of the subject's own threads */
	__u64 own_poll_ns;
	__u64 redirects; /* XDP verdicts that have a tracepoint */
	__u64 redirect_errors;
	__u64 exceptions; /* XDP_ABORTED, and verdicts that failed */
};

/* One CPU's marks, and what it had no room for. */
struct nomx_cpu {
	__u64 stolen_ns; /* spent in interrupt handlers and softirqs since loading */
	__u64 interrupt_since_ns;
	__u64 softirq_since_ns;
	__u64 poll_mark_ns; /* end of the last poll of the running softirq, or its start; 0: in none */
	__u64 lost_threads;
	__u64 lost_calls;
	__u64 lost_events;
	__u64 lost_samples;
};

enum nomx_event_kind {
	NOMX_EVENT_CALL, /* detail: number, kind */
	NOMX_EVENT_RUN, /* a stretch on a CPU; detail: 1 if it ended by a wait */
	NOMX_EVENT_FAULT,
	NOMX_EVENT_POLL, /* of a device; detail: frames */
	NOMX_EVENT_STOLEN, /* a softirq; detail: its vector */
};

struct nomx_event {
	__u64 start_ns;
	__u64 duration_ns;
	__u64 subject; /* 0: of no subject */
	__u32 kind; /* enum nomx_event_kind */
	__u32 tid;
	__u32 cpu;
	__u32 detail;
	__u32 call_kind;
	__u32 pad;
};

#define NOMX_STACK_DEPTH 127 /* frames, the kernel's default limit */

/* Where a sample of the CPU clock fell. */
enum nomx_sample_where {
	NOMX_IN_USER,
	NOMX_IN_KERNEL, /* of a subject's thread; its stack says more */
	NOMX_IN_NET_RX, /* receive softirq in another thread's place: of which device is not known */
};

struct nomx_sample_key {
	__u64 subject;
	__s32 stack; /* id in nomx_stacks; negative: none */
	__u32 where;
};

/* An AF_XDP socket as the kernel has it. */
struct nomx_xsk {
	__u64 subject;
	__u64 inode;
	__u32 tgid;
	__u32 fd;
	__u32 netns;
	__u32 ifindex; /* 0: not bound */
	__u32 queue;
	__u32 zerocopy;
	__u32 uses_need_wakeup;
	__u32 tx_budget; /* frames of one transmit call; 0: the kernel has no such limit */
	__u32 rx_entries;
	__u32 tx_entries;
	__u32 rx_produced; /* free-running ring indexes, modulo 2^32 */
	__u32 rx_consumed;
	__u32 tx_produced;
	__u32 tx_consumed;
	__u32 fill_produced;
	__u32 fill_consumed;
	__u64 rx_dropped;
	__u64 rx_ring_full;
	__u64 fill_ring_empty;
	__u64 tx_ring_empty;
	__u64 tx_invalid;
};

#endif
