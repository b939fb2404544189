/*
 * Gives the shim any two blocks, as a plan: spawn() is to say EINVAL, or which step failed, or to start
 * a program; and nothing of it is to be left, nor the caller's memory touched where it is not the child's.
 *
 * An input is the size of the array of struct step (uint32_t), the array, the text. It goes to the shim as
 * it is, each just before a page that nobody may touch: who reads on gets a SIGSEGV, and the kernel, EFAULT.
 * All that the child does is done. Its memory is ours (CLONE_VM), so AddressSanitizer's marks,
 * libFuzzer's counters and the words below are true of both. What makes it harmless is where it runs, see
 * run.py: without privileges, in a container where it is alone. An input that never ends is to be found in the file
 * that $PYNS_CURRENT names: nothing stops us meanwhile. Three things are changed of an input, for the
 * time that they take:
 *
 * - STEP_WAIT_FOR_PARENT waits for 3 ms at most, for nobody will let it go on;
 * - STEP_SET_TIMER_SLACK sets 1 ms at most: by so much any wait may be longer;
 * - no CLONE_NEWNET: the kernel takes network namespaces down much slower than they are made.
 */
#include "shim.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	NEWNET = 0x40000000,
	INPUT_MAX = 1 << 16,
	PAGE_MAX = 1 << 16,
	FD_FIRST = 100, /* of those that the steps may use, see open_fds() */
	FD_LAST = 107,
};

/* Said by the child, that may not be able to say anything else: it has no files of ours, perhaps. */
static volatile bool has_reported;

void __asan_on_error(void)
{
	has_reported = true;
}

void __ubsan_on_report(void)
{
	has_reported = true;
}

/* Not by abort(): if that is where the child has ended, it is half done already, in our memory. */
static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s\n", what);
	set_signal_mask(0);
	__builtin_trap(); /* libFuzzer handles SIGILL */
}

static int place(int fd, int number)
{
	must(fd >= 0 && dup2(fd, number) == number, "no fd for the steps");
	return close(fd);
}

/* One of each kind that a step takes: without them most steps say EBADF only. */
static void open_fds(void)
{
	int pair[2];

	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0, "socketpair");
	place(pair[0], FD_FIRST);
	place(pair[1], FD_LAST + 1); /* the other end, for drain() */
	place(open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC), 101);
	place(open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC), 102);
	place(open("/bin/true", O_RDONLY | O_CLOEXEC), 103);
	place(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), 104);
	place(open("/dev/null", O_RDWR | O_CLOEXEC), 105);
	place(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 106);
	place(open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC), 107);
}

/* What the child has sent, a mount or a terminal, goes. */
static void drain(void)
{
	char byte;

	while (recv(FD_LAST + 1, &byte, 1, MSG_DONTWAIT) > 0)
		;
}

static char *steps_end, *text_end;
static int kept = -1; /* the file that has the current input */

/* Room for a block; returns its end, where it is not to be read on. */
static char *map_room(void)
{
	char *start =
	    mmap(NULL, INPUT_MAX + PAGE_MAX, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(start != MAP_FAILED, "mmap");
	must(mprotect(start, INPUT_MAX, PROT_READ | PROT_WRITE) == 0, "mprotect");
	return start + INPUT_MAX;
}

static void keep(const uint8_t *data, size_t size)
{
	must(pwrite(kept, data, size, 0) == (ssize_t)size && ftruncate(kept, (off_t)size) == 0,
	     "the input can't be kept");
}

static char *put(char *end, const uint8_t *data, size_t size)
{
	ASAN_UNPOISON_MEMORY_REGION(end - INPUT_MAX, INPUT_MAX);
	memcpy(end - size, data, size);
	ASAN_POISON_MEMORY_REGION(end - INPUT_MAX, INPUT_MAX - size);
	return end - size;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	sigset_t child;

	(void)argc, (void)argv;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD); /* kept, for killed_by() */
	sigprocmask(SIG_BLOCK, &child, NULL);
	open_fds();
	steps_end = map_room();
	text_end = map_room();
	kept = open(getenv("PYNS_CURRENT"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	return 0;
}

/* The signal that has killed a child, 0 if none was killed. */
static int killed_by(void)
{
	const struct timespec now = {0};
	siginfo_t info;
	sigset_t child;
	int killer = 0;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	while (sigtimedwait(&child, &info, &now) == SIGCHLD)
		if (info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED)
			killer = info.si_status;
	return killer;
}

static bool is_crash(int signal)
{
	return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE ||
	       signal == SIGTRAP || signal == SIGABRT;
}

static int open_fds_count(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* Then a program may well crash by itself, who may not exit does, and a call fails in any way. */
static bool is_limited(const struct step *steps, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (steps[i].kind == STEP_SET_RLIMIT || steps[i].kind == STEP_INSTALL_FILTER)
			return true;
	return false;
}

static void check_outcome(const struct report *report, const struct step *steps, uint32_t count)
{
	int killer = killed_by(), status;
	siginfo_t info;

	must(!has_reported, "a sanitizer has found something in the child");
	if (report->error != 0) {
		must(report->error > 0 && report->error < 4096, "no errno");
		must(report->error != EFAULT || is_limited(steps, count),
		     "the kernel was to read what is not the plan's");
		must(report->index < count, "no step");
		must(report->pid == -1 && report->pidfd == -1, "it failed, and there is a process");
		must(!is_crash(killer) || is_limited(steps, count), strsignal(killer));
	} else {
		must(report->pid > 0 && report->pidfd >= 0, "it runs, and there is no process");
		kill(report->pid, SIGKILL);
		must(waitpid(report->pid, &status, __WALL) == report->pid, "not our child");
		must(!WIFSIGNALED(status) || !is_crash(WTERMSIG(status)) ||
			 is_limited(steps, count),
		     "it crashed on its way to the program");
		close(report->pidfd);
		killed_by();
	}
	must(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL) < 0 && errno == ECHILD,
	     "a child is left");
}

static void soften(struct step *steps, size_t count)
{
	if ((uintptr_t)steps % _Alignof(struct step) != 0)
		return; /* EINVAL */
	for (size_t i = 0; i < count; i++) {
		if (steps[i].kind == STEP_WAIT_FOR_PARENT)
			steps[i].value &= 3;
		if (steps[i].kind == STEP_SET_TIMER_SLACK)
			steps[i].value &= 0xfffff;
		if (steps[i].kind == STEP_CLONE || steps[i].kind == STEP_CLONE_AGAIN ||
		    steps[i].kind == STEP_UNSHARE)
			steps[i].flags &= ~(uint64_t)NEWNET;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct report report = {.pid = -1, .pidfd = -1};
	uint32_t steps_size, count;
	size_t text_size;
	uint64_t mask;
	char *steps, *text;
	int before, r;

	keep(data, size);
	if (size < sizeof(steps_size))
		return -1;
	memcpy(&steps_size, data, sizeof(steps_size));
	data += sizeof(steps_size);
	size -= sizeof(steps_size);
	if (steps_size > size)
		return -1;
	text_size = size - steps_size;
	if (steps_size > INPUT_MAX || text_size > INPUT_MAX)
		return -1;
	count = steps_size / sizeof(struct step);
	steps = put(steps_end, data, steps_size);
	text = put(text_end, data + steps_size, text_size);
	report.times = malloc((count + 1) * sizeof(*report.times));
	soften((struct step *)steps, count);
	before = open_fds_count();
	mask = get_signal_mask();
	set_signal_mask(~0ULL);
	r = spawn(steps, steps_size, text, text_size, 0, &report);
	if (r == 0)
		check_outcome(&report, (struct step *)steps, count);
	else
		must(r == -EINVAL, "neither 0 nor -EINVAL");
	set_signal_mask(mask);
	drain();
	must(open_fds_count() == before, "an fd is left");
	must(prctl(PR_GET_DUMPABLE) == 1, "the dumpable flag is lost");
	must(memcmp(text, data + steps_size, text_size) == 0, "the text was written to");
	free(report.times);
	return 0;
}

/* From here on: how an input becomes another one. */

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* A plan in pieces, with room to grow. */
struct plan {
	struct step steps[256];
	uint32_t count;
	char text[INPUT_MAX];
	uint32_t text_size;
};

static uint32_t random_below(uint64_t *state, uint32_t limit)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)((*state >> 33) % limit);
}

static uint64_t number(uint64_t *state)
{
	uint32_t bits = random_below(state, 65);
	uint64_t power = bits == 64 ? 0 : 1ULL << bits;

	switch (random_below(state, 4)) {
	case 0:
		return random_below(state, 16);
	case 1:
		return power;
	case 2:
		return power - 1;
	default:
		return 0x3e020000; /* CLONE_NEW..., but for time and net */
	}
}

/* Where a string begins, as a rule. */
static uint32_t offset(const struct plan *plan, uint64_t *state)
{
	uint32_t at = random_below(state, plan->text_size + 1);

	if (random_below(state, 16) == 0)
		return (uint32_t)number(state);
	while (at > 0 && at < plan->text_size && plan->text[at - 1] != '\0')
		at--;
	return at;
}

static void change_field(const struct plan *plan, struct step *step, uint64_t *state)
{
	switch (random_below(state, 6)) {
	case 0:
		step->kind = random_below(state, STEP_END + 1);
		break;
	case 1:
		step->fd = random_below(state, 4) == 0
			       ? (int32_t)number(state)
			       : FD_FIRST + (int32_t)random_below(state, FD_LAST - FD_FIRST + 1);
		break;
	case 2:
		step->text = offset(plan, state);
		break;
	case 3:
		step->count =
		    random_below(state, 8) == 0 ? (uint32_t)number(state) : random_below(state, 5);
		break;
	case 4:
		step->flags =
		    random_below(state, 4) == 0 ? step->flags ^ number(state) : number(state);
		break;
	default:
		step->value = number(state);
	}
}

static void insert_step(struct plan *plan, uint64_t *state)
{
	uint32_t at = random_below(state, plan->count + 1);
	struct step step = {.kind = 1 + random_below(state, STEP_END), .fd = FD_FIRST};

	if (plan->count == sizeof(plan->steps) / sizeof(*plan->steps))
		return;
	if (plan->count > 0 && random_below(state, 3) == 0)
		step = plan->steps[random_below(state, plan->count)];
	else
		for (int i = 0; i < 4; i++)
			change_field(plan, &step, state);
	memmove(&plan->steps[at + 1], &plan->steps[at], (plan->count - at) * sizeof(step));
	plan->steps[at] = step;
	plan->count++;
}

static void remove_step(struct plan *plan, uint64_t *state)
{
	uint32_t at = random_below(state, plan->count);

	plan->count--;
	memmove(&plan->steps[at], &plan->steps[at + 1],
		(plan->count - at) * sizeof(plan->steps[0]));
}

static void swap_steps(struct plan *plan, uint64_t *state)
{
	uint32_t a = random_below(state, plan->count), b = random_below(state, plan->count);
	struct step step = plan->steps[a];

	plan->steps[a] = plan->steps[b];
	plan->steps[b] = step;
}

/* What a step reads beyond its strings is only seen behind the last. */
static void read_last(struct plan *plan, struct step *step, uint64_t *state)
{
	uint32_t at = offset(plan, state), end = plan->text_size, size;

	if (at >= end || plan->text[end - 1] != '\0')
		return;
	size = (uint32_t)strlen(plan->text + at) + 1;
	if (size > sizeof(plan->text) - end)
		return;
	memcpy(plan->text + end, plan->text + at, size);
	plan->text_size += size;
	step->count = random_below(state, 2);
	step->text = step->count == 0 ? plan->text_size : end;
}

static void change_plan(struct plan *plan, uint64_t *state)
{
	switch (plan->count == 0 ? 0 : random_below(state, 10)) {
	case 0:
		insert_step(plan, state);
		break;
	case 1:
		remove_step(plan, state);
		break;
	case 2:
		swap_steps(plan, state);
		break;
	case 3:
		plan->text_size = (uint32_t)LLVMFuzzerMutate((uint8_t *)plan->text, plan->text_size,
							     sizeof(plan->text) - 1);
		if (random_below(state, 16) != 0)
			plan->text[plan->text_size++] = '\0';
		break;
	case 4:
		read_last(plan, &plan->steps[random_below(state, plan->count)], state);
		break;
	default:
		change_field(plan, &plan->steps[random_below(state, plan->count)], state);
	}
}

/* 1 in 16 is changed as if it were any bytes: it may have part of a step, or no text. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	static struct plan plan;
	uint64_t state = seed;
	uint32_t steps_size = 0;

	if (size >= sizeof(steps_size))
		memcpy(&steps_size, data, sizeof(steps_size));
	if (random_below(&state, 16) == 0 || size < sizeof(steps_size) ||
	    steps_size > size - sizeof(steps_size) || steps_size > sizeof(plan.steps) ||
	    size - sizeof(steps_size) - steps_size > sizeof(plan.text) / 2)
		return LLVMFuzzerMutate(data, size, max_size);
	plan.count = steps_size / sizeof(struct step);
	plan.text_size = (uint32_t)(size - sizeof(steps_size) - steps_size);
	memcpy(plan.steps, data + sizeof(steps_size), steps_size);
	memcpy(plan.text, data + sizeof(steps_size) + steps_size, plan.text_size);
	for (uint32_t times = 1 + random_below(&state, 3); times > 0; times--)
		change_plan(&plan, &state);
	steps_size = plan.count * sizeof(struct step);
	size = sizeof(steps_size) + steps_size + plan.text_size;
	if (size > max_size)
		return LLVMFuzzerMutate(data, max_size, max_size);
	memcpy(data, &steps_size, sizeof(steps_size));
	memcpy(data + sizeof(steps_size), plan.steps, steps_size);
	memcpy(data + sizeof(steps_size) + steps_size, plan.text, plan.text_size);
	return size;
}
