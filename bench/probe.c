/*
 * The program that the benchmarks start: returns 0. Given a path, it first writes
 * down there what it sees of its isolation, a line "name value" each.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_link(FILE *file, const char *name, const char *path)
{
	char target[256];
	ssize_t size = readlink(path, target, sizeof(target) - 1);

	if (size < 0)
		return -1;
	target[size] = '\0';
	return fprintf(file, "%s %s\n", name, target);
}

static int write_cgroups(FILE *file)
{
	FILE *cgroups = fopen("/proc/self/cgroup", "re");
	char line[4096];

	if (!cgroups)
		return -1;
	while (fgets(line, sizeof(line), cgroups))
		fprintf(file, "cgroup %s", line);
	return fclose(cgroups);
}

static int write_report(FILE *file)
{
	char hostname[65];
	struct stat root;

	if (gethostname(hostname, sizeof(hostname)) < 0 || stat("/", &root) < 0)
		return -1;
	fprintf(file, "hostname %s\nroot %lu\ngetpid %d\n", hostname, (unsigned long)root.st_ino,
		getpid());
	/* a /proc of another PID namespace has no self for us */
	if (write_link(file, "self", "/proc/self") < 0 ||
	    write_link(file, "mnt", "/proc/self/ns/mnt") < 0 ||
	    write_link(file, "uts", "/proc/self/ns/uts") < 0 ||
	    write_link(file, "ipc", "/proc/self/ns/ipc") < 0 ||
	    write_link(file, "pid", "/proc/self/ns/pid") < 0)
		return -1;
	return write_cgroups(file);
}

int main(int argc, char **argv)
{
	FILE *file;
	int r;

	if (argc < 2)
		return 0;
	file = fopen(argv[1], "we");
	if (!file)
		return 1;
	r = write_report(file);
	return fclose(file) == 0 && r >= 0 ? 0 : 1;
}
