/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The guard of a port: an application speaks for its own MAC, its own IPv4
 * address and its own IPv6 addresses, in Ethernet, ARP, IP and neighbour
 * discovery alike. What a NIC calls spoof checking, and a switch port security,
 * dynamic ARP inspection and RA guard.
 */
#ifndef NOMX_GUARD_H
#define NOMX_GUARD_H

#include "nomx/abi.h"
#include "nomx/bpf.h"

#define NOMX_GUARD_PASS (-1)

enum { IPPROTO_HOPOPTS = 0, IPPROTO_ROUTING = 43, IPPROTO_FRAGMENT = 44, IPPROTO_ICMPV6 = 58, IPPROTO_DSTOPTS = 60 };
enum { ND_ROUTER_SOLICIT = 133, ND_ROUTER_ADVERT, ND_NEIGHBOR_SOLICIT, ND_NEIGHBOR_ADVERT, ND_REDIRECT };
enum { ND_OPT_SOURCE_MAC = 1, ND_OPT_TARGET_MAC = 2, ND_OPT_OCTETS = 8, ND_MAX_OPTIONS = 4 };

struct nd_message {
	__u8 type;
	__u8 code;
	__be16 check;
	__be32 flags;
	__u8 target[16];
} __attribute__((packed));

struct nd_option {
	__u8 type;
	__u8 len; /* in units of ND_OPT_OCTETS */
	__u8 mac[6];
} __attribute__((packed));

static __always_inline bool same_ip6(const __u8 *a, const __u8 *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

/* fe80:: and the modified EUI-64 of the port's MAC (RFC 4291, appendix A). */
static __always_inline bool is_own_link_local(const struct nomx_port *port, const __u8 *ip)
{
	const __u32 *word = (const __u32 *)ip;

	return word[0] == bpf_htonl(0xfe800000) && word[1] == 0 && ip[8] == (port->mac[0] ^ 2) &&
	       ip[9] == port->mac[1] && ip[10] == port->mac[2] && ip[11] == 0xff && ip[12] == 0xfe &&
	       ip[13] == port->mac[3] && ip[14] == port->mac[4] && ip[15] == port->mac[5];
}

static __always_inline bool is_own_ip6(const struct nomx_port *port, const __u8 *ip)
{
	return same_ip6(ip, port->ip6) || is_own_link_local(port, ip);
}

static __always_inline int guard_arp(const struct nomx_port *port, void *head, void *end)
{
	struct arphdr *arp = head;

	if ((void *)(arp + 1) > end)
		return NOMX_DROP_RUNT;
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_len != 6 ||
	    arp->protocol_len != 4)
		return NOMX_DROP_ETHERTYPE;
	if (!same_mac(arp->sender_mac, port->mac))
		return NOMX_DROP_SPOOFED_MAC;
	/* 0 is a probe for an address nobody has yet (RFC 5227, section 2.1.1) */
	if (arp->sender_ip != port->ip4 && arp->sender_ip != 0)
		return NOMX_DROP_SPOOFED_IP;
	return NOMX_GUARD_PASS;
}

/* Link-layer addresses in neighbour discovery are the sender's own. */
static __always_inline int guard_nd_options(const struct nomx_port *port, void *head, void *end)
{
	for (int i = 0; i < ND_MAX_OPTIONS; i++) {
		struct nd_option *option = head;

		if (head == end)
			return NOMX_GUARD_PASS;
		if ((void *)(option + 1) > end || option->len == 0)
			return NOMX_DROP_RUNT;
		if ((option->type == ND_OPT_SOURCE_MAC || option->type == ND_OPT_TARGET_MAC) &&
		    !same_mac(option->mac, port->mac))
			return NOMX_DROP_SPOOFED_MAC;
		head += option->len * ND_OPT_OCTETS;
		if (head > end)
			return NOMX_DROP_RUNT;
	}
	return head == end ? NOMX_GUARD_PASS : NOMX_DROP_SPOOFED_IP; /* more than anyone sends */
}

/*
 * Only a host's part of neighbour discovery: ask for anyone, answer for
 * oneself. Routers and redirects are not an application's to announce.
 */
static __always_inline int guard_icmpv6(const struct nomx_port *port, void *head, void *end, bool unspecified)
{
	struct nd_message *nd = head;
	__u8 *type = head;

	if ((void *)(type + 1) > end)
		return NOMX_DROP_RUNT;
	if (*type == ND_ROUTER_ADVERT || *type == ND_REDIRECT)
		return NOMX_DROP_SPOOFED_IP;
	if (*type != ND_NEIGHBOR_SOLICIT && *type != ND_NEIGHBOR_ADVERT)
		return unspecified ? NOMX_DROP_SPOOFED_IP : NOMX_GUARD_PASS;
	if ((void *)(nd + 1) > end)
		return NOMX_DROP_RUNT;
	if (*type == ND_NEIGHBOR_ADVERT && !is_own_ip6(port, nd->target))
		return NOMX_DROP_SPOOFED_IP;
	return guard_nd_options(port, nd + 1, end);
}

static __always_inline int guard_ip6(const struct nomx_port *port, void *head, void *end)
{
	struct ipv6hdr *ip = head;
	__u8 next;
	bool unspecified;

	if ((void *)(ip + 1) > end)
		return NOMX_DROP_RUNT;
	unspecified = !*(__u64 *)ip->saddr && !*(__u64 *)(ip->saddr + 8);
	if (!unspecified && !is_own_ip6(port, ip->saddr))
		return NOMX_DROP_SPOOFED_IP;
	next = ip->nexthdr;
	if (next == IPPROTO_FRAGMENT) {
		__u8 *fragment = (void *)(ip + 1);

		if ((void *)(fragment + 8) > end)
			return NOMX_DROP_RUNT;
		next = *fragment;
		/* neighbour discovery is never fragmented (RFC 6980), and must not hide so */
		if (next == IPPROTO_ICMPV6)
			return NOMX_DROP_SPOOFED_IP;
	} else if (next == IPPROTO_ICMPV6) {
		void *payload_end = (void *)(ip + 1) + (__u16)__builtin_bswap16(ip->payload_len);

		/* Ethernet pads short frames: the options end where IP says */
		if (payload_end > end)
			return NOMX_DROP_RUNT;
		return guard_icmpv6(port, ip + 1, end, unspecified);
	}
	/* behind these headers another protocol could hide */
	if (unspecified || next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS)
		return NOMX_DROP_SPOOFED_IP;
	return NOMX_GUARD_PASS;
}

/* Return NOMX_GUARD_PASS, or why (enum nomx_drop) the frame may not enter. */
static __always_inline int nomx_guard(const struct nomx_port *port, struct ethhdr *eth, void *end)
{
	struct iphdr *ip = (void *)(eth + 1);

	if (!same_mac(eth->h_source, port->mac))
		return NOMX_DROP_SPOOFED_MAC;
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_ARP):
		return guard_arp(port, ip, end);
	case bpf_htons(ETH_P_IP):
		if ((void *)(ip + 1) > end)
			return NOMX_DROP_RUNT;
		return ip->saddr == port->ip4 ? NOMX_GUARD_PASS : NOMX_DROP_SPOOFED_IP;
	case bpf_htons(ETH_P_IPV6):
		return guard_ip6(port, ip, end);
	}
	return NOMX_DROP_ETHERTYPE;
}

#endif
