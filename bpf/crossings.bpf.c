// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts the kernel crossings of a group's threads and of its device, from
 * outside the application: docs/explanation/crossings.md is the definition.
 * Also the packets at its ordinary sockets, so that every path is divided by
 * packets that were counted the same way. GPL only: tracing programs must be.
 */
#include "nomx/bpf.h"
#include "nomx/abi.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct ns_common {
	unsigned int inum;
};
struct net {
	struct ns_common ns;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct net_device {
	int ifindex;
	possible_net_t nd_net;
};
struct napi_struct {
	struct net_device *dev;
};
struct task_struct {
	unsigned int __state;
};
#pragma clang attribute pop

/* The context of a cgroup_skb program, as far as it is read; its layout is fixed. */
struct __sk_buff {
	__u32 len;
};

/* An interface: its index means something in its network namespace only. */
struct nomx_interface {
	__u32 netns;
	__u32 ifindex;
};

/* Daemon → tracer and back: the counters of each group that is counted, by cgroup id. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, NOMX_MAX_PORTS);
	__type(key, __u64);
	__type(value, struct nomx_crossings);
} nomx_groups SEC(".maps");

/* Daemon → tracer: the group whose device an interface is. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NOMX_MAX_PORTS);
	__type(key, struct nomx_interface);
	__type(value, __u64);
} nomx_owners SEC(".maps");

/* The counters of the running thread's group, NULL when nobody counts it. */
static __always_inline struct nomx_crossings *mine(void)
{
	__u64 group = bpf_get_current_cgroup_id();

	return bpf_map_lookup_elem(&nomx_groups, &group);
}

SEC("tp_btf/sys_enter")
int nomx_syscall(__u64 *ctx)
{
	struct nomx_crossings *crossings = mine();

	(void)ctx;
	if (crossings)
		crossings->syscalls++;
	return 0;
}

SEC("tp_btf/page_fault_user")
int nomx_fault(__u64 *ctx)
{
	struct nomx_crossings *crossings = mine();

	(void)ctx;
	if (crossings)
		crossings->page_faults++;
	return 0;
}

/* (bool preempt, struct task_struct *prev, struct task_struct *next): prev still runs. */
SEC("tp_btf/sched_switch")
int nomx_leave(__u64 *ctx)
{
	struct nomx_crossings *crossings = mine();
	struct task_struct *prev = (void *)ctx[1];

	if (!crossings)
		return 0;
	/* preempted, or runnable all the same (TASK_RUNNING): it did not ask to leave */
	if (ctx[0] || prev->__state == 0)
		crossings->involuntary_switches++;
	else
		crossings->voluntary_switches++;
	return 0;
}

/* (struct napi_struct *napi, int work, int budget) */
SEC("tp_btf/napi_poll")
int nomx_poll(__u64 *ctx)
{
	struct napi_struct *napi = (void *)ctx[0];
	struct net_device *dev = napi->dev;
	struct nomx_interface interface = {};
	struct nomx_crossings *crossings;
	__u64 *group;

	if (!dev)
		return 0;
	interface.ifindex = dev->ifindex;
	interface.netns = dev->nd_net.net->ns.inum;
	group = bpf_map_lookup_elem(&nomx_owners, &interface);
	crossings = group ? bpf_map_lookup_elem(&nomx_groups, group) : NULL;
	if (crossings)
		crossings->napi_polls++;
	return 0;
}

/* A packet at one of the group's sockets: from the IP header on, and a GSO segment as one. */
SEC("cgroup_skb/ingress")
int nomx_socket_rx(struct __sk_buff *skb)
{
	__u64 group = bpf_skb_cgroup_id(skb);
	struct nomx_crossings *crossings = bpf_map_lookup_elem(&nomx_groups, &group);

	if (crossings) {
		crossings->socket_rx_packets++;
		crossings->socket_rx_bytes += skb->len;
	}
	return 1; /* let it pass */
}

SEC("cgroup_skb/egress")
int nomx_socket_tx(struct __sk_buff *skb)
{
	__u64 group = bpf_skb_cgroup_id(skb);
	struct nomx_crossings *crossings = bpf_map_lookup_elem(&nomx_groups, &group);

	if (crossings) {
		crossings->socket_tx_packets++;
		crossings->socket_tx_bytes += skb->len;
	}
	return 1;
}

char _license[] SEC("license") = "GPL";
