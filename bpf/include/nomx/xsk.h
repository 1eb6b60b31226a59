/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * AF_XDP sockets seen from outside: is this file one, and which wakeup is a
 * system call on it.
 */
#ifndef NOMX_XSK_H
#define NOMX_XSK_H

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

#endif
