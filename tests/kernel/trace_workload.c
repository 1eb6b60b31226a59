// SPDX-License-Identifier: Apache-2.0
/*
 * A program that does known numbers of known things: reads `LETTER NUMBER`
 * lines, does each, and answers `.`. What tests of the tracer trace.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, CALLS_OF_A_THREAD = 10 };

static int udp = -1;
static struct sockaddr_in self;

static void calls(long count)
{
	for (long i = 0; i < count; i++)
		syscall(SYS_getppid);
}

static char *fresh_pages(long count)
{
	char *pages = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		exit(1);
	madvise(pages, count * PAGE, MADV_NOHUGEPAGE);
	return pages;
}

static void faults(long count)
{
	volatile char *pages = fresh_pages(count);

	for (long i = 0; i < count; i++)
		pages[i * PAGE] = 1;
	munmap((void *)pages, count * PAGE);
}

static void faults_inside_a_call(long count)
{
	char *pages = fresh_pages(count);
	int zero = open("/dev/zero", O_RDONLY);

	if (read(zero, pages, count * PAGE) != count * PAGE)
		exit(1);
	close(zero);
	munmap(pages, count * PAGE);
}

static void forks(long count)
{
	for (long i = 0; i < count; i++) {
		pid_t child = fork();

		if (!child) {
			calls(CALLS_OF_A_THREAD);
			_exit(0);
		}
		waitpid(child, NULL, 0);
	}
}

static void *thread(void *argument)
{
	calls(CALLS_OF_A_THREAD);
	return argument;
}

static void threads(long count)
{
	pthread_t id;

	for (long i = 0; i < count; i++) {
		pthread_create(&id, NULL, thread, NULL);
		pthread_join(id, NULL);
	}
}

/* getpid of the 32-bit table */
static void calls_of_32_bits(long count)
{
#ifdef __x86_64__
	for (long i = 0; i < count; i++) {
		long result = 20;

		__asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
	}
#else
	(void)count;
#endif
}

static void on_alarm(int number)
{
	(void)number;
}

static void interrupted_calls(long count)
{
	struct itimerval soon = { .it_value.tv_usec = 2000 };
	struct timespec long_time = { .tv_sec = 5 };

	signal(SIGALRM, on_alarm);
	for (long i = 0; i < count; i++) {
		setitimer(ITIMER_REAL, &soon, NULL);
		while (syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &long_time, NULL) == 0)
			;
	}
}

static void sleeps(long count)
{
	struct timespec short_time = { .tv_nsec = 100000 };

	for (long i = 0; i < count; i++)
		syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &short_time, NULL);
}

static void open_udp(void)
{
	socklen_t length = sizeof(self);

	udp = socket(AF_INET, SOCK_DGRAM, 0);
	self.sin_family = AF_INET;
	self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bind(udp, (struct sockaddr *)&self, sizeof(self));
	getsockname(udp, (struct sockaddr *)&self, &length);
}

static void packets(long count)
{
	char text[64] = "";

	for (long i = 0; i < count; i++) {
		sendto(udp, text, sizeof(text), 0, (struct sockaddr *)&self, sizeof(self));
		if (recvfrom(udp, text, sizeof(text), 0, NULL, NULL) < 0)
			exit(1);
	}
}

static void empty_receives(long count)
{
	char text[64];

	for (long i = 0; i < count; i++)
		recvfrom(udp, text, sizeof(text), MSG_DONTWAIT, NULL, NULL);
}

static void spin_ms(long count)
{
	struct timespec now, until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += count / 1000;
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while (now.tv_sec < until.tv_sec || now.tv_nsec < until.tv_nsec);
}

static void do_one(char what, long count)
{
	switch (what) {
	case 's': calls(count); break;
	case 'f': faults(count); break;
	case 'k': faults_inside_a_call(count); break;
	case 'p': forks(count); break;
	case 't': threads(count); break;
	case 'c': calls_of_32_bits(count); break;
	case 'i': interrupted_calls(count); break;
	case 'w': sleeps(count); break;
	case 'o': open_udp(); break;
	case 'u': packets(count); break;
	case 'e': empty_receives(count); break;
	case 'b': spin_ms(count); break;
	default: exit(2);
	}
}

int main(int count, char **words)
{
	char line[64];
	ssize_t got;

	if (count > 1) { /* as arguments: once, without a dialogue */
		for (int i = 1; i < count; i++)
			do_one(words[i][0], atol(words[i] + 1));
		return 0;
	}
	while ((got = read(0, line, sizeof(line) - 1)) > 0) {
		line[got] = 0;
		do_one(line[0], atol(line + 1));
		if (write(1, ".", 1) != 1)
			return 1;
	}
	return 0;
}
