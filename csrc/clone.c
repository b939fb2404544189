/* The parent half: a stack, clone3, and what became of the child. */
#include "shim.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "raw.h"

/*
 * Stacks, and above them the pointer arrays of execve: one mapping, with a guard below
 * each stack, so that an overflow is a fault and not a write into the interpreter's heap.
 */
struct block {
	char *start;
	size_t size;
};

enum {
	STRIDE = GUARD_SIZE + STACK_SIZE,
	POINTERS_KEPT = 1024, /* of arguments and environment */
};

/*
 * The last block with one stack and room for so many, for the next spawn; NULL while one has it. To map it, and to have
 * the kernel fill in its pages one by one, takes 15 us.
 */
static char *kept;
static const size_t kept_size = STRIDE + POINTERS_KEPT * sizeof(char *);

/*
 * Page tables are charged to the cgroup of whose fault they are. If the child's own has no memory left for one,
 * it tries for ever, and its parent waits: the OOM killer spares who borrows another's memory.
 */
static void touch(char *first, char *last)
{
	for (volatile char *page = first; page < last; page += 2 * 1024 * 1024)
		*page = 0;
	*(volatile char *)last = 0;
}

static int take_block(size_t stacks, size_t pointers, struct block *ret)
{
	size_t size = stacks * STRIDE + pointers * sizeof(char *);
	char *start = NULL;
	bool is_new;
	int r = 0;

	if (size <= kept_size) {
		size = kept_size;
		start = __atomic_exchange_n(&kept, NULL, __ATOMIC_ACQUIRE);
	}
	is_new = start == NULL;
	if (is_new)
		start = sys_mmap(size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	if ((unsigned long)start > -4096UL)
		return (int)(long)start;
	for (size_t i = 0; i < stacks && r == 0; i++) {
		char *end = i + 1 == stacks ? start + size : start + (i + 1) * STRIDE;
		char *stack = start + i * STRIDE + GUARD_SIZE;

		if (is_new)
			r = sys_mprotect(stack, (size_t)(end - stack), PROT_READ | PROT_WRITE);
		if (r == 0)
			touch(stack, end - 1);
	}
	if (r < 0) {
		sys_munmap(start, size);
		return r;
	}
	*ret = (struct block){start, size};
	return 0;
}

static void give_back(struct block block)
{
	if (block.size == kept_size)
		block.start = __atomic_exchange_n(&kept, block.start, __ATOMIC_ACQ_REL);
	if (block.start != NULL)
		sys_munmap(block.start, block.size);
}

/* How many strings the kinds read, at least. The others read none, or as many as they say. */
static const uint8_t strings_needed[STEP_END] = {
    [STEP_SET_HOSTNAME] = 1,
    [STEP_SET_DOMAINNAME] = 1,
    [STEP_NEW_ROOT] = 1,
    [STEP_OPEN_TREE] = 1,
    [STEP_NEW_MOUNT] = 1,
    [STEP_ATTACH] = 1,
    [STEP_CHANGE_DIRECTORY] = 1,
    [STEP_SET_OOM_SCORE_ADJ] = 1,
    [STEP_SET_EXEC_LABEL] = 2,
    [STEP_ALLOW_PATH] = 1,
    [STEP_WRITE_PROC] = 2,
    [STEP_MAKE_DIRECTORY] = 1,
    [STEP_MAKE_SYMLINK] = 2,
    [STEP_WRITE_FILE] = 1,
    [STEP_OPEN_WITHIN] = 1,
    [STEP_COPY_MODE] = 2,
    [STEP_MASK] = 1,
    [STEP_MAKE_READ_ONLY] = 1,
    [STEP_EXECUTE_INIT] = 2,
    [STEP_ATTACH_ROOT] = 1,
    [STEP_OPEN_TERMINAL] = 2,
};

/* How many bytes the kinds read that read no strings but an array. */
static uint64_t bytes_needed(const struct step *step)
{
	switch (step->kind) {
	case STEP_SHOW_CGROUPS:
	case STEP_SET_GROUPS:
		return step->value > UINT32_MAX ? UINT64_MAX : step->value * sizeof(uint32_t);
	case STEP_INSTALL_FILTER:
	case STEP_WRITE_FILE:
	case STEP_CREATE_RULESET:
	case STEP_SET_AFFINITY:
		return step->value;
	case STEP_SET_RLIMIT:
		return 2 * sizeof(uint64_t);
	default:
		return 0;
	}
}

/* The kind is known, and all that the child will read of the text lies inside it. */
static bool step_is_valid(const struct step *step, const char *text, size_t size)
{
	size_t offset = step->text;

	if (step->kind == 0 || step->kind >= STEP_END || step->count < strings_needed[step->kind])
		return false;
	for (uint32_t n = 0; n < step->count; n++) {
		if (offset >= size)
			return false;
		offset += strlen(text + offset) + 1;
	}
	if (step->kind == STEP_CLONE_AGAIN && (step->flags & ~NAMESPACES) != 0)
		return false;
	if (step->kind == STEP_SET_GROUPS || bytes_needed(step) > 0)
		return offset <= size && bytes_needed(step) <= size - offset;
	if (step->kind == STEP_EXECUTE)
		return step->flags <= step->count && step->value <= step->count - step->flags;
	return true;
}

/* Execute is the last step, and no other: the arrays have room for one, and nothing follows it. */
static int check_plan(const struct step *steps, size_t steps_size, const char *text, size_t size)
{
	size_t count = steps_size / sizeof(struct step), again = 0;

	if (count == 0 || steps_size % sizeof(struct step) != 0 ||
	    (uintptr_t)steps % _Alignof(struct step) != 0)
		return -EINVAL;
	if (size > 0 && text[size - 1] != '\0')
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (!step_is_valid(&steps[i], text, size) ||
		    (steps[i].kind == STEP_EXECUTE) != (i == count - 1))
			return -EINVAL;
		again += steps[i].kind == STEP_CLONE_AGAIN;
	}
	return again > 1 ? -EINVAL : 0; /* there is one more stack */
}

/* The steps up to the clone are its arguments; returns the index of the clone. */
static int gather_clone_args(const struct step *steps, size_t count, struct clone_args *args)
{
	for (size_t i = 0; i < count; i++) {
		if (steps[i].kind == STEP_BIRTH_IN_CGROUP) {
			args->flags |= CLONE_INTO_CGROUP;
			args->cgroup = (uint64_t)steps[i].fd;
		} else if (steps[i].kind == STEP_CLONE) {
			if (steps[i].flags & ~NAMESPACES)
				return -EINVAL;
			args->flags |= steps[i].flags;
			return (int)i;
		} else {
			break;
		}
	}
	return -EINVAL;
}

/* Takes a child that did not get as far as its program off our hands. */
static void reap(struct report *report)
{
	/* A second child may go on when the first, which waited for it, is killed. */
	sys_kill(report->pid, SIGKILL);
	/* ECHILD: SIGCHLD is ignored, or another thread waits for any child; it is dead either way */
	sys_wait4(report->pid, NULL, __WALL);
	sys_close(report->pidfd);
	report->pid = -1;
	report->pidfd = -1;
}

/* The first child has cloned again and is done; the second has the pid that is reported. */
static void take_second(struct child *child, int first)
{
	struct report *report = child->report;
	int fd;

	sys_wait4(first, NULL, __WALL);
	sys_close(report->pidfd);
	fd = sys_pidfd_open(report->pid);
	report->pidfd = fd < 0 ? -1 : fd;
	/* -ESRCH: SIGCHLD is ignored, and it has ended already */
	if (fd < 0 && fd != -ESRCH && report->error == 0) {
		report->index = child->first - 1;
		report->error = -fd;
	}
}

static bool has_step(const struct child *child, uint32_t kind)
{
	for (uint32_t i = child->first; i < child->count; i++)
		if (child->steps[i].kind == kind)
			return true;
	return false;
}

/* What the kernel takes for a change of credentials: ids, or capabilities in another namespace. */
static bool takes_flag(const struct child *child)
{
	for (uint32_t i = child->first; i < child->count; i++) {
		const struct step *step = &child->steps[i];

		if (step->kind == STEP_SET_UID || step->kind == STEP_SET_GID ||
		    step->kind == STEP_SET_NAMESPACES || step->kind == STEP_HIDE_MEMORY ||
		    (step->kind == STEP_UNSHARE && (step->flags & CLONE_NEWUSER)))
			return true;
	}
	return false;
}

/* The last step that it began is the one that makes it another program. */
static bool has_executed(const struct child *child)
{
	uint32_t kind = child->steps[child->report->index].kind;

	return kind == STEP_EXECUTE || kind == STEP_EXECUTE_INIT;
}

static void take_outcome(struct child *child, long pid)
{
	struct report *report = child->report;

	if (pid < 0) {
		report->pidfd = -1;
		report->error = (int32_t)-pid;
		return;
	}
	if (report->pid != pid)
		take_second(child, (int)pid);
	if (report->error == 0 && !has_executed(child))
		report->error = ECANCELED; /* killed on the way */
	if (report->error != 0)
		reap(report);
}

static void clone_and_wait(struct clone_args *args, struct child *child)
{
	bool hides = takes_flag(child);
	bool in_turn = lend_memory(hides);
	long pid;

	for (uint32_t i = 0; i < child->first; i++)
		note_time(child, i);
	/* CLONE_VFORK: back when the child executes its program or is dead. */
	pid = clone3_call(args, run_child, child);
	note_time(child, child->count);
	take_outcome(child, pid);
	take_back_memory(hides, in_turn, child->report->pid);
}

int take_ending(int pid, int flags, struct ending *ending)
{
	struct rusage usage;
	int status, r;

	if (ending->pid != 0)
		return ending->pid;
	r = wait4(pid, &status, flags, &usage);
	if (r <= 0)
		return r < 0 ? -errno : 0;
	ending->pid = r;
	ending->status = status;
	ending->user_us =
	    (uint64_t)usage.ru_utime.tv_sec * 1000000 + (uint64_t)usage.ru_utime.tv_usec;
	ending->system_us =
	    (uint64_t)usage.ru_stime.tv_sec * 1000000 + (uint64_t)usage.ru_stime.tv_usec;
	return r;
}

int wait_for_child(struct report *report)
{
	uint32_t gate;

	/* open: of an earlier step, which the child may not have left yet */
	while ((gate = __atomic_load_n(&report->gate, __ATOMIC_ACQUIRE)) == 0 || gate == GATE_OPEN)
		sys_futex_wait(&report->gate, gate, NULL);
	return gate == GATE_REACHED ? report->pid : -ECANCELED;
}

void let_go(struct report *report, int error)
{
	uint32_t reached = GATE_REACHED;

	if (error != 0)
		__atomic_store_n(&report->gate, (uint32_t)-error, __ATOMIC_RELEASE);
	else /* not when nobody waits any more: that no child will come has to stay said */
		__atomic_compare_exchange_n(&report->gate, &reached, GATE_OPEN, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	sys_futex_wake(&report->gate);
}

uint64_t get_signal_mask(void)
{
	uint64_t mask = 0;

	sys_rt_sigprocmask(SIG_SETMASK, NULL, &mask);
	return mask;
}

void set_signal_mask(uint64_t mask)
{
	sys_rt_sigprocmask(SIG_SETMASK, &mask, NULL);
}

int spawn(const char *steps, size_t steps_size, const char *text, size_t text_size,
	  uint64_t signal_mask, struct report *ret_report)
{
	struct clone_args args = {
	    /*
	     * CLONE_VM: no copy of the page tables, so no cost that grows with the parent. Never
	     * without CLONE_VFORK: the OOM killer kills every process that shares the victim's memory,
	     * and spares only the parent of a vfork child.
	     */
	    .flags =
		CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | CLONE_PARENT_SETTID,
	    .pidfd = (uint64_t)(uintptr_t)&ret_report->pidfd,
	    .parent_tid = (uint64_t)(uintptr_t)&ret_report->pid,
	    .exit_signal = SIGCHLD,
	};
	struct child child = {
	    .steps = (const struct step *)steps,
	    .text = text,
	    .signal_mask = signal_mask,
	    .root = -1,
	    .tree = -1,
	    .ruleset = -1,
	    .directory = -1,
	    .null = {-1, false},
	    .empty = {-1, false},
	    .report = ret_report,
	};
	size_t count = steps_size / sizeof(struct step), stacks;
	struct block block = {0};
	int clone, r;

	r = check_plan(child.steps, steps_size, text, text_size);
	if (r < 0)
		return r;
	clone = gather_clone_args(child.steps, count, &args);
	if (clone < 0)
		return clone;
	/* arguments and environment, each with its NULL at the end */
	child.first = (uint32_t)clone + 1;
	child.count = (uint32_t)count;
	stacks = has_step(&child, STEP_CLONE_AGAIN) ? 2 : 1;
	*ret_report = (struct report){
	    .pid = -1,
	    .pidfd = -1,
	    .index = (uint32_t)clone,
	    .times = ret_report->times,
	};
	r = take_block(stacks, (size_t)child.steps[count - 1].count + 2, &block);
	if (r < 0) {
		ret_report->error = -r;
		return 0;
	}
	args.stack = (uint64_t)(uintptr_t)(block.start + GUARD_SIZE);
	args.stack_size = STACK_SIZE;
	child.second_stack = args.stack + STRIDE;
	child.pointers = (char **)(block.start + stacks * STRIDE);
	clone_and_wait(&args, &child);
	give_back(block);
	return 0;
}
