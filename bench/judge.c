/*
 * The floor of a judge: a group with limits for one program, as group.c makes it, the program in it, as
 * limit.c starts it, and its end. The lists end with NULL.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "limit.h"

enum { HIERARCHIES = 16 };

int make_groups(const char *const *directories, const char *const *files,
		const char *const *values);
int remove_groups(const char *const *directories);
int start_and_wait(const struct request *request);

/* files, values: of limits; tasks: of v1; birth: directory of v2, or NULL. Returns a wait status or -errno. */
int judge(const struct request *request, const char *const *directories, const char *const *files,
	  const char *const *values, const char *const *tasks, const char *birth)
{
	struct request own = *request;
	int32_t fds[HIERARCHIES + 1];
	int count = 0, removed;
	int r = make_groups(directories, files, values);

	if (r < 0)
		return r;
	for (; tasks[count] != NULL && count < HIERARCHIES; count++)
		fds[count] = open(tasks[count], O_WRONLY | O_CLOEXEC);
	fds[count] = -1;
	own.tasks = fds;
	own.birth = birth == NULL ? -1 : open(birth, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = start_and_wait(&own);
	while (count > 0)
		close(fds[--count]);
	if (birth != NULL)
		close((int)own.birth);
	/* v1 lets a dying task go only after its parent was told */
	do
		removed = remove_groups(directories);
	while (removed == -EBUSY && usleep(1000) == 0);
	return removed < 0 ? removed : r;
}
