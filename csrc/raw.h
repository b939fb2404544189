/*
 * Raw system calls under the kernel's names: they return -errno and touch no
 * libc state. The child shares the parent's memory, and with it errno, locks and
 * the thread's descriptor: libc's own wrappers are forbidden there.
 *
 * Numbers, flags and structs newer than the oldest headers we build with
 * (manylinux_2_28: Linux 4.18) are written out.
 */
#ifndef RAW_H
#define RAW_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>

#ifndef PATH_MAX /* <linux/limits.h>: clang has no other limits.h without libc than its own */
#define PATH_MAX 4096
#endif

/* the same numbers on every architecture */
enum {
	NR_OPEN_TREE = 428,
	NR_MOVE_MOUNT = 429,
	NR_FSOPEN = 430,
	NR_FSCONFIG = 431,
	NR_FSMOUNT = 432,
	NR_PIDFD_OPEN = 434,
	NR_CLONE3 = 435,
	NR_CLOSE_RANGE = 436,
	NR_OPENAT2 = 437,
	NR_MOUNT_SETATTR = 442,
	NR_LANDLOCK_CREATE_RULESET = 444,
	NR_LANDLOCK_ADD_RULE = 445,
	NR_LANDLOCK_RESTRICT_SELF = 446,
};

/* <linux/sched.h> */
#define CLONE_VM 0x00000100ULL
#define CLONE_FILES 0x00000400ULL
#define CLONE_PIDFD 0x00001000ULL
#define CLONE_VFORK 0x00004000ULL
#define CLONE_PARENT 0x00008000ULL
#define CLONE_PARENT_SETTID 0x00100000ULL
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#define CLONE_INTO_CGROUP 0x200000000ULL
#define CLONE_NEWCGROUP 0x02000000ULL
#define CLONE_NEWUSER 0x10000000ULL
#define NAMESPACES 0x7e020080ULL /* CLONE_NEWTIME, NEWNS, NEWCGROUP, ..., NEWNET */

struct clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal;
	uint64_t stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* <linux/mount.h>, <linux/fcntl.h>, <linux/openat2.h> */
#define AT_RECURSIVE 0x8000
#define OPEN_TREE_CLONE 1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#define MOVE_MOUNT_F_EMPTY_PATH 0x04
#define MOVE_MOUNT_T_EMPTY_PATH 0x40
#define FSOPEN_CLOEXEC 1
#define FSMOUNT_CLOEXEC 1
#define FSCONFIG_SET_FLAG 0
#define FSCONFIG_SET_STRING 1
#define FSCONFIG_CMD_CREATE 6
#define MNT_DETACH 2
#define MOUNT_ATTR_RDONLY 0x01
#define MOUNT_ATTR_IDMAP 0x100000
#define MS_PRIVATE 0x40000
#define MOUNT_ATTR_COMMON 0x0f /* read-only, nosuid, nodev, noexec: f_flags has the same bits */
#define RESOLVE_NO_XDEV 0x01
#define RESOLVE_NO_MAGICLINKS 0x02
#define RESOLVE_NO_SYMLINKS 0x04
#define RESOLVE_BENEATH 0x08
#define RESOLVE_IN_ROOT 0x10

/* struct open_how: that name is in fcntl.h since glibc 2.43 */
struct how_to_open {
	uint64_t flags, mode, resolve;
};

/* <linux/stat.h>: the fields of struct statx and their bits; stx_mnt_id is of Linux 5.8 */
enum {
	WANT_TYPE_MODE_OWNER = 0x1b,
	WANT_INO = 0x100,
	WANT_MNT_ID = 0x1000,
};

struct statx_result {
	uint64_t before[2];
	uint32_t nlink, uid, gid;
	uint16_t mode, pad;
	uint64_t ino, between[11];
	uint32_t rdev_major, rdev_minor;
	uint64_t dev, mnt_id, after[13];
};

struct mount_attr {
	uint64_t attr_set, attr_clr, propagation, userns_fd;
};

/* <linux/prctl.h> */
#define PR_SCHED_CORE 62
#define PR_SCHED_CORE_CREATE 1

/* <linux/landlock.h> */
enum {
	LANDLOCK_PATH = 1, /* LANDLOCK_RULE_PATH_BENEATH */
	LANDLOCK_PORT = 2, /* LANDLOCK_RULE_NET_PORT */
};

struct landlock_path {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

struct landlock_port {
	uint64_t allowed, port;
};

#if defined(__x86_64__) && !defined(__ILP32__)
#define FAULT "ud2"
static inline long raw_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

/*
 * Returns the pid or -errno in the parent. The child runs function(argument) on
 * the stack that args names and must not return: the frame it would return into is the parent's.
 */
static inline long clone3_call(struct clone_args *args, void (*function)(void *), void *argument)
{
	long result;
	register void (*r8)(void *) __asm__("r8") = function;
	register void *r9 __asm__("r9") = argument;
	__asm__ volatile("syscall\n\t"
			 "testq %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xorl %%ebp, %%ebp\n\t" /* ends a debugger's backtrace */
			 "movq %%r9, %%rdi\n\t"
			 "callq *%%r8\n\t" FAULT "\n"
			 "1:"
			 : "=a"(result)
			 : "a"((long)NR_CLONE3), "D"(args), "S"(sizeof(*args)), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
#define FAULT "brk #1"
static inline long raw_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}

static inline long clone3_call(struct clone_args *args, void (*function)(void *), void *argument)
{
	register long x8 __asm__("x8") = NR_CLONE3;
	register long x0 __asm__("x0") = (long)args;
	register long x1 __asm__("x1") = sizeof(*args);
	register void (*x2)(void *) __asm__("x2") = function;
	register void *x3 __asm__("x3") = argument;
	__asm__ volatile("svc #0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, #0\n\t" /* ends a debugger's backtrace */
			 "mov x30, #0\n\t"
			 "mov x0, x3\n\t"
			 "blr x2\n\t" FAULT "\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3)
			 : "memory");
	return x0;
}
#else
#error "pyns: no system call assembly for this architecture (x86_64 and aarch64 are there)"
#endif

#define RAW(number, a, b, c, d, e)                                                                 \
	raw_syscall(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

static inline void *sys_mmap(size_t size, int protection, int flags)
{
	return (void *)raw_syscall(SYS_mmap, 0, (long)size, protection, flags, -1, 0);
}

static inline void *sys_mmap_file(int fd, size_t size)
{
	return (void *)raw_syscall(SYS_mmap, 0, (long)size, PROT_READ, MAP_PRIVATE | MAP_POPULATE,
				   fd, 0);
}

static inline int sys_mprotect(void *start, size_t size, int protection)
{
	return (int)RAW(SYS_mprotect, start, size, protection, 0, 0);
}

static inline int sys_munmap(void *start, size_t size)
{
	return (int)RAW(SYS_munmap, start, size, 0, 0, 0);
}

static inline int sys_rt_sigprocmask(int how, const uint64_t *set, uint64_t *old)
{
	return (int)RAW(SYS_rt_sigprocmask, how, set, old, sizeof(uint64_t), 0);
}

static inline int sys_prctl(int option, unsigned long argument)
{
	return (int)RAW(SYS_prctl, option, argument, 0, 0, 0);
}

static inline int sys_wait4(int pid, int *status, int options)
{
	return (int)RAW(SYS_wait4, pid, status, options, 0, 0);
}

/*
 * A filter of system calls may refuse the one, and the other; nobody can refuse a fault. Inline, as AddressSanitizer has
 * calls of its own before one that does not return.
 */
_Noreturn static inline __attribute__((always_inline)) void sys_exit_group(int status)
{
	for (;;) {
		RAW(SYS_exit_group, status, 0, 0, 0, 0);
		RAW(SYS_exit, status, 0, 0, 0, 0);
		__asm__ volatile(FAULT);
	}
}

static inline int sys_close(int fd)
{
	return (int)RAW(SYS_close, fd, 0, 0, 0, 0);
}

static inline int sys_close_range(unsigned int first, unsigned int last)
{
	return (int)RAW(NR_CLOSE_RANGE, first, last, 0, 0, 0);
}

static inline long sys_write(int fd, const void *data, size_t size)
{
	return RAW(SYS_write, fd, data, size, 0, 0);
}

static inline long sys_lseek(int fd, long offset, int whence)
{
	return RAW(SYS_lseek, fd, offset, whence, 0, 0);
}

static inline int sys_dup3(int old, int new, int flags)
{
	return (int)RAW(SYS_dup3, old, new, flags, 0, 0);
}

static inline int sys_fcntl(int fd, int command, long argument)
{
	return (int)RAW(SYS_fcntl, fd, command, argument, 0, 0);
}

static inline int sys_openat(int directory, const char *path, int flags)
{
	return (int)RAW(SYS_openat, directory, path, flags, 0, 0);
}

static inline int sys_openat2(int directory, const char *path, uint64_t flags, uint64_t resolve)
{
	struct how_to_open how = {.flags = flags, .resolve = resolve};

	return (int)RAW(NR_OPENAT2, directory, path, &how, sizeof(how), 0);
}

/* A new file, beneath the directory and through no link. */
static inline int sys_create(int directory, const char *path, uint64_t mode)
{
	struct how_to_open how = {
	    .flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
	    .mode = mode,
	    .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS,
	};

	return (int)RAW(NR_OPENAT2, directory, path, &how, sizeof(how), 0);
}

static inline int sys_statx(int fd, struct statx_result *ret_result)
{
	return (int)RAW(SYS_statx, fd, "", AT_EMPTY_PATH,
			WANT_TYPE_MODE_OWNER | WANT_INO | WANT_MNT_ID, ret_result);
}

static inline int sys_mkdirat(int directory, const char *path, unsigned int mode)
{
	return (int)RAW(SYS_mkdirat, directory, path, mode, 0, 0);
}

static inline int sys_mknodat(int directory, const char *path, unsigned int mode)
{
	return (int)RAW(SYS_mknodat, directory, path, mode, 0, 0);
}

static inline int sys_symlinkat(const char *text, int directory, const char *path)
{
	return (int)RAW(SYS_symlinkat, text, directory, path, 0, 0);
}

static inline long sys_readlinkat(int directory, const char *path, char *buffer, size_t size)
{
	return RAW(SYS_readlinkat, directory, path, buffer, size, 0);
}

static inline int sys_fchmod(int fd, uint64_t mode)
{
	return (int)RAW(SYS_fchmod, fd, mode, 0, 0, 0);
}

static inline int sys_fchown(int fd, uint32_t uid, uint32_t gid)
{
	return (int)RAW(SYS_fchown, fd, uid, gid, 0, 0);
}

static inline int sys_fstatfs(int fd, struct statfs *ret_result)
{
	return (int)RAW(SYS_fstatfs, fd, ret_result, 0, 0, 0);
}

static inline unsigned int sys_umask(unsigned int mask)
{
	return (unsigned int)RAW(SYS_umask, mask, 0, 0, 0, 0);
}

static inline int sys_chdir(const char *path)
{
	return (int)RAW(SYS_chdir, path, 0, 0, 0, 0);
}

static inline int sys_fchdir(int fd)
{
	return (int)RAW(SYS_fchdir, fd, 0, 0, 0, 0);
}

static inline int sys_getcwd(char *buffer, size_t size)
{
	return (int)RAW(SYS_getcwd, buffer, size, 0, 0, 0);
}

static inline int sys_unshare(uint64_t flags)
{
	return (int)RAW(SYS_unshare, flags, 0, 0, 0, 0);
}

static inline int sys_setns(int fd, uint64_t flags)
{
	return (int)RAW(SYS_setns, fd, flags, 0, 0, 0);
}

static inline int sys_pidfd_open(int pid)
{
	return (int)RAW(NR_PIDFD_OPEN, pid, 0, 0, 0, 0);
}

static inline int sys_sethostname(const char *name, size_t size)
{
	return (int)RAW(SYS_sethostname, name, size, 0, 0, 0);
}

static inline int sys_setdomainname(const char *name, size_t size)
{
	return (int)RAW(SYS_setdomainname, name, size, 0, 0, 0);
}

static inline int sys_mount(const char *source, const char *target, const char *fstype,
			    uint64_t flags, const void *data)
{
	return (int)RAW(SYS_mount, source, target, fstype, flags, data);
}

static inline int sys_umount2(const char *target, int flags)
{
	return (int)RAW(SYS_umount2, target, flags, 0, 0, 0);
}

static inline int sys_pivot_root(const char *new_root, const char *put_old)
{
	return (int)RAW(SYS_pivot_root, new_root, put_old, 0, 0, 0);
}

static inline int sys_open_tree(int directory, const char *path, unsigned int flags)
{
	return (int)RAW(NR_OPEN_TREE, directory, path, flags, 0, 0);
}

static inline int sys_move_mount(int from, const char *from_path, int to, const char *to_path,
				 unsigned int flags)
{
	return (int)RAW(NR_MOVE_MOUNT, from, from_path, to, to_path, flags);
}

static inline int sys_mount_setattr(int directory, const char *path, unsigned int flags,
				    const struct mount_attr *attributes)
{
	return (int)RAW(NR_MOUNT_SETATTR, directory, path, flags, attributes, sizeof(*attributes));
}

static inline int sys_fsopen(const char *fstype, unsigned int flags)
{
	return (int)RAW(NR_FSOPEN, fstype, flags, 0, 0, 0);
}

static inline int sys_fsconfig(int fd, unsigned int command, const char *key, const char *value)
{
	return (int)RAW(NR_FSCONFIG, fd, command, key, value, 0);
}

static inline int sys_fsmount(int fd, unsigned int flags, uint64_t attributes)
{
	return (int)RAW(NR_FSMOUNT, fd, flags, attributes, 0, 0);
}

static inline int sys_socket(int family, int type, int protocol)
{
	return (int)RAW(SYS_socket, family, type, protocol, 0, 0);
}

static inline int sys_ioctl(int fd, unsigned long request, void *argument)
{
	return (int)RAW(SYS_ioctl, fd, request, argument, 0, 0);
}

static inline int sys_sendmsg(int fd, const void *message)
{
	return (int)RAW(SYS_sendmsg, fd, message, 0, 0, 0);
}

/* The kernel's struct sigaction has at most 32 bytes. */
static inline int sys_rt_sigaction(int signal, const void *action, void *old)
{
	return (int)RAW(SYS_rt_sigaction, signal, action, old, sizeof(uint64_t), 0);
}

static inline int sys_rt_sigwaitinfo(const uint64_t *set, void *ret_info)
{
	return (int)RAW(SYS_rt_sigtimedwait, set, ret_info, NULL, sizeof(uint64_t), 0);
}

static inline int sys_kill(int pid, int signal)
{
	return (int)RAW(SYS_kill, pid, signal, 0, 0, 0);
}

static inline int sys_futex_wait(const void *word, uint32_t value, const struct timespec *timeout)
{
	return (int)RAW(SYS_futex, word, FUTEX_WAIT, value, timeout, 0);
}

static inline int sys_futex_wake(const void *word)
{
	return (int)RAW(SYS_futex, word, FUTEX_WAKE, INT_MAX, 0, 0);
}

static inline int sys_clock_gettime(int clock, struct timespec *ret_time)
{
	return (int)RAW(SYS_clock_gettime, clock, ret_time, 0, 0, 0);
}

static inline int sys_setsid(void)
{
	return (int)RAW(SYS_setsid, 0, 0, 0, 0, 0);
}

static inline int sys_setpgid(int pid, int pgid)
{
	return (int)RAW(SYS_setpgid, pid, pgid, 0, 0, 0);
}

static inline int sys_setgroups(size_t count, const void *groups)
{
	return (int)RAW(SYS_setgroups, count, groups, 0, 0, 0);
}

static inline int sys_setresgid(uint32_t gid)
{
	return (int)RAW(SYS_setresgid, gid, gid, gid, 0, 0);
}

static inline int sys_setresuid(uint32_t uid)
{
	return (int)RAW(SYS_setresuid, uid, uid, uid, 0, 0);
}

static inline int sys_prctl_ambient(unsigned long operation, unsigned long capability)
{
	return (int)RAW(SYS_prctl, PR_CAP_AMBIENT, operation, capability, 0, 0);
}

static inline int sys_capset(const void *header, const void *data)
{
	return (int)RAW(SYS_capset, header, data, 0, 0, 0);
}

static inline int sys_seccomp(unsigned int operation, unsigned int flags, const void *argument)
{
	return (int)RAW(SYS_seccomp, operation, flags, argument, 0, 0);
}

static inline int sys_keyctl(int operation, const char *name)
{
	return (int)RAW(SYS_keyctl, operation, name, 0, 0, 0);
}

static inline int sys_setpriority(int which, int who, int nice)
{
	return (int)RAW(SYS_setpriority, which, who, nice, 0, 0);
}

static inline int sys_sched_setaffinity(int pid, size_t size, const void *mask)
{
	return (int)RAW(SYS_sched_setaffinity, pid, size, mask, 0, 0);
}

static inline int sys_landlock_create_ruleset(const void *attributes, size_t size)
{
	return (int)RAW(NR_LANDLOCK_CREATE_RULESET, attributes, size, 0, 0, 0);
}

static inline int sys_landlock_add_rule(int ruleset, int type, const void *rule)
{
	return (int)RAW(NR_LANDLOCK_ADD_RULE, ruleset, type, rule, 0, 0);
}

static inline int sys_landlock_restrict_self(int ruleset)
{
	return (int)RAW(NR_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0, 0, 0);
}

static inline int sys_prlimit64(int pid, unsigned int resource, const void *limit, void *old)
{
	return (int)RAW(SYS_prlimit64, pid, resource, limit, old, 0);
}

static inline int sys_ppoll(void *fds, unsigned int count, const void *timeout)
{
	return (int)RAW(SYS_ppoll, fds, count, timeout, NULL, 0);
}

static inline int sys_execve(const char *path, char *const *arguments, char *const *environment)
{
	return (int)RAW(SYS_execve, path, arguments, environment, 0, 0);
}

static inline int sys_execveat(int fd, char *const *arguments, char *const *environment)
{
	return (int)RAW(SYS_execveat, fd, "", arguments, environment, AT_EMPTY_PATH);
}

#endif
