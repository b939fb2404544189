/*
 * The thread of limit.c that writes the id maps of a child which may not write them itself; the
 * thread that clones is suspended meanwhile. A file of its own: <pthread.h> defines what raw.h does.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "limit.h"

static void write_map(const struct child *child, const char *kind, const char *map)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s_map", child->pid, kind);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, map, strlen(map)) < 0)
		perror(path);
	close(fd);
}

static void open_gate(struct child *child)
{
	__atomic_store_n(&child->gate, OPEN, __ATOMIC_RELEASE);
	syscall(SYS_futex, &child->gate, FUTEX_WAKE, INT_MAX);
}

static void *help(void *argument)
{
	struct child *child = argument;

	while (__atomic_load_n(&child->gate, __ATOMIC_ACQUIRE) == NOT_REACHED)
		syscall(SYS_futex, &child->gate, FUTEX_WAIT, NOT_REACHED, NULL);
	if (child->gate == REACHED) {
		write_map(child, "uid", child->request->uid_map);
		write_map(child, "gid", child->request->gid_map);
		open_gate(child);
	}
	return NULL;
}

int clone_with_help(struct child *child, int *ret_pidfd)
{
	pthread_t helper;
	int pid = -pthread_create(&helper, NULL, help, child);

	if (pid < 0)
		return pid;
	pid = clone_child(child, ret_pidfd);
	open_gate(child); /* the child may never have come there */
	pthread_join(helper, NULL);
	return pid;
}
