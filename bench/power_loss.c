/* Owns the record of what a process asks of the disk: every write, and when each sync began and had ended.
 *
 * Preloaded by bench/power_loss.py: LD_PRELOAD names it, POWER_FOLDER the folder to watch, POWER_TRACE the record.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct head { uint8_t op; uint8_t zero[3]; uint32_t path, data; uint64_t at_ns, offset; } __attribute__((packed));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static const char *folder;
static ssize_t (*real_write)(int, const void *, size_t);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("POWER_TRACE");
    folder = getenv("POWER_FOLDER");
    real_write = dlsym(RTLD_NEXT, "write");
    if (path && folder) trace = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static int watched(int fd, char *path) {
    char name[64];
    if (trace < 0) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, 4095);
    if (length <= 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

static void note(char op, const char *path, uint64_t offset, const void *data, uint32_t length) {
    struct timespec now;
    pthread_mutex_lock(&lock);
    clock_gettime(CLOCK_REALTIME, &now);
    struct head head = {op, {0}, strlen(path), length, now.tv_sec * 1000000000ull + now.tv_nsec, offset};
    if (real_write(trace, &head, sizeof head) < 0 || real_write(trace, path, head.path) < 0 ||
        (length && real_write(trace, data, length) < 0)) abort();
    pthread_mutex_unlock(&lock);
}

#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    char path[4096];
    if (watched(fd, path)) note('w', path, offset, data, length);
    return REAL(pwrite64, fd, data, length, offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    char path[4096];
    if (watched(fd, path)) note('w', path, offset, data, length);
    return REAL(pwrite, fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    char path[4096];
    if (watched(fd, path)) {
        struct stat of;
        int append = fcntl(fd, F_GETFL) & O_APPEND;
        uint64_t offset = append && !fstat(fd, &of) ? (uint64_t)of.st_size : (uint64_t)lseek(fd, 0, SEEK_CUR);
        note('w', path, offset, data, length);
    }
    return real_write(fd, data, length);
}

int ftruncate64(int fd, off64_t length) {
    char path[4096];
    if (watched(fd, path)) note('t', path, length, NULL, 0);
    return REAL(ftruncate64, fd, length);
}

int ftruncate(int fd, off_t length) {
    char path[4096];
    if (watched(fd, path)) note('t', path, length, NULL, 0);
    return REAL(ftruncate, fd, length);
}

int unlink(const char *path) {
    if (trace >= 0 && strncmp(path, folder, strlen(folder)) == 0) note('u', path, 0, NULL, 0);
    return REAL(unlink, path);
}

#define SYNC(name)                                      \
    int name(int fd) {                                  \
        char path[4096];                                \
        int seen = watched(fd, path);                   \
        if (seen) note('b', path, 0, NULL, 0);          \
        int result = REAL(name, fd);                    \
        if (seen && !result) note('e', path, 0, NULL, 0); \
        return result;                                  \
    }
SYNC(fsync)
SYNC(fdatasync)
