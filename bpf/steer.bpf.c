// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The application's end of a device unit: frames for it go to the XSK of the
 * queue that they came in on, all others are dropped and counted. Nothing
 * passes to the kernel's stack.
 *
 * A frame counted here was handed to a socket; whether its rx ring had room is
 * counted by the socket (XDP_STATISTICS: rx_ring_full, rx_dropped).
 */
#include "nomx/bpf.h"
#include "nomx/abi.h"

/* Daemon → steer: the devices by their ifindex. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NOMX_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct nomx_device);
} nomx_devices SEC(".maps");

/* Daemon → steer: the sockets, slot * NOMX_MAX_QUEUES + queue. The kernel takes a socket out when it closes. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, NOMX_MAX_PORTS *NOMX_MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} nomx_xsks SEC(".maps");

/* Steer → daemon: frames handed to sockets, by slot. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NOMX_MAX_PORTS + 1);
	__type(key, __u32);
	__type(value, struct nomx_counters);
} nomx_steered SEC(".maps");

static __always_inline bool is_ours(const struct nomx_device *device, const __u8 *mac)
{
	return mac[0] & 1 || same_mac(mac, device->mac);
}

SEC("xdp")
int nomx_steer(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 ifindex = ctx->ingress_ifindex;
	struct nomx_device *device = bpf_map_lookup_elem(&nomx_devices, &ifindex);
	__u32 slot = device ? device->slot : NOMX_NO_SLOT;
	struct nomx_counters *counters = bpf_map_lookup_elem(&nomx_steered, &slot);
	struct ethhdr *eth = data;
	enum nomx_drop why;

	if (!counters)
		return XDP_ABORTED;
	if (!device) {
		why = NOMX_DROP_NO_PORT;
	} else if ((void *)(eth + 1) > end) {
		why = NOMX_DROP_RUNT;
	} else if (!is_ours(device, eth->h_dest)) {
		why = NOMX_DROP_NOT_OURS;
	} else {
		__u32 queue = ctx->rx_queue_index;
		__u64 bytes = end - data;

		why = NOMX_DROP_NO_XSK;
		if (queue < NOMX_MAX_QUEUES &&
		    bpf_redirect_map(&nomx_xsks, device->slot * NOMX_MAX_QUEUES + queue, XDP_DROP) == XDP_REDIRECT) {
			counters->packets++;
			counters->bytes += bytes;
			return XDP_REDIRECT;
		}
	}
	counters->drops[why]++;
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
