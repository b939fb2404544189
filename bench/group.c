/*
 * The floor of making and removing a cgroup: a mkdir in each hierarchy, a write for each limit, an
 * rmdir in each. The lists end with NULL; files and values go together.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int put(const char *file, const char *value)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* Returns 0 or -errno; what was made is removed either way. */
int make_and_remove(const char *const *directories, const char *const *files,
		    const char *const *values)
{
	int made = 0, r = 0;

	while (directories[made] != NULL && r == 0) {
		if (mkdir(directories[made], 0755) < 0)
			r = -errno;
		else
			made++;
	}
	for (int i = 0; files[i] != NULL && r == 0; i++)
		r = put(files[i], values[i]);
	for (int i = made - 1; i >= 0; i--)
		if (rmdir(directories[i]) < 0 && r == 0)
			r = -errno;
	return r;
}
