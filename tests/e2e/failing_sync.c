// Preloaded into a daemon under test: syncs fail with EIO while the file named by TOKENWORKS_FAIL_SYNC exists, as they do
// over a disk that reports write errors. Everything else goes through.
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int failing(void) {
  const char* flag = getenv("TOKENWORKS_FAIL_SYNC");
  return flag != NULL && access(flag, F_OK) == 0;
}

int fdatasync(int file) {
  if (failing()) return errno = EIO, -1;
  return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
  if (failing()) return errno = EIO, -1;
  return (int)syscall(SYS_fsync, file);
}
