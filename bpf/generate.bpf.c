// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The measuring station: frames out of its interface at the speed of the
 * driver, and the answers counted where they come in. An answer counts only if
 * it is the whole, right datagram; everything else (ARP) goes up to the stack.
 */
#include "nomx/bpf.h"

#define IPPROTO_UDP 17
#define IHL_20 0x45
#define BURST 64

/* What a right answer looks like; network order, set before load. */
struct nomx_target {
	__be32 own_ip;
	__be32 ip;
	__be16 own_port;
	__be16 port;
	__be16 udp_bytes;
	__be16 pad;
	__u32 ifindex; /* where frames leave */
	__u32 marker; /* the first word of the payload */
};

const volatile struct nomx_target nomx_target = {};

/* Station → user: what was sent, and the right answers. */
enum nomx_tally {
	NOMX_SENT,
	NOMX_ANSWERED,
	NOMX_TALLIES,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NOMX_TALLIES);
	__type(key, __u32);
	__type(value, __u64);
} nomx_tallies SEC(".maps");

/* User → station: how far apart requests are to be sent, in ns; 0: as fast as can be. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} nomx_gap SEC(".maps");

/* The station's own: when the next request is due. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} nomx_due SEC(".maps");

/* User → station: the socket that measures round trips. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} nomx_clients SEC(".maps");

static __always_inline void count(__u32 tally)
{
	__u64 *frames = bpf_map_lookup_elem(&nomx_tallies, &tally);

	if (frames)
		(*frames)++;
}

static __always_inline bool is_answer(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 *marker = (void *)(udp + 1);

	return (void *)(marker + 1) <= end && eth->h_proto == bpf_htons(ETH_P_IP) && ip->version_ihl == IHL_20 &&
	       ip->protocol == IPPROTO_UDP && ip->saddr == nomx_target.ip && ip->daddr == nomx_target.own_ip &&
	       udp->source == nomx_target.port && udp->dest == nomx_target.own_port &&
	       udp->len == nomx_target.udp_bytes && *marker == nomx_target.marker;
}

/* Whether a request is due; one that is late by more than a burst is not made up for. */
static __always_inline bool is_due(void)
{
	__u32 zero = 0;
	__u64 *gap = bpf_map_lookup_elem(&nomx_gap, &zero), *due = bpf_map_lookup_elem(&nomx_due, &zero), now;

	if (!gap || !due || !*gap)
		return true;
	now = bpf_ktime_get_ns();
	if (now < *due)
		return false;
	*due = (now - *due > BURST * *gap ? now : *due) + *gap;
	return true;
}

/* Run on live frames (BPF_PROG_RUN): each that is due leaves by the station's interface. */
SEC("xdp")
int nomx_blast(struct xdp_md *ctx)
{
	(void)ctx;
	if (!is_due())
		return XDP_DROP;
	count(NOMX_SENT);
	return bpf_redirect(nomx_target.ifindex, 0);
}

/* Count the answers and let them go no further. */
SEC("xdp")
int nomx_sink(struct xdp_md *ctx)
{
	if (!is_answer(ctx))
		return XDP_PASS;
	count(NOMX_ANSWERED);
	return XDP_DROP;
}

/* Hand the answers to the round-trip client. */
SEC("xdp")
int nomx_client(struct xdp_md *ctx)
{
	return is_answer(ctx) ? bpf_redirect_map(&nomx_clients, 0, XDP_PASS) : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
