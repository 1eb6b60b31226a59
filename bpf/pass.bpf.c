// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The far end of a station: everything goes up to its own stack. It must be
 * there all the same: a veth takes redirected frames only where its peer polls
 * (NAPI), and an XDP program is what makes it poll.
 */
#include "nomx/bpf.h"

SEC("xdp")
int nomx_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
