// What the cores of attention's backward share: items of work, and the rows that read a key.
#pragma once
#include "attention.cuh"

namespace attention {

struct QueryItem {
  uint32_t row, queries; // packed rows
  uint32_t start;        // position of the first query
  uint32_t end;          // positions of the whole span
  uint32_t map;          // where the span's keys begin in `map`
};
struct KeyItem {
  uint32_t row, keys;   // packed rows
  uint32_t start;       // position of the first key
  uint32_t first, last; // readers
};
struct Reader {
  uint32_t row, queries; // packed rows
  uint32_t start;        // position of the first query
};
struct BackwardArgs {
  const bf16 *dout, *q, *k, *v, *out;
  const float* lse;
  float4* statistics; // [N, H]: -lse in powers of 2, Σ dout out, two zeros
  bf16 *dq, *dk, *dv;
  const QueryItem* query_items;
  const KeyItem* key_items;
  const Reader* readers;
  const uint32_t* map;
  int32_t rows; // N H
  int32_t heads, kv_heads;
  float scale;
};
static_assert(sizeof(QueryItem) == 20 && sizeof(KeyItem) == 20 && sizeof(Reader) == 12);
static_assert(sizeof(BackwardArgs) == 128 && offsetof(BackwardArgs, rows) == 112);

// The tiles of ROWS rows that read a tile of keys, ascending.
template <int ROWS> struct Steps {
  const Reader* readers;
  uint32_t first_key, next, last;
  int group;
  Reader reader;
  uint32_t from; // first query of the tile, counted from the reader's first

  DEV Steps(const BackwardArgs& args, const KeyItem& item, int group)
      : readers(args.readers), first_key(item.start), next(item.first), last(item.last), group(group), reader{}, from(0) {
    open();
  }
  DEV uint32_t step() const { return ROWS / group; }
  DEV bool any() const { return from < reader.queries; }
  // Goes to the next reader's first tile that sees a key.
  DEV void open() {
    while (!any() && next < last) {
      reader = readers[next++];
      from = first_key > reader.start ? (first_key - reader.start) / step() * step() : 0;
    }
  }
  DEV void advance() {
    from += step();
    open();
  }
  DEV TileRows rows(int heads, int first_head) const {
    const uint32_t queries = min(step(), reader.queries - from);
    return {(int)(reader.row + from), (int)queries * group, heads, first_head, group};
  }
  DEV int start() const { return reader.start + from; }
};

} // namespace attention
