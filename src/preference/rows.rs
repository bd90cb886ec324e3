//! Text files cut into rows: lines, or the elements of one JSON array. No more than one row is held at a time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::error::Reason;
use super::nesting::Nesting;

/// Where a row starts (a line, from 1) and its bytes, or why it has none.
pub type TextRow = (usize, Result<Vec<u8>, Reason>);

/// How a file holds its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Lines,
    Array,
    /// Nothing is left.
    Done,
}

/// The rows of one text file.
pub struct TextRows {
    input: Box<dyn BufRead>,
    layout: Layout,
    line: usize,
    limit: usize,
}

impl TextRows {
    /// Opens `.jsonl` or `.json`, plain, `.gz` or `.zst`. A `.json` file is an array if it starts like one, else lines. Of a
    /// row longer than `limit` bytes no more than that is held.
    ///
    /// # Errors
    /// A file that cannot be opened or read.
    pub fn open(path: &Path, limit: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let input: Box<dyn Read> = match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Box::new(MultiGzDecoder::new(BufReader::new(file))),
            Some("zst") => Box::new(zstd::Decoder::new(file)?),
            _ => Box::new(file),
        };
        let mut rows = Self { input: Box::new(BufReader::new(input)), layout: Layout::Lines, line: 1, limit };
        rows.skip_byte_order_mark()?;
        if !name.contains(".jsonl") && rows.skip_blank()? == Some(b'[') {
            rows.input.consume(1);
            rows.layout = Layout::Array;
        }
        Ok(rows)
    }

    fn skip_byte_order_mark(&mut self) -> io::Result<()> {
        if self.input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            self.input.consume(3);
        }
        Ok(())
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    /// Passes over white space, counting lines, and returns the byte after it.
    fn skip_blank(&mut self) -> io::Result<Option<u8>> {
        while let Some(byte) = self.peek()?.filter(u8::is_ascii_whitespace) {
            self.line += usize::from(byte == b'\n');
            self.input.consume(1);
        }
        self.peek()
    }

    fn next_line(&mut self) -> io::Result<Option<TextRow>> {
        if self.skip_blank()?.is_none() {
            return Ok(None);
        }
        let start = self.line;
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(self.limit as u64 + 1).read_until(b'\n', &mut bytes)?;
        self.line += 1;
        if read > self.limit && bytes.last() != Some(&b'\n') {
            self.input.skip_until(b'\n')?;
            return Ok(Some((start, Err(Reason::OversizedRow { limit: self.limit }))));
        }
        // A line that is cut short ends where it ends, not with a line end inside its last text.
        let whole = bytes.trim_ascii_end().len();
        bytes.truncate(whole);
        Ok(Some((start, Ok(bytes))))
    }

    fn next_element(&mut self) -> io::Result<Option<TextRow>> {
        while self.skip_blank()? == Some(b',') {
            self.input.consume(1);
        }
        if self.peek()? == Some(b']') {
            self.input.consume(1);
            return self.after_array();
        }
        let start = self.line;
        let mut element = Element::default();
        loop {
            let Some(byte) = self.peek()? else {
                self.layout = Layout::Done;
                return Ok(Some((start, Err(Reason::CutShort))));
            };
            if element.ends_before(byte) {
                break;
            }
            self.line += usize::from(byte == b'\n');
            self.input.consume(1);
            element.push(byte, self.limit);
        }
        let whole = element.length <= self.limit;
        let bytes = if whole { Ok(element.bytes) } else { Err(Reason::OversizedRow { limit: self.limit }) };
        Ok(Some((start, bytes)))
    }

    /// Nothing but white space may follow the array.
    fn after_array(&mut self) -> io::Result<Option<TextRow>> {
        self.layout = Layout::Done;
        let rest = self.skip_blank()?;
        let reason = Reason::NotJson { detail: "text after the array".into() };
        Ok(rest.map(|_| (self.line, Err(reason))))
    }
}

impl Iterator for TextRows {
    type Item = io::Result<TextRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match self.layout {
            Layout::Lines => self.next_line(),
            Layout::Array => self.next_element(),
            Layout::Done => Ok(None),
        };
        if row.is_err() {
            self.layout = Layout::Done;
        }
        row.transpose()
    }
}

/// One element of an array while its end is sought.
#[derive(Default)]
struct Element {
    bytes: Vec<u8>,
    length: usize,
    nesting: Nesting,
}

impl Element {
    fn ends_before(&self, byte: u8) -> bool {
        self.nesting.is_outside() && (byte == b',' || byte == b']')
    }

    fn push(&mut self, byte: u8, limit: usize) {
        self.length += 1;
        if self.length <= limit {
            self.bytes.push(byte);
        }
        self.nesting.pass(byte);
    }
}
