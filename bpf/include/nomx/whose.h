/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whose thread, and whose device, it is: the one answer for the daemon's totals
 * and the tracer's detail. A *subject* is what is counted as one: a cgroup, by
 * its id, or a tree of processes, by a number that user space chose.
 */
#ifndef NOMX_WHOSE_H
#define NOMX_WHOSE_H

#include "nomx/bpf.h"
#include "nomx/abi.h"
#include "nomx/kernel.h"

/* In a section of its own, so that nothing else moves it. */
const volatile struct nomx_config nomx_config SEC(".rodata.config") = { .by_group = 1 };

/* User space → here and back: the counters of each subject that is counted. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, NOMX_MAX_PORTS);
	__type(key, __u64);
	__type(value, struct nomx_crossings);
} nomx_groups SEC(".maps");

/* User space → here, and then kept up by forks and exits: the subject of a process. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* the tracer sizes it */
	__type(key, __u32);
	__type(value, __u64);
} nomx_processes SEC(".maps");

/* An interface: its index means something in its network namespace only. */
struct nomx_interface {
	__u32 netns;
	__u32 ifindex;
};

/* User space → here: the subject whose device an interface is. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NOMX_MAX_PORTS);
	__type(key, struct nomx_interface);
	__type(value, __u64);
} nomx_owners SEC(".maps");

/* The id of the cgroup v2 that a task is in. */
static __always_inline __u64 group_of(struct task_struct *task)
{
	return task->cgroups->dfl_cgrp->kn->id;
}

/* The subject of a task, 0 when nobody counts it. */
static __always_inline __u64 subject_of(struct task_struct *task)
{
	__u32 tgid = task->tgid;
	__u64 group, *subject;

	if (nomx_config.by_process) {
		subject = bpf_map_lookup_elem(&nomx_processes, &tgid);
		if (subject)
			return *subject;
	}
	if (!nomx_config.by_group)
		return 0;
	group = group_of(task);
	return bpf_map_lookup_elem(&nomx_groups, &group) ? group : 0;
}

/* The counters of the running thread's subject, NULL when nobody counts it. */
static __always_inline struct nomx_crossings *mine(__u64 *subject)
{
	if (nomx_config.by_process) {
		__u32 tgid = bpf_get_current_pid_tgid() >> 32;
		__u64 *found = bpf_map_lookup_elem(&nomx_processes, &tgid);

		if (found) {
			*subject = *found;
			return bpf_map_lookup_elem(&nomx_groups, subject);
		}
	}
	if (!nomx_config.by_group)
		return NULL;
	*subject = bpf_get_current_cgroup_id();
	return bpf_map_lookup_elem(&nomx_groups, subject);
}

/* The subject that an interface serves, 0 when nobody counts it. */
static __always_inline __u64 owner_of(struct net_device *dev)
{
	struct nomx_interface interface = {};
	__u64 *subject;

	interface.ifindex = dev->ifindex;
	interface.netns = dev->nd_net.net->ns.inum;
	subject = bpf_map_lookup_elem(&nomx_owners, &interface);
	return subject ? *subject : 0;
}

#endif
