// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The embedded switch: what a NIC's VEB is to its VFs, for soft VFs. Runs on
 * the near end of each port's veth, takes a frame by its destination MAC to
 * the port that owns it, floods broadcast and multicast, and lets an
 * application send with its own addresses and within its bandwidth only.
 */
#include "nomx/bpf.h"
#include "nomx/abi.h"
#include "nomx/guard.h"

#define NS_PER_S 1000000000ULL
#define TICKS_PER_NS 16 /* the cost of a small frame at 100 Gbit/s is a few ns: not to be rounded */

struct mac {
	__u8 octets[8]; /* 6 used: the key of a hash is a whole number of words */
};

/*
 * A token bucket whose tokens are time: what a port has sent is paid for until
 * a moment that lies in the past by what it has saved up.
 */
struct nomx_bucket {
	struct bpf_spin_lock lock;
	__u32 pad;
	__u64 paid_until; /* ticks */
};

/* Daemon → switch: the ports by the ifindex of their near end. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NOMX_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct nomx_port);
} nomx_ports SEC(".maps");

/* Daemon → switch: which port has a MAC. Nothing is learnt: a MAC has one owner. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NOMX_MAX_PORTS);
	__type(key, struct mac);
	__type(value, __u32);
} nomx_fdb SEC(".maps");

/* Daemon → switch: the devices that a frame may leave by. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, NOMX_MAX_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} nomx_devs SEC(".maps");

/* The switch's own: token buckets, by slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NOMX_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct nomx_bucket);
} nomx_buckets SEC(".maps");

/* Switch → daemon: frames that entered from a port, by slot. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NOMX_MAX_PORTS + 1);
	__type(key, __u32);
	__type(value, struct nomx_counters);
} nomx_entered SEC(".maps");

static __always_inline int drop(struct nomx_counters *counters, enum nomx_drop why)
{
	counters->drops[why]++;
	return XDP_DROP;
}

/*
 * Pay for the frame out of the port's bucket; false: not enough is saved up.
 * Time is taken before the lock (no helper may be called under it), so another
 * CPU may have paid for a little later: then there is the less to spend.
 */
static __always_inline bool within_rate(const struct nomx_port *port, __u64 bytes)
{
	__u64 now = bpf_ktime_get_ns() * TICKS_PER_NS, burst = port->burst_ns * TICKS_PER_NS;
	__u64 cost = bytes * 8 * NS_PER_S * TICKS_PER_NS / port->rate_bps;
	__u64 oldest = now > burst ? now - burst : 0;
	struct nomx_bucket *bucket = bpf_map_lookup_elem(&nomx_buckets, &port->slot);
	bool ok;

	if (!bucket)
		return true;
	bpf_spin_lock(&bucket->lock);
	if (bucket->paid_until < oldest)
		bucket->paid_until = oldest;
	ok = bucket->paid_until + cost <= now;
	if (ok)
		bucket->paid_until += cost;
	bpf_spin_unlock(&bucket->lock);
	return ok;
}

SEC("xdp")
int nomx_switch(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 ifindex = ctx->ingress_ifindex;
	struct nomx_port *port = bpf_map_lookup_elem(&nomx_ports, &ifindex);
	__u32 slot = port ? port->slot : NOMX_NO_SLOT;
	struct nomx_counters *counters = bpf_map_lookup_elem(&nomx_entered, &slot);
	struct ethhdr *eth = data;
	struct mac to = {};
	__u32 *out;

	if (!counters)
		return XDP_ABORTED;
	if (!port)
		return drop(counters, NOMX_DROP_NO_PORT);
	if ((void *)(eth + 1) > end)
		return drop(counters, NOMX_DROP_RUNT);
	if (port->flags & NOMX_PORT_GUARDED) {
		int refused = nomx_guard(port, eth, end);

		if (refused != NOMX_GUARD_PASS)
			return drop(counters, refused);
	}
	if (port->rate_bps && !within_rate(port, end - data))
		return drop(counters, NOMX_DROP_RATE);
	counters->packets++;
	counters->bytes += end - data;

	if (eth->h_dest[0] & 1)
		return bpf_redirect_map(&nomx_devs, 0, BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS);
	__builtin_memcpy(to.octets, eth->h_dest, sizeof(eth->h_dest));
	out = bpf_map_lookup_elem(&nomx_fdb, &to);
	if (!out || *out == ifindex)
		return drop(counters, NOMX_DROP_UNKNOWN_MAC);
	return bpf_redirect_map(&nomx_devs, *out, XDP_DROP);
}

char _license[] SEC("license") = "Dual BSD/GPL";
