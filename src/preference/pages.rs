//! A Parquet file whose pages are looked at before they are unpacked: a page of some bytes may claim to hold gigabytes.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::metadata::ParquetMetaData;
use ::parquet::file::reader::{ChunkReader, Length};
use bytes::Bytes;

/// The most bytes that one page may unpack to. Writers cut pages at a megabyte or two, but a page has at least one batch of
/// rows, often 1024.
const LARGEST_PAGE: i64 = 64 << 20;

/// The most values of a list within one row group, over all rows: what one row could hold at worst.
const MOST_LISTED: i64 = 4 << 20;

/// The file, and the chunks of columns whose pages are counted.
#[derive(Clone)]
pub(super) struct Pages {
    file: Arc<File>,
    length: u64,
    chunks: Arc<OnceLock<Vec<Chunk>>>,
}

/// A column's part of a row group: where it ends, and how many values its pages may still bring.
struct Chunk {
    start: u64,
    end: u64,
    left: AtomicI64,
}

impl Pages {
    pub(super) fn new(file: File) -> std::io::Result<Self> {
        Ok(Self { length: file.metadata()?.len(), file: Arc::new(file), chunks: Arc::default() })
    }

    /// Takes the limits from the file's own description; from here on every page must keep to them.
    pub(super) fn keep_to(&self, metadata: &ParquetMetaData, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let mut chunks = Vec::new();
        for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
            let path = column.column_path().parts();
            let listed = column.column_descr().max_rep_level() > 0;
            if listed && column.num_values() > MOST_LISTED && path.first().is_some_and(|name| wanted(name)) {
                return Err(refused(format!(
                    "column `{}` has {} values in one row group, {MOST_LISTED} is the most; write smaller row groups",
                    path.join("."),
                    column.num_values(),
                )));
            }
            let [start, length] = [
                column.dictionary_page_offset().unwrap_or(column.data_page_offset()),
                column.compressed_size(),
            ];
            let (Ok(start), Ok(length)) = (u64::try_from(start), u64::try_from(length)) else {
                return Err(refused(format!("column `{}` lies outside the file", path.join("."))));
            };
            let left = AtomicI64::new(column.num_values());
            chunks.push(Chunk { start, end: start.saturating_add(length), left });
        }
        chunks.sort_by_key(|chunk| chunk.start);
        self.chunks.get_or_init(|| chunks);
        Ok(())
    }

    /// Refuses a page that claims too many bytes, or more values than its column has left.
    fn check(&self, start: u64, chunks: &[Chunk], bytes: &[u8]) -> Result<()> {
        let page = PageHeader::parse(bytes).ok_or_else(|| refused("a page without a sound header".into()))?;
        let largest = page.packed.max(page.unpacked);
        if largest > LARGEST_PAGE {
            return Err(refused(format!(
                "a page of {largest} bytes, {LARGEST_PAGE} is the most; write smaller pages"
            )));
        }
        let before = chunks.partition_point(|chunk| chunk.start <= start);
        let chunk = chunks[..before].last().filter(|chunk| start < chunk.end);
        let chunk = chunk.ok_or_else(|| refused("a page outside every column".into()))?;
        let left = match page.kind {
            PageHeader::DICTIONARY => 0,
            _ => chunk.left.fetch_sub(page.values, Ordering::Relaxed) - page.values,
        };
        match page.values >= 0 && left >= 0 {
            true => Ok(()),
            false => Err(refused("pages with more values than their column".into())),
        }
    }
}

fn refused(reason: String) -> ParquetError {
    ParquetError::General(reason)
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Pages {
    type T = BufReader<File>;

    /// The crate asks for a place to read from only where a page's header stands.
    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut reader = self.file.get_read(start)?;
        if let Some(chunks) = self.chunks.get() {
            self.check(start, chunks, reader.fill_buf()?)?;
        }
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(ParquetError::EOF(format!("{length} bytes from byte {start} of {}", self.length)));
        }
        self.file.get_bytes(start, length)
    }
}

/// The beginning of a page's header in Thrift's compact protocol: fields come in ascending order, each with the distance to
/// the one before it and its type in one byte.
struct PageHeader {
    kind: i64,
    unpacked: i64,
    packed: i64,
    values: i64,
}

impl PageHeader {
    const DICTIONARY: i64 = 2;
    const NEXT_INTEGER: u8 = 0x15;
    const STRUCT: u8 = 12;

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let [kind, unpacked, packed] = [integer(&mut bytes)?, integer(&mut bytes)?, integer(&mut bytes)?];
        if bytes.first() == Some(&Self::NEXT_INTEGER) {
            integer(&mut bytes)?; // the checksum
        }
        let (field, mut inside) = bytes.split_first()?;
        let values = (field & 0xf == Self::STRUCT).then(|| integer(&mut inside))??;
        (unpacked >= 0 && packed >= 0).then_some(Self { kind, unpacked, packed, values })
    }
}

/// The next field, which must be a whole number of at most 32 bits.
fn integer(bytes: &mut &[u8]) -> Option<i64> {
    let rest = bytes.strip_prefix(&[PageHeader::NEXT_INTEGER])?;
    let length = 1 + rest.iter().take(5).position(|byte| byte & 0x80 == 0)?;
    let (digits, rest) = rest.split_at(length);
    *bytes = rest;
    let zigzag = digits.iter().rev().fold(0_u64, |all, byte| all << 7 | u64::from(byte & 0x7f));
    Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}
