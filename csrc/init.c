/*
 * pyns-init: PID 1 of a container whose program does not want to be one.
 *
 * The shim's child executes it when all is set up that holds for the container. It has its own child do
 * the steps that are the program's alone, in the same loop as the shim (child.c), and tells the
 * caller how that went. Then it does what PID 1 is for: it reaps whoever is left to it and hands signals on. It
 * ends with the program, and the kernel then kills and reaps all others of the namespace.
 *
 * Whoever is inside must find nothing here: it is not dumpable before there is anybody else, its
 * environment is empty, and of its fds one stays open, which only it has. The program's arguments
 * and environment are in a file that it lets go of.
 *
 * No libc, so that it is the same everywhere and small.
 */
#include "shim.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raw.h"

static char stack[STACK_SIZE] __attribute__((aligned(16)));

struct program {
	struct child child;
	uint64_t on_child[4]; /* what SIGCHLD does, as the caller had it */
};

static _Noreturn void refuse(void)
{
	static const char text[] = "pyns-init is started by pyns, as PID 1 of a container\n";

	sys_write(STDERR_FILENO, text, sizeof(text) - 1);
	sys_exit_group(2);
}

static void run_program(void *argument)
{
	struct program *program = argument;

	sys_rt_sigaction(SIGCHLD, program->on_child, NULL);
	run_child(&program->child);
}

/* Returns the pid of the program, or -1 and why not in the report. */
static int start(const struct init_plan *plan, struct report *report)
{
	const struct step *steps = (const struct step *)(plan + 1);
	size_t size = (steps[plan->count - 1].count + 2) * sizeof(char *);
	struct program program = {
	    .child =
		{
		    .steps = steps,
		    .first = plan->first,
		    .count = plan->count,
		    .text = (const char *)(steps + plan->count),
		    /*
		     * Populated, as the plan: page tables are charged to whose fault they are. A child
		     * in its group, whose memory is all taken, would try for ever: the OOM killer
		     * spares who borrows another's memory.
		     */
		    .pointers = sys_mmap(size, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE),
		    .signal_mask = plan->signal_mask,
		    .ruleset = -1,
		    .root = -1,
		    .tree = -1,
		    .directory = -1,
		    .null = {-1, false},
		    .empty = {-1, false},
		    .report = report,
		},
	};
	struct clone_args args = {
	    /* VFORK: back when the program runs or has failed. VM: the report is the child's to write */
	    .flags = CLONE_VM | CLONE_VFORK,
	    .exit_signal = SIGCHLD,
	    .stack = (uint64_t)(uintptr_t)stack,
	    .stack_size = STACK_SIZE,
	};
	const uint64_t by_default[4] = {0};
	long pid = (long)program.child.pointers;

	if ((unsigned long)pid <= -4096UL) {
		/* Ignored by the caller, it would be here too, and the program's status lost. */
		sys_rt_sigaction(SIGCHLD, by_default, program.on_child);
		pid = clone3_call(&args, run_program, &program);
		sys_munmap(program.child.pointers, size);
	}
	if (pid < 0)
		report->error = (int32_t)-pid;
	else if (report->error == 0 && report->index + 1 != plan->count)
		report->error = ECANCELED; /* killed on the way */
	return report->error == 0 ? (int)pid : -1;
}

/* With PID 1 ends everybody in its namespace; the caller is not told before all of them are gone. */
static _Noreturn void end(int fd, int32_t status)
{
	sys_write(fd, &status, sizeof(status));
	sys_exit_group(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void reap(int program, int fd)
{
	int pid, status;

	while ((pid = sys_wait4(-1, &status, WNOHANG | __WALL)) > 0)
		if (pid == program)
			end(fd, status);
}

/* All signals are blocked, and have been since before there was anybody to send one. */
static _Noreturn void serve(int program, int fd)
{
	const uint64_t all = ~0ULL;
	siginfo_t info;

	for (;;) {
		int signal = sys_rt_sigwaitinfo(&all, &info);

		/* One SIGCHLD may stand for many, and for one that somebody sent as well. */
		if (signal == SIGCHLD)
			reap(program, fd);
		if (signal > 0 && (signal != SIGCHLD || info.si_code <= 0))
			sys_kill(program, signal);
	}
}

/* Mounts come before the init: it needs no code for them. */
int mount_step(struct child *child, const struct step *step, const char *text)
{
	(void)child, (void)step, (void)text;
	return -EINVAL;
}

/* So does the terminal. */
int open_terminal(const struct step *step, const char *text)
{
	(void)step, (void)text;
	return -EINVAL;
}

static int take_number(char *text)
{
	int number = 0;

	for (; *text >= '0' && *text <= '9'; *text++ = '\0') /* gone from /proc/1/cmdline */
		number = number * 10 + (*text - '0');
	return number;
}

/* Called by the first instruction, below. The stack begins with argc, then comes argv. */
__attribute__((used)) static _Noreturn void init(char **arguments)
{
	struct report report;
	const struct init_plan *plan;
	uint32_t words[2];
	long size;
	int file, fd, program;

	if ((long)arguments[0] != 2)
		refuse();
	sys_prctl(PR_SET_DUMPABLE, 0);
	sys_prctl(PR_SET_NAME, (unsigned long)arguments[1]);
	file = take_number(arguments[2]);
	size = sys_lseek(file, 0, SEEK_END);
	if (size <= 0)
		refuse();
	plan = sys_mmap_file(file, (size_t)size);
	if ((unsigned long)plan > -4096UL)
		sys_exit_group((int)-(long)plan); /* ENOMEM; whom to tell is in the plan */
	sys_close(file);
	fd = plan->fd;
	sys_fcntl(fd, F_SETFD, FD_CLOEXEC);

	report = (struct report){.index = plan->first - 1};
	program = start(plan, &report);
	sys_munmap((void *)plan, (size_t)size);
	/* Only now: the program is in the caller's group, to which a terminal sends its signals. */
	sys_setpgid(0, 0);
	sys_chdir("/");
	sys_close_range(0, (unsigned int)fd - 1);
	sys_close_range((unsigned int)fd + 1, ~0U);
	words[0] = report.index;
	words[1] = (uint32_t)report.error;
	sys_write(fd, words, sizeof(words));
	if (program < 0)
		sys_exit_group(127);
	serve(program, fd);
}

#if defined(__x86_64__)
__asm__(".globl _start\n"
	"_start:\n\t"
	"xorl %ebp, %ebp\n\t"
	"movq %rsp, %rdi\n\t"
	"andq $-16, %rsp\n\t"
	"call init\n\t"
	"ud2\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n"
	"_start:\n\t"
	"mov x29, #0\n\t"
	"mov x30, #0\n\t"
	"mov x0, sp\n\t"
	"bl init\n\t"
	"brk #1\n");
#endif

/*
 * What child.c and the compiler take from libc. The empty assembly keeps a
 * compiler from making a call of the loop: of the function that it is in.
 */
void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		((char *)to)[i] = ((const char *)from)[i];
		__asm__ volatile("" ::: "memory");
	}
	return to;
}

void *memset(void *to, int byte, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		((char *)to)[i] = (char)byte;
		__asm__ volatile("" ::: "memory");
	}
	return to;
}

size_t strlen(const char *string)
{
	size_t size = 0;

	for (; string[size] != '\0'; size++)
		__asm__ volatile("" ::: "memory");
	return size;
}

size_t strcspn(const char *string, const char *reject)
{
	size_t size = 0;

	for (; string[size] != '\0'; size++)
		for (const char *r = reject; *r != '\0'; r++)
			if (string[size] == *r)
				return size;
	return size;
}
