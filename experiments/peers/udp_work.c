// SPDX-License-Identifier: Apache-2.0
/*
 * UDP work over ordinary sockets, each way as it is meant to be used: what
 * experiment 0007 counts the kernel crossings of.
 *
 *   udp_work KIND echo|receive ADDRESS PORT
 *   udp_work KIND transmit ADDRESS PORT TO TO_PORT BYTES
 *
 *   one    blocking recvfrom and sendto, a datagram at a time
 *   batch  recvmmsg and sendmmsg, up to 64 at a time
 *   epoll  epoll_wait, then recvfrom and sendto until nothing is left
 *   uring  io_uring, 64 requests in flight, one io_uring_enter for all that are ready
 *
 * Says "ready" when it is bound, and works until it is killed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BATCH = 64, DATAGRAM = 2048, RECEIVE_BUFFER = 1 << 22 };
enum work { ECHO, RECEIVE, TRANSMIT };

static char datagrams[BATCH][DATAGRAM];
static struct sockaddr_in peers[BATCH];
static struct mmsghdr messages[BATCH];
static struct iovec parts[BATCH];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static struct sockaddr_in address_of(const char *address, const char *port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };

	if (inet_pton(AF_INET, address, &in.sin_addr) != 1) {
		fprintf(stderr, "%s is no IPv4 address\n", address);
		exit(2);
	}
	return in;
}

static int bound(const char *address, const char *port)
{
	struct sockaddr_in own = address_of(address, port);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), bytes = RECEIVE_BUFFER;

	if (fd < 0)
		die("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		die("SO_RCVBUFFORCE");
	if (bind(fd, (struct sockaddr *)&own, sizeof(own)))
		die("bind");
	return fd;
}

/* Make message *i* ready to receive into. */
static void empty(int i)
{
	parts[i].iov_base = datagrams[i];
	parts[i].iov_len = DATAGRAM;
	messages[i].msg_hdr.msg_iov = &parts[i];
	messages[i].msg_hdr.msg_iovlen = 1;
	messages[i].msg_hdr.msg_name = &peers[i];
	messages[i].msg_hdr.msg_namelen = sizeof(peers[i]);
}

/* Make every message the same datagram to *to*: the station's marker, then zeros. */
static void fill(const struct sockaddr_in *to, size_t bytes)
{
	for (int i = 0; i < BATCH; i++) {
		empty(i);
		memcpy(datagrams[i], "nomx", 4);
		parts[i].iov_len = bytes;
		peers[i] = *to;
	}
}

static void send_one(int fd, int i)
{
	if (sendto(fd, datagrams[i], parts[i].iov_len, 0, (struct sockaddr *)&peers[i], sizeof(peers[i])) < 0 &&
	    errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
		die("sendto");
}

/* Receive one datagram and answer it; false where there was none. */
static bool serve_one(int fd, enum work work, int flags)
{
	socklen_t peer_bytes = sizeof(peers[0]);
	ssize_t n = recvfrom(fd, datagrams[0], DATAGRAM, flags, (struct sockaddr *)&peers[0], &peer_bytes);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			die("recvfrom");
		return false;
	}
	parts[0].iov_len = n;
	if (work == ECHO)
		send_one(fd, 0);
	return true;
}

static void send_batch(int fd, int count)
{
	for (int sent = 0; sent < count;) {
		int done = sendmmsg(fd, messages + sent, count - sent, 0);

		if (done <= 0)
			return;
		sent += done;
	}
}

static void in_batches(int fd, enum work work)
{
	for (;;) {
		int n;

		for (int i = 0; i < BATCH; i++)
			empty(i);
		n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		if (n < 0 && errno != EINTR)
			die("recvmmsg");
		for (int i = 0; i < n; i++)
			parts[i].iov_len = messages[i].msg_len;
		if (work == ECHO)
			send_batch(fd, n);
	}
}

static void by_epoll(int fd, enum work work)
{
	struct epoll_event event = { .events = EPOLLIN };
	int ep = epoll_create1(0);

	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event))
		die("epoll");
	for (;;) {
		epoll_wait(ep, &event, 1, -1);
		while (serve_one(fd, work, MSG_DONTWAIT))
			;
	}
}

/* The two rings of io_uring, mapped. */
struct uring {
	int fd;
	_Atomic unsigned int *sq_tail, *cq_head, *cq_tail;
	unsigned int *sq_array, sq_mask, cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static void open_uring(struct uring *ring)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };
	size_t bytes, entries;
	char *both;

	ring->fd = syscall(SYS_io_uring_setup, 2 * BATCH, &params);
	if (ring->fd < 0)
		die("io_uring_setup");
	if (!(params.features & IORING_FEAT_SINGLE_MMAP)) {
		fputs("io_uring: a kernel before 5.4\n", stderr);
		exit(1);
	}
	bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	entries = params.sq_off.array + params.sq_entries * sizeof(unsigned int);
	both = mmap(NULL, bytes > entries ? bytes : entries, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		    ring->fd, IORING_OFF_SQ_RING);
	ring->sqes = mmap(NULL, params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
	if (both == MAP_FAILED || ring->sqes == MAP_FAILED)
		die("mmap");
	ring->sq_tail = (void *)(both + params.sq_off.tail);
	ring->sq_array = (void *)(both + params.sq_off.array);
	ring->sq_mask = *(unsigned int *)(both + params.sq_off.ring_mask);
	ring->cq_head = (void *)(both + params.cq_off.head);
	ring->cq_tail = (void *)(both + params.cq_off.tail);
	ring->cq_mask = *(unsigned int *)(both + params.cq_off.ring_mask);
	ring->cqes = (void *)(both + params.cq_off.cqes);
}

/* Put a request for message *i* into the submission ring. */
static void request(struct uring *ring, int fd, int opcode, int i)
{
	unsigned int tail = atomic_load_explicit(ring->sq_tail, memory_order_relaxed);
	struct io_uring_sqe *sqe = &ring->sqes[tail & ring->sq_mask];

	*sqe = (struct io_uring_sqe){
		.opcode = opcode,
		.fd = fd,
		.addr = (unsigned long)&messages[i].msg_hdr,
		.len = 1,
		.user_data = i | (opcode == IORING_OP_RECVMSG ? BATCH : 0),
	};
	ring->sq_array[tail & ring->sq_mask] = tail & ring->sq_mask;
	atomic_store_explicit(ring->sq_tail, tail + 1, memory_order_release);
}

static void by_uring(int fd, enum work work)
{
	struct uring ring;
	int submit = BATCH;

	open_uring(&ring);
	for (int i = 0; i < BATCH; i++) {
		if (work != TRANSMIT)
			empty(i);
		request(&ring, fd, work == TRANSMIT ? IORING_OP_SENDMSG : IORING_OP_RECVMSG, i);
	}
	for (;;) {
		unsigned int head = atomic_load_explicit(ring.cq_head, memory_order_relaxed);

		if (syscall(SYS_io_uring_enter, ring.fd, submit, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 &&
		    errno != EINTR)
			die("io_uring_enter");
		submit = 0;
		for (; head != atomic_load_explicit(ring.cq_tail, memory_order_acquire); head++, submit++) {
			struct io_uring_cqe *cqe = &ring.cqes[head & ring.cq_mask];
			int i = cqe->user_data % BATCH;

			if (cqe->user_data >= BATCH && cqe->res >= 0 && work == ECHO) {
				parts[i].iov_len = cqe->res;
				request(&ring, fd, IORING_OP_SENDMSG, i);
			} else if (work == TRANSMIT) {
				request(&ring, fd, IORING_OP_SENDMSG, i);
			} else {
				empty(i);
				request(&ring, fd, IORING_OP_RECVMSG, i);
			}
		}
		atomic_store_explicit(ring.cq_head, head, memory_order_release);
	}
}

static void work_on(int fd, const char *kind, enum work work)
{
	if (!strcmp(kind, "uring"))
		by_uring(fd, work);
	else if (!strcmp(kind, "epoll") && work != TRANSMIT)
		by_epoll(fd, work);
	else if (!strcmp(kind, "batch") && work != TRANSMIT)
		in_batches(fd, work);
	while (!strcmp(kind, "one") && work != TRANSMIT)
		serve_one(fd, work, 0);
	while (!strcmp(kind, "batch"))
		send_batch(fd, BATCH);
	while (!strcmp(kind, "one"))
		send_one(fd, 0);
}

int main(int argc, char **argv)
{
	enum work work = argc == 8 ? TRANSMIT : argc > 2 && !strcmp(argv[2], "echo") ? ECHO : RECEIVE;
	int fd;

	if (argc != 5 && argc != 8) {
		fprintf(stderr, "usage: %s KIND echo|receive|transmit ADDRESS PORT [TO TO_PORT BYTES]\n", argv[0]);
		return 2;
	}
	fd = bound(argv[3], argv[4]);
	if (work == TRANSMIT) {
		struct sockaddr_in to = address_of(argv[5], argv[6]);
		size_t bytes = atoi(argv[7]);

		if (bytes < 4 || bytes > DATAGRAM) {
			fprintf(stderr, "%s bytes: 4 to %d\n", argv[7], DATAGRAM);
			return 2;
		}
		fill(&to, bytes);
	}
	puts("ready");
	fflush(stdout);
	work_on(fd, argv[1], work);
	fprintf(stderr, "%s: one, batch, epoll (which does not transmit) or uring\n", argv[1]);
	return 2;
}
