// A CUDA driver without a GPU, for what a program says when a real one fails. FAKE_CUDA names what is wrong: nothing_there, old_driver,
// old_gpu, full (no memory), lost (every copy to it fails), ecc (every launch fails). Memory is the host's; launches do nothing.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long address;
enum { FINE = 0, OUT_OF_MEMORY = 2, NO_DEVICE = 100, ECC = 214, LOST = 719 };

static int is(const char *fault) {
    const char *asked = getenv("FAKE_CUDA");
    return asked && strcmp(asked, fault) == 0;
}

int cuInit(unsigned flags) { return flags || is("nothing_there") ? NO_DEVICE : FINE; }
int cuDriverGetVersion(int *version) { return *version = is("old_driver") ? 12040 : 13000, FINE; }
int cuDeviceGetCount(int *count) { return *count = 1, FINE; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, FINE; }
int cuDeviceGetName(char *name, int room, int device) { return snprintf(name, room, "Fake GPU %d", device), FINE; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    int major = attribute == 75;
    if (attribute == 16) return *value = 132, FINE; // multiprocessors
    return *value = is("old_gpu") ? (major ? 7 : 5) : (major ? 9 : 0), FINE;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = &cuInit, (void)device, FINE; }
int cuCtxSetCurrent(void *context) { return (void)context, FINE; }
int cuStreamCreate(void **stream, unsigned flags) { return *stream = &cuInit, (void)flags, FINE; }
int cuStreamSynchronize(void *stream) { return (void)stream, FINE; }

int cuMemGetInfo_v2(size_t *free, size_t *all) { return *free = 1 << 20, *all = 1 << 30, FINE; }
int cuMemAlloc_v2(address *at, size_t bytes) {
    *at = is("full") ? 0 : (address)aligned_alloc(256, (bytes + 255) / 256 * 256);
    return *at ? FINE : OUT_OF_MEMORY;
}
int cuMemFree_v2(address at) { return free((void *)at), FINE; }
int cuMemsetD8Async(address at, unsigned char value, size_t bytes, void *stream) {
    return memset((void *)at, value, bytes), (void)stream, FINE;
}
int cuMemcpyHtoDAsync_v2(address to, const void *from, size_t bytes, void *stream) {
    return memcpy((void *)to, from, bytes), (void)stream, is("lost") ? LOST : FINE;
}
int cuMemcpyDtoHAsync_v2(void *to, address from, size_t bytes, void *stream) {
    return memcpy(to, (void *)from, bytes), (void)stream, FINE;
}
int cuMemcpyDtoDAsync_v2(address to, address from, size_t bytes, void *stream) {
    return memcpy((void *)to, (void *)from, bytes), (void)stream, FINE;
}

int cuModuleLoadData(void **module, const void *image) { return *module = (void *)image, FINE; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    return *function = module, (void)name, FINE;
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
    return (void)function, (void)attribute, (void)value, FINE;
}
int cuLaunchKernel(void *function) { return (void)function, is("ecc") ? ECC : FINE; }

int cuGetErrorName(int code, const char **name) {
    *name = code == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : code == ECC ? "CUDA_ERROR_ECC_UNCORRECTABLE"
          : code == LOST ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_OUT_OF_MEMORY";
    return FINE;
}
int cuGetErrorString(int code, const char **words) {
    *words = code == NO_DEVICE ? "no CUDA-capable device is detected" : code == ECC ? "uncorrectable ECC error encountered"
           : code == LOST ? "unspecified launch failure" : "out of memory";
    return FINE;
}
