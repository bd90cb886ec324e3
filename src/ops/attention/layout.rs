//! Which block of a GPU takes which rows and keys: the lists that `kernels/attention_*.cu` describe.

use super::super::kv_append::BLOCK;
use super::{CHUNK, Source, Span};

/// What the launch of a forward pass goes by.
#[derive(Debug, Default)]
pub(super) struct Forward {
    /// `attention::Item`s, the longest first.
    pub(super) items: Vec<[u32; 9]>,
    /// Where keys lie.
    pub(super) map: Vec<u32>,
    /// Chunks that pass through memory, and counters for them.
    pub(super) slots: usize,
}

/// What the launches of a backward pass go by.
#[derive(Debug, Default)]
pub(super) struct Backward {
    /// `attention::QueryItem`s, the longest first.
    pub(super) query_items: Vec<[u32; 5]>,
    /// `attention::KeyItem`s, those with the most readers' queries first.
    pub(super) key_items: Vec<[u32; 5]>,
    /// `attention::Reader`s.
    pub(super) readers: Vec<[u32; 3]>,
    /// Where keys lie.
    pub(super) map: Vec<u32>,
}

/// Queries of one span that share a block.
#[derive(Clone, Copy, Debug)]
struct Tile {
    row: usize,
    queries: usize,
    start: usize,
    /// Positions of the whole span.
    end: usize,
    map: usize,
}

impl Tile {
    fn keys(&self) -> usize {
        self.start + self.queries
    }

    fn chunks(&self) -> usize {
        self.keys().div_ceil(CHUNK)
    }
}

fn word(x: usize) -> u32 {
    u32::try_from(x).expect("rows and positions of a batch fit u32")
}

impl Forward {
    /// Tiles of `queries` queries, of those spans that `takes` picks, for each of `kv_heads`; in parts, where `busy` blocks
    /// would otherwise have less to do than one of them.
    pub(super) fn of(
        spans: &[Span],
        kv_heads: usize,
        [queries, busy]: [usize; 2],
        takes: impl Fn(&Span) -> bool,
    ) -> Self {
        let (map, starts) = key_map(spans);
        let picked = spans.iter().zip(starts).filter(|(span, _)| takes(span));
        let tiles: Vec<Tile> = picked.flat_map(|(span, map)| tiles(span, map, queries)).collect();
        let all: usize = tiles.iter().map(|tile| tile.chunks() * kv_heads).sum();
        let part = all.div_ceil(busy).max(1);
        let mut layout = Self { map, ..Self::default() };
        for tile in tiles {
            layout.take(tile, part);
        }
        layout.items.sort_by_key(|item| std::cmp::Reverse(item[6] - item[5]));
        layout
    }

    /// One item, or as many as it takes for none to have more than `part` chunks.
    fn take(&mut self, tile: Tile, part: usize) {
        let (chunks, parts) = (tile.chunks(), tile.chunks().div_ceil(part));
        for first in (0..chunks).step_by(part) {
            let last = chunks.min(first + part);
            let Tile { row, queries, start, end, map } = tile;
            self.items.push([row, queries, start, end, map, first, last, self.slots, parts].map(word));
        }
        if parts > 1 {
            self.slots += chunks;
        }
    }
}

impl Backward {
    /// Tiles of `queries` queries, and tiles of `keys` keys.
    pub(super) fn of(spans: &[Span], [queries, keys]: [usize; 2]) -> Self {
        let (map, starts) = key_map(spans);
        let mut layout = Self { map, ..Self::default() };
        for (index, (span, map)) in spans.iter().zip(starts).enumerate() {
            let item = |tile: Tile| [tile.row, tile.queries, tile.start, tile.end, tile.map].map(word);
            layout.query_items.extend(tiles(span, map, queries).map(item));
            let first = layout.readers.len();
            let reads = |reader: &usize| continues(spans, *reader, index);
            let reader = |span: &Span| [span.queries.start, span.queries.len(), span.start].map(word);
            layout.readers.extend((index..spans.len()).filter(reads).map(|i| reader(&spans[i])));
            let last = layout.readers.len();
            layout.key_items.extend(
                tiles(span, 0, keys).map(|tile| [tile.row, tile.queries, tile.start, first, last].map(word)),
            );
        }
        layout.query_items.sort_by_key(|item| std::cmp::Reverse(item[1] + item[2]));
        let readers = &layout.readers;
        let queries = |&[_, _, position, first, last]: &[u32; 5]| -> u32 {
            let seeing = |&[_, queries, start]: &[u32; 3]| start + queries - start.max(position);
            readers[first as usize..last as usize].iter().map(seeing).sum()
        };
        layout.key_items.sort_by_cached_key(|item| std::cmp::Reverse(queries(item)));
        layout
    }
}

fn tiles(span: &Span, map: usize, queries: usize) -> impl Iterator<Item = Tile> {
    let (rows, start) = (span.queries.clone(), span.start);
    (0..rows.len()).step_by(queries).map(move |first| Tile {
        row: rows.start + first,
        queries: queries.min(rows.len() - first),
        start: start + first,
        end: start + rows.len(),
        map,
    })
}

/// Whether a span sees another's keys: it is that one, or its parent sees them.
fn continues(spans: &[Span], reader: usize, owner: usize) -> bool {
    reader == owner
        || matches!(spans[reader].source, Source::Packed { parent: Some(parent) } if continues(spans, parent, owner))
}

/// Where every span's keys lie, and where that begins: blocks of the cache, or runs of packed rows as pairs of the position
/// that ends a run and what leads from its positions to rows, modulo 2³².
fn key_map(spans: &[Span]) -> (Vec<u32>, Vec<usize>) {
    let (mut map, mut starts) = (Vec::new(), Vec::with_capacity(spans.len()));
    let mut ends: Vec<usize> = Vec::with_capacity(spans.len());
    for span in spans {
        let (start, keys) = (map.len(), span.start + span.queries.len());
        match &span.source {
            Source::Packed { parent } => {
                if let Some(parent) = *parent {
                    map.extend_from_within(starts[parent]..ends[parent]);
                }
                if !span.queries.is_empty() {
                    map.extend([word(keys), word(span.queries.start).wrapping_sub(word(span.start))]);
                }
            }
            Source::Paged { blocks } => map.extend_from_slice(&blocks[..keys.div_ceil(BLOCK)]),
        }
        starts.push(start);
        ends.push(map.len());
    }
    (map, starts)
}
