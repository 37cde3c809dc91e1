/* Counts the I/O calls that a process makes below some folders, and at the n-th kills the process or fails the call.

   Loaded with LD_PRELOAD; it does nothing until `fault_arm` is called. A call counts if its path, or the path behind
   its descriptor, lies below one of the roots. glibc's stdio writes without going through `write`, so `fwrite`, `fread`,
   `fflush` and `fclose` count by themselves. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define TRACED (1 << 16)

/* What happens at the n-th call. The same numbers are in shim.py. */
enum { COUNT, KILL, TORN, FAIL, FULL, SHORT };

static volatile int armed;
static int mode, injected;
static long at;
static volatile long counted, fired;
static char roots[4][PATH_MAX];
static int known;
static char trace[TRACED + 1];

PUBLIC void fault_arm(const char *places, int what, long number, int error) {
    known = 0;
    char *end;
    for (const char *start = places; *start && known < 4; start = *end ? end + 1 : end) {
        end = strchrnul(start, '\n');
        snprintf(roots[known++], PATH_MAX, "%.*s", (int)(end - start), start);
    }
    mode = what, at = number, injected = error, counted = fired = 0;
    memset(trace, 0, sizeof trace);
    __sync_synchronize();
    armed = 1;
}

PUBLIC void fault_disarm(void) { armed = 0; }
PUBLIC long fault_counted(void) { return counted; }
PUBLIC long fault_fired(void) { return fired; }
PUBLIC const char *fault_trace(void) { return trace; }

static int below(const char *path) {
    for (int i = 0; i < known; i++) {
        size_t length = strlen(roots[i]);
        if (strncmp(path, roots[i], length) == 0 && (path[length] == '/' || path[length] == 0)) return 1;
    }
    return 0;
}

static int link_below(const char *link, const char *rest) {
    char path[2 * PATH_MAX];
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (rest) snprintf(path + length, PATH_MAX, "/%s", rest);
    return below(path);
}

static int descriptor_below(int descriptor) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    return link_below(link, NULL);
}

static int path_below(int folder, const char *path) {
    if (!path) return 0;
    if (*path == '/') return below(path);
    if (folder == AT_FDCWD) return link_below("/proc/self/cwd", path);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    return link_below(link, path);
}

/* Counts one call. Returns 0 to go on, 1 to fail it with errno set, 2 to do half of it. `takes` says that the call
   takes room on the disk, so that a full one refuses it. */
static int hit(char letter, int takes) {
    long number = __sync_add_and_fetch(&counted, 1);
    if (number <= TRACED) trace[number - 1] = letter;
    if (mode == COUNT || number < at) return 0;
    if (mode == FULL) {
        if (!takes) return 0;
        fired = 1;
        errno = injected;
        return 1;
    }
    if (number > at) return 0;
    fired = 1;
    if (mode == TORN && letter == 'w') return 2;
    if (mode == SHORT) return letter == 'w' ? 2 : 0;
    if (mode == FAIL) {
        errno = injected;
        return 1;
    }
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    return 1;
}

static void torn(void) {
    if (mode == TORN) syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define ON_PATH(folder, path, letter, takes) \
    if (armed && path_below(folder, path) && hit(letter, takes) == 1) return -1
#define ON_DESCRIPTOR(descriptor, letter, takes) \
    if (armed && descriptor_below(descriptor) && hit(letter, takes) == 1) return -1

/* Opening: letters o (to read), c (to write or make). */

#define OPENED(folder, path) \
    mode_t permissions = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        permissions = va_arg(rest, mode_t); \
        va_end(rest); \
    } \
    int writes = flags & (O_CREAT | O_WRONLY | O_RDWR); \
    ON_PATH(folder, path, writes ? 'c' : 'o', flags &O_CREAT)

PUBLIC int open(const char *path, int flags, ...) {
    REAL(open);
    OPENED(AT_FDCWD, path);
    return real(path, flags, permissions);
}
PUBLIC int open64(const char *path, int flags, ...) {
    REAL(open64);
    OPENED(AT_FDCWD, path);
    return real(path, flags, permissions);
}
PUBLIC int openat(int folder, const char *path, int flags, ...) {
    REAL(openat);
    OPENED(folder, path);
    return real(folder, path, flags, permissions);
}
PUBLIC int openat64(int folder, const char *path, int flags, ...) {
    REAL(openat64);
    OPENED(folder, path);
    return real(folder, path, flags, permissions);
}
PUBLIC int creat(const char *path, mode_t permissions) {
    REAL(creat);
    ON_PATH(AT_FDCWD, path, 'c', 1);
    return real(path, permissions);
}
#define OPENS_STREAM(name) \
    PUBLIC FILE *name(const char *path, const char *how) { \
        REAL(name); \
        int writes = strpbrk(how, "wa+") != NULL; \
        if (armed && path_below(AT_FDCWD, path) && hit(writes ? 'c' : 'o', writes) == 1) return NULL; \
        return real(path, how); \
    }
OPENS_STREAM(fopen)
OPENS_STREAM(fopen64)

/* Writing: w. A torn or short call does half of what was asked for. */

#define HALF(descriptor, whole, half) \
    if (armed && descriptor_below(descriptor)) { \
        int what = hit('w', 1); \
        if (what == 1) return -1; \
        if (what == 2) { \
            ssize_t done = half; \
            torn(); \
            return done; \
        } \
    } \
    return whole

PUBLIC ssize_t write(int descriptor, const void *bytes, size_t count) {
    REAL(write);
    HALF(descriptor, real(descriptor, bytes, count), real(descriptor, bytes, (count + 1) / 2));
}
PUBLIC ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    REAL(pwrite);
    HALF(descriptor, real(descriptor, bytes, count, offset), real(descriptor, bytes, (count + 1) / 2, offset));
}
PUBLIC ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t offset) {
    REAL(pwrite64);
    HALF(descriptor, real(descriptor, bytes, count, offset), real(descriptor, bytes, (count + 1) / 2, offset));
}
PUBLIC ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(writev);
    HALF(descriptor, real(descriptor, parts, count), real(descriptor, parts, 1));
}
PUBLIC size_t fwrite(const void *bytes, size_t size, size_t count, FILE *file) {
    REAL(fwrite);
    if (armed && descriptor_below(fileno(file))) {
        int what = hit('w', 1);
        if (what == 1) return 0;
        if (what == 2) {
            size_t done = real(bytes, size, count / 2, file);
            if (mode == TORN) fflush(file);
            torn();
            errno = ENOSPC; /* a short fwrite is always an error */
            return done;
        }
    }
    return real(bytes, size, count, file);
}
PUBLIC int fflush(FILE *file) {
    REAL(fflush);
    if (armed && file && descriptor_below(fileno(file)) && hit('f', 1) == 1) return EOF;
    return real(file);
}
PUBLIC int fclose(FILE *file) {
    REAL(fclose);
    int failed = armed && file && descriptor_below(fileno(file)) && hit('f', 1) == 1;
    int error = errno, done = real(file);
    if (!failed) return done;
    errno = error;
    return EOF;
}

/* Reading: r. */

PUBLIC ssize_t read(int descriptor, void *bytes, size_t count) {
    REAL(read);
    ON_DESCRIPTOR(descriptor, 'r', 0);
    return real(descriptor, bytes, count);
}
PUBLIC ssize_t pread(int descriptor, void *bytes, size_t count, off_t offset) {
    REAL(pread);
    ON_DESCRIPTOR(descriptor, 'r', 0);
    return real(descriptor, bytes, count, offset);
}
PUBLIC ssize_t pread64(int descriptor, void *bytes, size_t count, off64_t offset) {
    REAL(pread64);
    ON_DESCRIPTOR(descriptor, 'r', 0);
    return real(descriptor, bytes, count, offset);
}
PUBLIC size_t fread(void *bytes, size_t size, size_t count, FILE *file) {
    REAL(fread);
    if (armed && descriptor_below(fileno(file)) && hit('r', 0) == 1) return 0;
    return real(bytes, size, count, file);
}
PUBLIC void *mmap(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
    REAL(mmap);
    if (armed && descriptor >= 0 && descriptor_below(descriptor) && hit('m', 0) == 1) return MAP_FAILED;
    return real(address, length, protection, flags, descriptor, offset);
}
PUBLIC void *mmap64(void *address, size_t length, int protection, int flags, int descriptor, off64_t offset) {
    REAL(mmap64);
    if (armed && descriptor >= 0 && descriptor_below(descriptor) && hit('m', 0) == 1) return MAP_FAILED;
    return real(address, length, protection, flags, descriptor, offset);
}

/* Syncing s, sizes t, names n, removing u, folders d, permissions p, locks l. */

PUBLIC int fsync(int descriptor) {
    REAL(fsync);
    ON_DESCRIPTOR(descriptor, 's', 0);
    return real(descriptor);
}
PUBLIC int fdatasync(int descriptor) {
    REAL(fdatasync);
    ON_DESCRIPTOR(descriptor, 's', 0);
    return real(descriptor);
}
PUBLIC int ftruncate(int descriptor, off_t length) {
    REAL(ftruncate);
    ON_DESCRIPTOR(descriptor, 't', 0);
    return real(descriptor, length);
}
PUBLIC int ftruncate64(int descriptor, off64_t length) {
    REAL(ftruncate64);
    ON_DESCRIPTOR(descriptor, 't', 0);
    return real(descriptor, length);
}
PUBLIC int fallocate(int descriptor, int how, off_t offset, off_t length) {
    REAL(fallocate);
    ON_DESCRIPTOR(descriptor, 't', 1);
    return real(descriptor, how, offset, length);
}
PUBLIC int fallocate64(int descriptor, int how, off64_t offset, off64_t length) {
    REAL(fallocate64);
    ON_DESCRIPTOR(descriptor, 't', 1);
    return real(descriptor, how, offset, length);
}
PUBLIC int rename(const char *from, const char *to) {
    REAL(rename);
    ON_PATH(AT_FDCWD, to, 'n', 0);
    return real(from, to);
}
PUBLIC int renameat(int source, const char *from, int target, const char *to) {
    REAL(renameat);
    ON_PATH(target, to, 'n', 0);
    return real(source, from, target, to);
}
PUBLIC int renameat2(int source, const char *from, int target, const char *to, unsigned flags) {
    REAL(renameat2);
    ON_PATH(target, to, 'n', 0);
    return real(source, from, target, to, flags);
}
PUBLIC int link(const char *from, const char *to) {
    REAL(link);
    ON_PATH(AT_FDCWD, to, 'n', 1);
    return real(from, to);
}
PUBLIC int symlink(const char *from, const char *to) {
    REAL(symlink);
    ON_PATH(AT_FDCWD, to, 'n', 1);
    return real(from, to);
}
PUBLIC int unlink(const char *path) {
    REAL(unlink);
    ON_PATH(AT_FDCWD, path, 'u', 0);
    return real(path);
}
PUBLIC int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    ON_PATH(folder, path, 'u', 0);
    return real(folder, path, flags);
}
PUBLIC int remove(const char *path) {
    REAL(remove);
    ON_PATH(AT_FDCWD, path, 'u', 0);
    return real(path);
}
PUBLIC int rmdir(const char *path) {
    REAL(rmdir);
    ON_PATH(AT_FDCWD, path, 'd', 0);
    return real(path);
}
PUBLIC int mkdir(const char *path, mode_t permissions) {
    REAL(mkdir);
    ON_PATH(AT_FDCWD, path, 'd', 1);
    return real(path, permissions);
}
PUBLIC int mkdirat(int folder, const char *path, mode_t permissions) {
    REAL(mkdirat);
    ON_PATH(folder, path, 'd', 1);
    return real(folder, path, permissions);
}
PUBLIC int chmod(const char *path, mode_t permissions) {
    REAL(chmod);
    ON_PATH(AT_FDCWD, path, 'p', 0);
    return real(path, permissions);
}
PUBLIC int fchmod(int descriptor, mode_t permissions) {
    REAL(fchmod);
    ON_DESCRIPTOR(descriptor, 'p', 0);
    return real(descriptor, permissions);
}
PUBLIC int flock(int descriptor, int operation) {
    extern int flock(int, int);
    REAL(flock);
    ON_DESCRIPTOR(descriptor, 'l', 0);
    return real(descriptor, operation);
}
PUBLIC ssize_t sendfile(int to, int from, off_t *offset, size_t count) {
    static ssize_t (*real)(int, int, off_t *, size_t);
    if (!real) real = (ssize_t(*)(int, int, off_t *, size_t))dlsym(RTLD_NEXT, "sendfile");
    HALF(to, real(to, from, offset, count), real(to, from, offset, (count + 1) / 2));
}
PUBLIC ssize_t sendfile64(int to, int from, off64_t *offset, size_t count) {
    static ssize_t (*real)(int, int, off64_t *, size_t);
    if (!real) real = (ssize_t(*)(int, int, off64_t *, size_t))dlsym(RTLD_NEXT, "sendfile64");
    HALF(to, real(to, from, offset, count), real(to, from, offset, (count + 1) / 2));
}

/* The network, armed or not: a connection to anything but a local socket is refused, and noted in $FAULT_CONNECTED. */

PUBLIC int connect(int descriptor, const struct sockaddr *address, socklen_t length) {
    REAL(connect);
    if (address && address->sa_family != AF_UNIX) {
        const char *log = getenv("FAULT_CONNECTED");
        int file = log ? syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
        if (file >= 0) {
            syscall(SYS_write, file, "connect\n", 8);
            syscall(SYS_close, file);
        }
        errno = ENETUNREACH;
        return -1;
    }
    return real(descriptor, address, length);
}
