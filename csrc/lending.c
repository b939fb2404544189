/* Who may look at our memory while a child has it: the dumpable flag (PR_SET_DUMPABLE(2const)). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

/*
 * A change of uid or gid in the child clears the dumpable flag of the memory that it shares with us: our
 * /proc/self turns root-owned, debuggers stop. It has to: of whoever the child becomes there may be
 * others, who could read and write the memory through it (CVE-2016-9962). So the flag comes back when the
 * last such child has memory of its own, and not before, whatever other threads do.
 */
static pthread_mutex_t dumpable_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t without_flag; /* spawns */
static bool was_dumpable;

/*
 * Without the flag an ordinary user's child can't write its /proc/self/uid_map (EACCES). So his spawns
 * that take it are alone; the queue is for them not to wait for ever.
 */
static pthread_mutex_t queue = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t alone = PTHREAD_RWLOCK_INITIALIZER;

static void take_turn(bool takes_flag)
{
	pthread_mutex_lock(&queue);
	if (takes_flag)
		pthread_rwlock_wrlock(&alone);
	else
		pthread_rwlock_rdlock(&alone);
	pthread_mutex_unlock(&queue);
}

static void dumpable_enter(void)
{
	pthread_mutex_lock(&dumpable_lock);
	if (without_flag++ == 0)
		was_dumpable = prctl(PR_GET_DUMPABLE) == 1;
	pthread_mutex_unlock(&dumpable_lock);
}

static void dumpable_leave(void)
{
	pthread_mutex_lock(&dumpable_lock);
	if (--without_flag == 0 && was_dumpable && prctl(PR_GET_DUMPABLE) != 1)
		prctl(PR_SET_DUMPABLE, 1);
	pthread_mutex_unlock(&dumpable_lock);
}

void after_fork(void)
{
	dumpable_lock = queue = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	alone = (pthread_rwlock_t)PTHREAD_RWLOCK_INITIALIZER;
	if (without_flag > 0 && was_dumpable && prctl(PR_GET_DUMPABLE) != 1)
		prctl(PR_SET_DUMPABLE, 1);
	without_flag = 0;
}

enum {
	FORKED_NOT_EXECUTED = 0x40, /* PF_FORKNOEXEC of the kernel */
};

/* Whether it has not executed a program yet, by the flags in its /proc/PID/stat (proc_pid_stat(5)). */
static int has_our_memory(const char *path)
{
	char text[512], *field;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size;

	if (fd < 0)
		return -errno;
	size = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (size < 0)
		return -errno; /* ESRCH: it has been reaped */
	text[size] = '\0';
	field = strrchr(text, ')'); /* (name) state parent group session terminal its-group flags */
	if (field != NULL && strncmp(field, ") Z", 3) == 0)
		return 0; /* killed on the way, it keeps the flag */
	for (int i = 0; i < 7 && field != NULL; i++)
		field = strchr(field + 1, ' ');
	return field != NULL && (strtoul(field, NULL, 10) & FORKED_NOT_EXECUTED) != 0;
}

/*
 * The kernel wakes us a moment before execve lets go of the memory. It tells nobody when it has; as a rule
 * that is before we look. Not for ever: /proc may be that of another PID namespace, the pid another's.
 */
static void wait_for_own_memory(int pid)
{
	const struct timespec moment = {.tv_nsec = 50000}, long_moment = {.tv_nsec = 1000000};
	char path[32];
	int r = 1;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	for (int tries = 0; tries < 100 && (r = has_our_memory(path)) == 1; tries++)
		nanosleep(&moment, NULL);
	if (r < 0) /* not to be seen: there is no /proc, or it hides others (hidepid) */
		nanosleep(&long_moment, NULL);
}

bool lend_memory(bool hides)
{
	bool in_turn = geteuid() != 0;

	if (in_turn)
		take_turn(hides);
	if (hides)
		dumpable_enter();
	return in_turn;
}

void take_back_memory(bool hides, bool in_turn, int pid)
{
	if (hides) {
		if (pid > 0)
			wait_for_own_memory(pid);
		dumpable_leave();
	}
	if (in_turn)
		pthread_rwlock_unlock(&alone);
}
