/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's own structs as far as tracing programs read them. Only names
 * matter: CO-RE moves each access to where the running kernel has the field.
 */
#ifndef NOMX_KERNEL_H
#define NOMX_KERNEL_H

#include "nomx/bpf.h"

/* Whether the running kernel's struct has the field. */
#define nomx_field_exists(field) __builtin_preserve_field_info(field, 2)
/* Copy a field of a pointer that the verifier does not vouch for. */
#define nomx_read(to, field) bpf_probe_read_kernel(&(to), sizeof(to), &(field))

#define NOMX_TASK_DEAD 0x80 /* __state of a thread that never returns */
#define NOMX_TS_COMPAT 2 /* thread_info.status of x86: in a 32-bit system call */
#define NOMX_S_IFMT 00170000
#define NOMX_S_IFSOCK 0140000

enum { AF_INET = 2, AF_INET6 = 10, AF_XDP = 44 };
enum { NOMX_NET_RX_SOFTIRQ = 3, NOMX_MSG_PEEK = 2 };

/* The context of a cgroup_skb program, as far as it is read; its layout is fixed. */
struct __sk_buff {
	__u32 len;
};

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

struct kernfs_node {
	__u64 id;
};
struct cgroup {
	struct kernfs_node *kn;
};
struct css_set {
	struct cgroup *dfl_cgrp;
};
typedef struct {
	int counter;
} atomic_t;
struct signal_struct {
	atomic_t live;
};
struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
};
struct file {
	struct inode *f_inode;
	void *private_data;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct thread_info {
	__u32 status;
	__u32 cpu;
};
struct task_struct {
	struct thread_info thread_info;
	unsigned int __state;
	int on_cpu;
	__u32 cpu; /* in thread_info since Linux 5.16 */
	int pid;
	int tgid;
	__u64 start_time;
	unsigned long maj_flt;
	char comm[16];
	struct css_set *cgroups;
	struct signal_struct *signal;
	struct files_struct *files;
};
/* x86-64; elsewhere the arguments of system calls are not read */
struct pt_regs {
	unsigned long di;
	unsigned long si;
	unsigned long dx;
	unsigned long cs;
};

struct sock_common {
	unsigned short skc_family;
};
struct sock {
	struct sock_common __sk_common;
};
struct socket {
	struct sock *sk;
};
struct xdp_ring {
	__u32 producer;
	__u32 consumer;
};
struct xsk_queue {
	__u32 nentries;
	struct xdp_ring *ring;
	__u64 invalid_descs;
	__u64 queue_empty_descs;
};
struct xsk_buff_pool {
	struct xsk_queue *fq;
	bool uses_need_wakeup;
};
struct xdp_sock {
	struct xsk_queue *rx;
	struct xsk_queue *tx;
	struct net_device *dev;
	struct xsk_buff_pool *pool;
	__u16 queue_id;
	bool zc;
	__u64 rx_dropped;
	__u64 rx_queue_full;
	__u32 max_tx_budget;
};

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};
#pragma clang attribute pop

#endif
