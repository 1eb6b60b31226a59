/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tracer keeps beyond totals: times of threads, calls by number, work
 * of devices, events. Called by crossings.bpf.c where nomx_config.detail says
 * so; else the verifier drops it all, and the maps stay at one element.
 *
 * A thread's time on a CPU is cut into stretches at each entry, exit and
 * switch. A stretch belongs to the system call that the thread is in, or to
 * user space, less what interrupts stole from it. Interrupt context writes to
 * nomx_cpus only, and reading stolen_ns twice tells what it took; so no update
 * of a thread's numbers can be lost to an interrupt.
 */
#ifndef NOMX_DETAIL_H
#define NOMX_DETAIL_H

#include "nomx/whose.h"

/* Here → user space, which deletes what has ended: by thread id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nomx_thread);
} nomx_threads SEC(".maps");

/* Here → user space. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1);
	__type(key, struct nomx_call_key);
	__type(value, struct nomx_call);
} nomx_calls SEC(".maps");

/* Here → user space: by subject. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct nomx_device_work);
} nomx_work SEC(".maps");

/* Here → user space: one element. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nomx_cpu);
} nomx_cpus SEC(".maps");

/* Here → user space: struct nomx_event, read without being woken. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} nomx_events SEC(".maps");

enum { NOMX_RB_NO_WAKEUP = 1 };
enum { NOMX_EAGAIN = 11, NOMX_EFAULT = 14, NOMX_MAX_ERRNO = 4095 };

static const struct nomx_call no_calls; /* too large for the stack */

static __always_inline struct nomx_cpu *this_cpu(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&nomx_cpus, &only);
}

/* The numbers of the CPU that a task is on, and which it is. */
static __always_inline struct nomx_cpu *cpu_of(struct task_struct *task, __u32 *number)
{
	__u32 only = 0;

	*number = nomx_field_exists(task->thread_info.cpu) ? task->thread_info.cpu : task->cpu;
	return bpf_map_lookup_percpu_elem(&nomx_cpus, &only, *number);
}

static __always_inline void write_event(struct nomx_cpu *cpu, __u32 kind, __u64 subject, __u32 tid, __u64 start_ns,
					__u64 duration_ns, __u32 detail, __u32 call_kind)
{
	struct nomx_event event = {
		.start_ns = start_ns,
		.duration_ns = duration_ns,
		.subject = subject,
		.kind = kind,
		.tid = tid,
		.cpu = bpf_get_smp_processor_id(),
		.detail = detail,
		.call_kind = call_kind,
	};

	if (bpf_ringbuf_output(&nomx_events, &event, sizeof(event), NOMX_RB_NO_WAKEUP))
		cpu->lost_events++;
}

/* The numbers of a thread, made when it is first seen; NULL and counted as lost when there is no room. */
static __always_inline struct nomx_thread *thread_of(struct task_struct *task, __u64 subject, struct nomx_cpu *cpu)
{
	__u32 tid = task->pid;
	struct nomx_thread *thread = bpf_map_lookup_elem(&nomx_threads, &tid);
	struct nomx_thread fresh = {};

	if (thread && thread->start_ns == task->start_time)
		return thread;
	if (thread) { /* an ended thread's, which nobody has read yet */
		cpu->lost_threads++;
		bpf_map_delete_elem(&nomx_threads, &tid);
	}
	fresh.subject = subject;
	fresh.start_ns = task->start_time;
	fresh.tgid = task->tgid;
	fresh.major_faults = fresh.major_before = task->maj_flt;
	bpf_probe_read_kernel(fresh.comm, sizeof(fresh.comm), task->comm);
	/* no room, or the thread itself was faster than who looked at it from another CPU */
	bpf_map_update_elem(&nomx_threads, &tid, &fresh, BPF_NOEXIST);
	thread = bpf_map_lookup_elem(&nomx_threads, &tid);
	if (!thread)
		cpu->lost_threads++;
	return thread;
}

/* From now on the thread runs on this CPU. */
static __always_inline void begin_stretch(struct nomx_thread *thread, struct nomx_cpu *cpu, __u64 now)
{
	thread->running_since_ns = now;
	thread->stolen_mark_ns = cpu->stolen_ns;
}

/* Add the stretch that ends now to the thread's times, and begin the next. */
static __always_inline void end_stretch(struct nomx_thread *thread, struct nomx_cpu *cpu, __u64 now)
{
	__u64 stolen = cpu->stolen_ns - thread->stolen_mark_ns;
	__u64 stretch = now - thread->running_since_ns;

	if (thread->running_since_ns) {
		/* clocks were read a moment apart: never below nothing */
		stretch = stretch > stolen ? stretch - stolen : 0;
		thread->stolen_ns += stolen;
		if (thread->call_since_ns) {
			thread->call_ns += stretch;
			thread->call_cpu_ns += stretch;
		} else {
			thread->user_ns += stretch;
		}
	}
	begin_stretch(thread, cpu, now);
}

/* Floor of the base-2 logarithm, at most NOMX_LOG2_NS - 1. */
static __always_inline __u32 log2_of(__u64 ns)
{
	__u32 bits = 0;

	if (ns >> NOMX_LOG2_NS)
		return NOMX_LOG2_NS - 1;
	for (__u32 step = 16; step; step >>= 1) {
		if (ns >> step) {
			ns >>= step;
			bits += step;
		}
	}
	return bits & (NOMX_LOG2_NS - 1);
}

static __always_inline void begin_call(struct nomx_thread *thread, struct nomx_cpu *cpu, __u32 number, __u32 kind)
{
	__u64 now = bpf_ktime_get_ns();

	end_stretch(thread, cpu, now);
	thread->syscalls++;
	thread->call_since_ns = now;
	thread->call_cpu_ns = 0;
	thread->call_number = number;
	thread->call_kind = kind;
}

/* Count the call that the thread is in as ended now; one that began before tracing did is not counted. */
static __always_inline void end_call(struct nomx_thread *thread, struct nomx_cpu *cpu, __u32 tid, __s64 result)
{
	struct nomx_call_key key = { thread->subject, thread->call_number, thread->call_kind };
	__u64 wall, now = bpf_ktime_get_ns();
	struct nomx_call *call;

	end_stretch(thread, cpu, now);
	wall = now - thread->call_since_ns;
	if (nomx_config.timeline)
		write_event(cpu, NOMX_EVENT_CALL, key.subject, tid, thread->call_since_ns, wall, key.number, key.kind);
	thread->call_since_ns = 0;
	call = bpf_map_lookup_elem(&nomx_calls, &key);
	if (!call) {
		bpf_map_update_elem(&nomx_calls, &key, &no_calls, BPF_NOEXIST);
		call = bpf_map_lookup_elem(&nomx_calls, &key);
	}
	if (!call) {
		cpu->lost_calls++;
		return;
	}
	call->count++;
	call->wall_ns += wall;
	call->cpu_ns += thread->call_cpu_ns;
	if (result < 0 && result >= -NOMX_MAX_ERRNO)
		call->errors++;
	if (result == -NOMX_EAGAIN)
		call->again++;
	call->wall_log2_ns[log2_of(wall)]++;
}

/* The running thread leaves its CPU. */
static __always_inline void leave(struct nomx_thread *thread, struct nomx_cpu *cpu, __u32 tid, bool waits)
{
	__u64 arrived = thread->arrived_ns, now = bpf_ktime_get_ns();

	end_stretch(thread, cpu, now);
	thread->running_since_ns = 0;
	if (waits)
		thread->voluntary_switches++;
	else
		thread->involuntary_switches++;
	if (nomx_config.timeline && arrived)
		write_event(cpu, NOMX_EVENT_RUN, thread->subject, tid, arrived, now - arrived, waits, 0);
}

/* *task* gets this CPU; nothing when its numbers are not kept. */
static __always_inline void arrive(struct task_struct *task)
{
	__u32 here = bpf_get_smp_processor_id(), tid = task->pid;
	struct nomx_thread *thread = bpf_map_lookup_elem(&nomx_threads, &tid);
	struct nomx_cpu *cpu = this_cpu();

	if (!thread || !cpu || thread->start_ns != task->start_time)
		return;
	if (thread->cpu != here) {
		thread->migrations += thread->user_ns + thread->call_ns != 0;
		thread->cpu = here;
	}
	thread->arrived_ns = bpf_ktime_get_ns();
	begin_stretch(thread, cpu, thread->arrived_ns);
}

static __always_inline struct nomx_device_work *work_of(__u64 subject)
{
	struct nomx_device_work none = {};
	struct nomx_device_work *work = bpf_map_lookup_elem(&nomx_work, &subject);

	if (work)
		return work;
	bpf_map_update_elem(&nomx_work, &subject, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&nomx_work, &subject);
}

#endif
