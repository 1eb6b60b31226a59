/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * AF_XDP sockets seen from outside: is this file one, and which wakeup is a
 * system call on it.
 */
#ifndef NOMX_XSK_H
#define NOMX_XSK_H

#include "nomx/bpf.h"
#include "nomx/abi.h"
#include "nomx/kernel.h"

/* The AF_XDP socket behind a file, NULL when it is something else. */
static __always_inline struct xdp_sock *xsk_of(struct file *file)
{
	struct inode *inode = NULL;
	struct socket *socket = NULL;
	struct sock *sk = NULL;
	unsigned short mode = 0, family = 0;

	if (nomx_read(inode, file->f_inode) || nomx_read(mode, inode->i_mode))
		return NULL;
	if ((mode & NOMX_S_IFMT) != NOMX_S_IFSOCK)
		return NULL;
	if (nomx_read(socket, file->private_data) || nomx_read(sk, socket->sk))
		return NULL;
	if (nomx_read(family, sk->__sk_common.skc_family) || family != AF_XDP)
		return NULL;
	return (struct xdp_sock *)sk;
}

/* Whether descriptor *fd* of the running thread is an AF_XDP socket. */
static __always_inline bool is_xsk(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = NULL;
	struct file **files = NULL;
	struct file *file = NULL;
	unsigned int size = 0;

	if (nomx_read(table, task->files->fdt) || nomx_read(size, table->max_fds) || fd >= size)
		return false;
	if (nomx_read(files, table->fd) || nomx_read(file, files[fd]) || !file)
		return false;
	return xsk_of(file) != NULL;
}

/* Numbers of the x86-64 system calls that wake AF_XDP. */
enum { NR_POLL = 7, NR_SENDTO = 44, NR_RECVFROM = 45, NR_PPOLL = 271 };
enum { NOMX_POLLED_FDS = 4 }; /* of a poll, looked at */

struct pollfd {
	int fd;
	short events;
	short revents;
};

/*
 * Whether the call that the running thread enters is on an AF_XDP socket: a
 * sendto or recvfrom without a buffer, or a poll with one among its first fds.
 */
static __always_inline bool wakes_xsk(struct task_struct *task, struct pt_regs *regs, __u32 number)
{
	struct pollfd polled[NOMX_POLLED_FDS] = {};
	__u64 count;

	if (!nomx_field_exists(regs->di))
		return false;
	if (number == NR_SENDTO || number == NR_RECVFROM)
		return !regs->si && is_xsk(task, regs->di);
	if (number != NR_POLL && number != NR_PPOLL)
		return false;
	count = regs->si;
	for (__u64 i = 0; i < NOMX_POLLED_FDS && i < count; i++) {
		if (bpf_probe_read_user(&polled[i], sizeof(polled[i]), (struct pollfd *)regs->di + i))
			return false;
		if (is_xsk(task, polled[i].fd))
			return true;
	}
	return false;
}

static __always_inline void read_ring(struct xsk_queue *queue, __u32 *produced, __u32 *consumed)
{
	struct xdp_ring *ring = NULL;

	if (queue && !nomx_read(ring, queue->ring) && ring) {
		nomx_read(*produced, ring->producer);
		nomx_read(*consumed, ring->consumer);
	}
}

static __always_inline void read_binding(struct xdp_sock *xs, struct nomx_xsk *seen)
{
	struct xsk_buff_pool *pool = NULL;
	struct xsk_queue *fill = NULL;
	struct net_device *dev = NULL;
	struct net *net = NULL;
	__u16 queue = 0;
	bool flag = false;

	nomx_read(dev, xs->dev);
	nomx_read(pool, xs->pool);
	if (!dev || !pool)
		return;
	nomx_read(seen->ifindex, dev->ifindex);
	nomx_read(net, dev->nd_net.net);
	nomx_read(seen->netns, net->ns.inum);
	nomx_read(queue, xs->queue_id);
	seen->queue = queue;
	nomx_read(flag, xs->zc);
	seen->zerocopy = flag;
	nomx_read(flag, pool->uses_need_wakeup);
	seen->uses_need_wakeup = flag;
	nomx_read(fill, pool->fq);
	if (fill) {
		read_ring(fill, &seen->fill_produced, &seen->fill_consumed);
		nomx_read(seen->fill_ring_empty, fill->queue_empty_descs);
	}
}

/* Describe an AF_XDP socket: its binding, its rings, what the kernel counts of it. */
static __always_inline void read_xsk(struct xdp_sock *xs, struct nomx_xsk *seen)
{
	struct xsk_queue *rx = NULL, *tx = NULL;

	nomx_read(rx, xs->rx);
	nomx_read(tx, xs->tx);
	if (rx)
		nomx_read(seen->rx_entries, rx->nentries);
	read_ring(rx, &seen->rx_produced, &seen->rx_consumed);
	if (tx) {
		nomx_read(seen->tx_entries, tx->nentries);
		nomx_read(seen->tx_ring_empty, tx->queue_empty_descs);
		nomx_read(seen->tx_invalid, tx->invalid_descs);
	}
	read_ring(tx, &seen->tx_produced, &seen->tx_consumed);
	nomx_read(seen->rx_dropped, xs->rx_dropped);
	nomx_read(seen->rx_ring_full, xs->rx_queue_full);
	if (nomx_field_exists(xs->max_tx_budget))
		nomx_read(seen->tx_budget, xs->max_tx_budget);
	read_binding(xs, seen);
}

#endif
