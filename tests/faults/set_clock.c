/* LD_PRELOAD: the wall clock of a process as somebody sets it, while the clocks that count from the
   boot go on. The first eight bytes of the file FATEFRONT_TEST_CLOCK are how many seconds it is
   ahead; they may change at any time. Waits until a wall-clock time end when they would have ended
   (the kernel knows only its own clock). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t none, *ahead = &none;

__attribute__((constructor)) static void map_clock(void) {
    const char *path = getenv("FATEFRONT_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) ahead = page;
}

/* real functions are looked up when first used: some are called before any constructor */
#define REAL(name) \
    static typeof(&name) real; \
    if (!real) real = (typeof(&name))dlsym(RTLD_NEXT, #name)

static int is_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

static struct timespec of_kernel(const struct timespec *shown) {
    struct timespec t = *shown;
    t.tv_sec -= *ahead;
    if (t.tv_sec < 0) t.tv_sec = 0;
    return t;
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    long code = syscall(SYS_clock_gettime, clock, t);
    if (code == 0 && is_wall(clock)) t->tv_sec += *ahead;
    return (int)code;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *t = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *t, int base) {
    if (base != TIME_UTC) return 0;
    clock_gettime(CLOCK_REALTIME, t);
    return base;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *t, struct timespec *left) {
    REAL(clock_nanosleep);
    struct timespec end = *t;
    if (is_wall(clock) && (flags & TIMER_ABSTIME)) end = of_kernel(t);
    return real(clock, flags, &end, left);
}

/* which clock a condition waits by is not asked of it: seconds since the boot are few */
int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    struct timespec end = t->tv_sec > 1000000000 ? of_kernel(t) : *t;
    return real(c, m, &end);
}

int pthread_cond_clockwait(
    pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, const struct timespec *t
) {
    REAL(pthread_cond_clockwait);
    struct timespec end = is_wall(clock) ? of_kernel(t) : *t;
    return real(c, m, clock, &end);
}

int pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *t) {
    REAL(pthread_mutex_timedlock);
    struct timespec end = of_kernel(t);
    return real(m, &end);
}

int sem_timedwait(sem_t *s, const struct timespec *t) {
    REAL(sem_timedwait);
    struct timespec end = of_kernel(t);
    return real(s, &end);
}

int sem_clockwait(sem_t *s, clockid_t clock, const struct timespec *t) {
    REAL(sem_clockwait);
    struct timespec end = is_wall(clock) ? of_kernel(t) : *t;
    return real(s, clock, &end);
}

long syscall(long number, ...) {
    static long (*real)(long, ...);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    struct timespec end;
    if (number == SYS_futex && a[3] && (a[1] & FUTEX_CLOCK_REALTIME)) {
        end = of_kernel((const struct timespec *)a[3]);
        a[3] = (long)&end;
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
