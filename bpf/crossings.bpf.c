// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts the kernel crossings of threads and of their devices, from outside the
 * application: docs/explanation/crossings.md is the definition, and this is the
 * only place that counts by it. The daemon loads the totals alone; the tracer
 * switches detail on (nomx_config), and with it the programs marked "?", which
 * are loaded only when asked for. GPL only: tracing programs must be.
 */
#include "nomx/detail.h"
#include "nomx/xsk.h"

/* (struct pt_regs *regs, long number) */
SEC("tp_btf/sys_enter")
int nomx_syscall(__u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	struct nomx_crossings *crossings;
	struct task_struct *task;
	struct nomx_thread *thread;
	struct nomx_cpu *cpu;
	__u32 kind = NOMX_CALL_PLAIN;
	__u64 subject;

	crossings = mine(&subject);
	if (!crossings)
		return 0;
	crossings->syscalls++;
	if (!nomx_config.detail)
		return 0;
	task = bpf_get_current_task_btf();
	cpu = this_cpu();
	thread = cpu ? thread_of(task, subject, cpu) : NULL;
	if (!thread)
		return 0;
	if (nomx_field_exists(task->thread_info.status) && task->thread_info.status & NOMX_TS_COMPAT)
		kind = NOMX_CALL_COMPAT;
	else if (wakes_xsk(task, regs, ctx[1]))
		kind = NOMX_CALL_XSK;
	begin_call(thread, cpu, ctx[1], kind);
	return 0;
}

/* (struct pt_regs *regs, long result) */
SEC("?tp_btf/sys_exit")
int nomx_return(__u64 *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct nomx_thread *thread = bpf_map_lookup_elem(&nomx_threads, &tid);
	struct nomx_cpu *cpu = this_cpu();

	/* without an entry: a child's first return, or a call from before tracing */
	if (thread && cpu && thread->call_since_ns)
		end_call(thread, cpu, tid, ctx[1]);
	return 0;
}

static __always_inline void count_fault(__u64 subject, bool in_kernel)
{
	struct nomx_cpu *cpu = this_cpu();
	struct task_struct *task = bpf_get_current_task_btf();
	struct nomx_thread *thread = cpu ? thread_of(task, subject, cpu) : NULL;

	if (!thread)
		return;
	if (in_kernel)
		thread->kernel_faults++;
	else
		thread->page_faults++;
	thread->major_faults = task->maj_flt;
	if (nomx_config.timeline)
		write_event(cpu, NOMX_EVENT_FAULT, subject, task->pid, bpf_ktime_get_ns(), 0, in_kernel, 0);
}

SEC("tp_btf/page_fault_user")
int nomx_fault(__u64 *ctx)
{
	__u64 subject;
	struct nomx_crossings *crossings = mine(&subject);

	(void)ctx;
	if (!crossings)
		return 0;
	crossings->page_faults++;
	if (nomx_config.detail)
		count_fault(subject, false);
	return 0;
}

SEC("?tp_btf/page_fault_kernel")
int nomx_fault_kernel(__u64 *ctx)
{
	__u64 subject;

	(void)ctx;
	if (mine(&subject))
		count_fault(subject, true);
	return 0;
}

/* (bool preempt, struct task_struct *prev, struct task_struct *next): prev still runs. */
SEC("tp_btf/sched_switch")
int nomx_leave(__u64 *ctx)
{
	__u64 subject;
	struct nomx_crossings *crossings = mine(&subject);
	struct task_struct *prev = (void *)ctx[1];
	unsigned int state = prev->__state;
	/* preempted, or runnable all the same (TASK_RUNNING): it did not ask to leave */
	bool waits = !ctx[0] && state;
	struct nomx_thread *thread;
	struct nomx_cpu *cpu;

	if (nomx_config.detail)
		arrive((void *)ctx[2]);
	/* the last switch of a thread is its end, not a wait: the kernel's own count ends before it, too */
	if (!crossings || state & NOMX_TASK_DEAD)
		return 0;
	if (waits)
		crossings->voluntary_switches++;
	else
		crossings->involuntary_switches++;
	if (!nomx_config.detail)
		return 0;
	cpu = this_cpu();
	thread = cpu ? thread_of(prev, subject, cpu) : NULL;
	if (thread) {
		thread->major_faults = prev->maj_flt;
		leave(thread, cpu, prev->pid, waits);
	}
	return 0;
}

/* (struct task_struct *parent, struct task_struct *child): the child has not run. */
SEC("?tp_btf/sched_process_fork")
int nomx_fork(__u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	__u64 subject = subject_of(parent);
	struct nomx_cpu *cpu = this_cpu();
	__u32 tgid = child->tgid, from = parent->tgid;

	if (nomx_config.by_process && tgid != from && bpf_map_lookup_elem(&nomx_processes, &from)) {
		if (bpf_map_update_elem(&nomx_processes, &tgid, &subject, BPF_ANY) && cpu)
			cpu->lost_threads++;
	}
	subject = subject_of(child);
	if (subject && cpu)
		thread_of(child, subject, cpu);
	return 0;
}

/* (struct task_struct *task): in the thread that ends. */
SEC("?tp_btf/sched_process_exit")
int nomx_exit(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	__u32 tid = task->pid, tgid = task->tgid;
	struct nomx_thread *thread = bpf_map_lookup_elem(&nomx_threads, &tid);
	struct nomx_cpu *cpu = this_cpu();

	if (thread && cpu && thread->start_ns == task->start_time) {
		if (thread->call_since_ns)
			end_call(thread, cpu, tid, 0); /* exit() does not return */
		else
			end_stretch(thread, cpu, bpf_ktime_get_ns());
		bpf_probe_read_kernel(thread->comm, sizeof(thread->comm), task->comm);
		thread->major_faults = task->maj_flt;
		thread->running_since_ns = 0;
		thread->ended_ns = bpf_ktime_get_ns();
	}
	if (nomx_config.by_process && task->signal->live.counter == 0)
		bpf_map_delete_elem(&nomx_processes, &tgid);
	return 0;
}

static __always_inline void count_work(struct nomx_cpu *cpu, __u64 subject, __u64 frames, __u64 budget)
{
	struct nomx_device_work *work = work_of(subject);
	__u64 now = bpf_ktime_get_ns(), since = cpu->poll_mark_ns;
	/* a poll outside a softirq (busy polling, a NAPI thread) has no mark: its time is its thread's */
	__u64 took = since ? now - since : 0;
	__u64 running = 0;

	if (!work)
		return;
	work->frames += frames;
	work->full_polls += frames >= budget;
	work->poll_ns += took;
	if (mine(&running) && running == subject) {
		work->own_polls++;
		work->own_poll_ns += took;
	}
	if (nomx_config.timeline)
		write_event(cpu, NOMX_EVENT_POLL, subject, bpf_get_current_pid_tgid(), now - took, took, frames, 0);
}

/* (struct napi_struct *napi, int work, int budget): the poll has ended. */
SEC("tp_btf/napi_poll")
int nomx_poll(__u64 *ctx)
{
	struct napi_struct *napi = (void *)ctx[0];
	struct net_device *dev = napi->dev;
	__u64 subject = dev ? owner_of(dev) : 0;
	struct nomx_crossings *crossings = subject ? bpf_map_lookup_elem(&nomx_groups, &subject) : NULL;
	struct nomx_cpu *cpu;

	if (crossings)
		crossings->napi_polls++;
	if (!nomx_config.detail)
		return 0;
	cpu = this_cpu();
	if (!cpu)
		return 0;
	if (crossings)
		count_work(cpu, subject, (__s32)ctx[1], (__s32)ctx[2]);
	if (cpu->softirq_since_ns)
		cpu->poll_mark_ns = bpf_ktime_get_ns();
	return 0;
}

/* (unsigned int vector) */
SEC("?tp_btf/softirq_entry")
int nomx_softirq(__u64 *ctx)
{
	struct nomx_cpu *cpu = this_cpu();

	if (!cpu)
		return 0;
	cpu->softirq_since_ns = bpf_ktime_get_ns();
	if (ctx[0] == NOMX_NET_RX_SOFTIRQ)
		cpu->poll_mark_ns = cpu->softirq_since_ns;
	return 0;
}

SEC("?tp_btf/softirq_exit")
int nomx_softirq_end(__u64 *ctx)
{
	struct nomx_cpu *cpu = this_cpu();
	__u64 took, subject;

	if (!cpu || !cpu->softirq_since_ns)
		return 0;
	took = bpf_ktime_get_ns() - cpu->softirq_since_ns;
	if (nomx_config.timeline && mine(&subject))
		write_event(cpu, NOMX_EVENT_STOLEN, subject, bpf_get_current_pid_tgid(), cpu->softirq_since_ns, took,
			    ctx[0], 0);
	cpu->stolen_ns += took;
	cpu->softirq_since_ns = 0;
	cpu->poll_mark_ns = 0;
	return 0;
}

/* User space → here: the subject whose device an interrupt line serves. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} nomx_lines SEC(".maps");

/* (int line, struct irqaction *action) */
SEC("?tp_btf/irq_handler_entry")
int nomx_interrupt(__u64 *ctx)
{
	__u32 line = ctx[0];
	__u64 *subject = bpf_map_lookup_elem(&nomx_lines, &line);
	struct nomx_device_work *work = subject ? work_of(*subject) : NULL;
	struct nomx_cpu *cpu = this_cpu();

	if (work)
		work->interrupts++;
	if (cpu && !cpu->softirq_since_ns) /* inside a softirq it is in the softirq's time */
		cpu->interrupt_since_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("?tp_btf/irq_handler_exit")
int nomx_interrupt_end(__u64 *ctx)
{
	struct nomx_cpu *cpu = this_cpu();

	(void)ctx;
	if (!cpu || !cpu->interrupt_since_ns)
		return 0;
	cpu->stolen_ns += bpf_ktime_get_ns() - cpu->interrupt_since_ns;
	cpu->interrupt_since_ns = 0;
	return 0;
}

enum nomx_verdict { NOMX_REDIRECTED, NOMX_REDIRECT_FAILED, NOMX_EXCEPTION };

static __always_inline int count_verdict(struct net_device *dev, enum nomx_verdict verdict)
{
	__u64 subject = owner_of(dev);
	struct nomx_device_work *work = subject ? work_of(subject) : NULL;

	if (!work)
		return 0;
	if (verdict == NOMX_REDIRECTED)
		work->redirects++;
	else if (verdict == NOMX_REDIRECT_FAILED)
		work->redirect_errors++;
	else
		work->exceptions++;
	return 0;
}

/* (const struct net_device *dev, ...): a verdict on a frame that *dev* received; these run once a frame. */
SEC("?tp_btf/xdp_redirect")
int nomx_redirect(__u64 *ctx)
{
	return count_verdict((void *)ctx[0], NOMX_REDIRECTED);
}

SEC("?tp_btf/xdp_redirect_err")
int nomx_redirect_err(__u64 *ctx)
{
	return count_verdict((void *)ctx[0], NOMX_REDIRECT_FAILED);
}

SEC("?tp_btf/xdp_exception")
int nomx_exception(__u64 *ctx)
{
	return count_verdict((void *)ctx[0], NOMX_EXCEPTION);
}

/* A packet at one of the group's sockets: from the IP header on, and a GSO segment as one. */
SEC("cgroup_skb/ingress")
int nomx_socket_rx(struct __sk_buff *skb)
{
	__u64 group = bpf_skb_cgroup_id(skb);
	struct nomx_crossings *crossings = bpf_map_lookup_elem(&nomx_groups, &group);

	if (crossings) {
		crossings->socket_rx_packets++;
		crossings->socket_rx_bytes += skb->len;
	}
	return 1; /* let it pass */
}

SEC("cgroup_skb/egress")
int nomx_socket_tx(struct __sk_buff *skb)
{
	__u64 group = bpf_skb_cgroup_id(skb);
	struct nomx_crossings *crossings = bpf_map_lookup_elem(&nomx_groups, &group);

	if (crossings) {
		crossings->socket_tx_packets++;
		crossings->socket_tx_bytes += skb->len;
	}
	return 1;
}

static __always_inline bool is_inet(struct sock *sk)
{
	return sk->__sk_common.skc_family == AF_INET || sk->__sk_common.skc_family == AF_INET6;
}

/*
 * (struct sock *sk, int result, int flags): messages at the socket calls, for
 * trees of processes, whose cgroup is not theirs alone. A datagram is one; TCP's
 * is a call.
 */
SEC("?tp_btf/sock_recv_length")
int nomx_message_rx(__u64 *ctx)
{
	__s32 result = ctx[1];
	__u64 subject;
	struct nomx_crossings *crossings = mine(&subject);

	if (crossings && subject & NOMX_TREE && result >= 0 && !(ctx[2] & NOMX_MSG_PEEK) && is_inet((void *)ctx[0])) {
		crossings->socket_rx_packets++;
		crossings->socket_rx_bytes += result;
	}
	return 0;
}

SEC("?tp_btf/sock_send_length")
int nomx_message_tx(__u64 *ctx)
{
	__s32 result = ctx[1];
	__u64 subject;
	struct nomx_crossings *crossings = mine(&subject);

	if (crossings && subject & NOMX_TREE && result >= 0 && is_inet((void *)ctx[0])) {
		crossings->socket_tx_packets++;
		crossings->socket_tx_bytes += result;
	}
	return 0;
}

/* Stacks of the kernel, by id. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, NOMX_STACK_DEPTH * sizeof(__u64));
} nomx_stacks SEC(".maps");

/* Here → user space: how often a sample fell where. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1);
	__type(key, struct nomx_sample_key);
	__type(value, __u64);
} nomx_samples SEC(".maps");

/* The CPU clock ticks on every CPU, some hundred times a second. */
SEC("?perf_event")
int nomx_sample(void *ctx)
{
	struct nomx_cpu *cpu = this_cpu();
	struct nomx_sample_key key = {};
	__u64 *count, none = 0, subject;
	bool ours = mine(&subject) != NULL;

	if (!cpu || (!ours && !cpu->poll_mark_ns))
		return 0;
	key.subject = ours ? subject : 0;
	key.stack = bpf_get_stackid(ctx, &nomx_stacks, 0);
	if (!ours)
		key.where = NOMX_IN_NET_RX;
	else if (key.stack != -NOMX_EFAULT) /* which is: there is no kernel stack */
		key.where = NOMX_IN_KERNEL;
	count = bpf_map_lookup_elem(&nomx_samples, &key);
	if (!count) {
		bpf_map_update_elem(&nomx_samples, &key, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&nomx_samples, &key);
	}
	if (count)
		++*count;
	else
		cpu->lost_samples++;
	return 0;
}

/* Run by a reader, over all threads: knows those that were there before, and brings what no event brings. */
SEC("?iter/task")
int nomx_look(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u64 subject = task ? subject_of(task) : 0;
	struct nomx_cpu *cpu = this_cpu();
	struct nomx_thread *thread = subject && cpu ? thread_of(task, subject, cpu) : NULL;

	if (!thread)
		return 0;
	thread->major_faults = task->maj_flt;
	bpf_probe_read_kernel(thread->comm, sizeof(thread->comm), task->comm);
	if (!task->on_cpu || thread->arrived_ns || thread->running_since_ns)
		return 0;
	/* it has been running all the time, and perhaps makes no event: its clock starts here */
	cpu = cpu_of(task, &thread->cpu);
	if (!cpu)
		return 0;
	thread->arrived_ns = bpf_ktime_get_ns();
	begin_stretch(thread, cpu, thread->arrived_ns);
	if (!task->on_cpu)
		thread->running_since_ns = 0;
	return 0;
}

/*
 * Run by a reader, over all descriptors of all processes: writes a struct nomx_xsk
 * for each AF_XDP socket. Cgroups need not be counted yet: readers look before, too.
 */
SEC("?iter/task_file")
int nomx_look_xsks(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct nomx_xsk seen = {};
	struct xdp_sock *xs;
	struct inode *inode;

	if (!task || !file)
		return 0;
	seen.subject = subject_of(task);
	if (!seen.subject && nomx_config.by_group)
		seen.subject = group_of(task);
	if (!seen.subject)
		return 0;
	xs = xsk_of(file);
	if (!xs)
		return 0;
	inode = file->f_inode;
	seen.inode = inode->i_ino;
	seen.tgid = task->tgid;
	seen.fd = ctx->fd;
	read_xsk(xs, &seen);
	bpf_seq_write(ctx->meta->seq, &seen, sizeof(seen));
	return 0;
}

char _license[] SEC("license") = "GPL";
