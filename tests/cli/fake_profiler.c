// A profiler that takes ranges by NVTX's injection protocol, as a real one's library does, and writes them to $FAKE_PROFILER: a
// line a range as it begins, indented by how many are open. Compiled with -DNVTX_HEADERS against NVTX's own headers it checks
// that the types below are theirs.
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef void (*function)(void);
struct callbacks {
    size_t bytes;
    int (*table_of)(unsigned module, function ***table, unsigned *size);
};
struct version {
    size_t bytes;
    uint32_t version, reserved;
    void (*tool_is_of)(uint32_t);
};
enum { CALLBACKS = 1, VERSION = 3, CORE = 1, MODULES = 7, PUSH = 9, POP = 11 };

#ifdef NVTX_HEADERS
#include <nvtx3/nvToolsExt.h>
_Static_assert(sizeof(struct callbacks) == sizeof(NvtxExportTableCallbacks), "callbacks");
_Static_assert(offsetof(struct callbacks, table_of) == offsetof(NvtxExportTableCallbacks, GetModuleFunctionTable), "table_of");
_Static_assert(sizeof(struct version) == sizeof(NvtxExportTableVersionInfo), "version");
_Static_assert(offsetof(struct version, version) == offsetof(NvtxExportTableVersionInfo, version), "version");
_Static_assert(offsetof(struct version, tool_is_of) == offsetof(NvtxExportTableVersionInfo, SetInjectionNvtxVersion), "tool");
_Static_assert((int)CALLBACKS == (int)NVTX_ETID_CALLBACKS && (int)VERSION == (int)NVTX_ETID_VERSIONINFO, "export tables");
_Static_assert((int)CORE == (int)NVTX_CB_MODULE_CORE && (int)MODULES == (int)NVTX_CB_MODULE_SIZE, "modules");
_Static_assert((int)PUSH == (int)NVTX_CBID_CORE_RangePushA && (int)POP == (int)NVTX_CBID_CORE_RangePop, "callbacks");
#endif

static FILE *out;
static int open_ranges;

static int push(const char *name) {
    fprintf(out, "%*s%s\n", 2 * open_ranges, "", name);
    fflush(out);
    return open_ranges++;
}

static int pop(void) { return --open_ranges; }

int InitializeInjectionNvtx2(const void *(*export_table)(uint32_t)) {
    const struct version *version = export_table(VERSION);
    const struct callbacks *callbacks = export_table(CALLBACKS);
    if (!version || version->bytes < sizeof *version || version->version != 3) return 0;
    if (!callbacks || callbacks->bytes < sizeof *callbacks || export_table(99)) return 0;
    version->tool_is_of(3);
    for (unsigned module = CORE; module < MODULES; module++) {
        function **table = NULL;
        unsigned size = 0;
        if (!callbacks->table_of(module, &table, &size) || !table) return 0;
        for (unsigned id = 1; id < size; id++)
            if (!table[id]) return 0;
    }
    function **core;
    if (callbacks->table_of(MODULES, &core, NULL) || !callbacks->table_of(CORE, &core, NULL)) return 0;
    if (getenv("FAKE_DEAF")) return 1;
    out = fopen(getenv("FAKE_PROFILER"), "w");
    *core[PUSH] = (function)push;
    *core[POP] = (function)pop;
    return out != NULL;
}
