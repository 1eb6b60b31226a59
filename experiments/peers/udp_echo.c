// SPDX-License-Identifier: Apache-2.0
/*
 * UDP echo over ordinary sockets, as well as they can be used: the peer that
 * nomx's paths are compared with.
 *
 *   udp_echo one ADDRESS PORT     blocking recvfrom and sendto, a datagram at a time
 *   udp_echo batch ADDRESS PORT   recvmmsg and sendmmsg, up to 64 at a time
 *   udp_echo spin ADDRESS PORT    recvfrom that does not block, a datagram at a time
 *
 * Says "ready" when it is bound, and serves until it is killed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, DATAGRAM = 2048, RECEIVE_BUFFER = 1 << 22 };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int bound(const char *address, const char *port)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), bytes = RECEIVE_BUFFER;

	if (fd < 0)
		die("socket");
	if (inet_pton(AF_INET, address, &own.sin_addr) != 1) {
		fprintf(stderr, "%s is no IPv4 address\n", address);
		exit(2);
	}
	/* as much room as an XSK's rings have, so that neither side loses for want of it */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)))
		die("SO_RCVBUF");
	if (bind(fd, (struct sockaddr *)&own, sizeof(own)))
		die("bind");
	return fd;
}

static void one_at_a_time(int fd, int flags)
{
	static char datagram[DATAGRAM];

	for (;;) {
		struct sockaddr_in from;
		socklen_t from_len = sizeof(from);
		ssize_t n = recvfrom(fd, datagram, sizeof(datagram), flags, (struct sockaddr *)&from, &from_len);

		if (n >= 0)
			sendto(fd, datagram, n, 0, (struct sockaddr *)&from, from_len);
		else if (errno != EAGAIN && errno != EINTR)
			die("recvfrom");
	}
}

static void in_batches(int fd)
{
	static char datagrams[BATCH][DATAGRAM];
	static struct sockaddr_in from[BATCH];
	static struct mmsghdr messages[BATCH];
	static struct iovec parts[BATCH];

	for (int i = 0; i < BATCH; i++) {
		parts[i].iov_base = datagrams[i];
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &from[i];
	}
	for (;;) {
		int n, sent = 0;

		for (int i = 0; i < BATCH; i++) {
			parts[i].iov_len = DATAGRAM;
			messages[i].msg_hdr.msg_namelen = sizeof(from[i]);
		}
		n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		if (n < 0 && errno != EINTR)
			die("recvmmsg");
		for (int i = 0; i < n; i++)
			parts[i].iov_len = messages[i].msg_len;
		while (sent < n) {
			int done = sendmmsg(fd, messages + sent, n - sent, 0);

			if (done <= 0)
				break;
			sent += done;
		}
	}
}

int main(int argc, char **argv)
{
	int fd;

	if (argc != 4) {
		fprintf(stderr, "usage: %s one|batch|spin ADDRESS PORT\n", argv[0]);
		return 2;
	}
	fd = bound(argv[2], argv[3]);
	puts("ready");
	fflush(stdout);
	if (!strcmp(argv[1], "one"))
		one_at_a_time(fd, 0);
	else if (!strcmp(argv[1], "spin"))
		one_at_a_time(fd, MSG_DONTWAIT);
	else if (!strcmp(argv[1], "batch"))
		in_batches(fd);
	fprintf(stderr, "%s: one, batch or spin\n", argv[1]);
	return 2;
}
