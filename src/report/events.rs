//! TensorBoard event files: `brain.Event` messages in the frames of a TFRecord file.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use super::json_lines::Tail;
use super::metrics::{Note, Origin, Row, Sink, Start};

/// One event file, first event `brain.Event:2`.
pub struct EventFile {
    tail: Tail,
}

impl EventFile {
    /// Makes `events.out.tfevents.<seconds>.<host>.<pid>.<n>` in `folder`, which is made if it is missing.
    ///
    /// A run that goes on writes a file of its own. Each file begins with a session start: TensorBoard takes the first
    /// as the run's, and at a later one forgets the steps that are void.
    ///
    /// # Errors
    /// What the system said.
    pub fn create(folder: &Path, origin: &Origin, start: Start) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let host: String =
            origin.host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name =
            |n: u32| format!("events.out.tfevents.{:010}.{host}.{}.{n}", origin.time as u64, origin.pid);
        let file = (0..)
            .map(|n| OpenOptions::new().write(true).create_new(true).open(folder.join(name(n))))
            .find(|opened| !matches!(opened, Err(e) if e.kind() == io::ErrorKind::AlreadyExists))
            .expect("the numbers do not end")?;
        let mut events = Self { tail: Tail::new(file, 0)? };
        events.event(origin.time, 0, |event| event.text(3, "brain.Event:2"))?;
        let first = match start {
            Start::Fresh => 0,
            Start::After(step) => step + 1,
        };
        events.event(origin.time, first, |event| event.message(7, |log| log.number(1, SESSION_START)))?;
        Ok(events)
    }

    /// Field numbers of `tensorflow.Event`: 1 time, 2 step, and what `fill` adds.
    fn event(&mut self, time: f64, step: u64, fill: impl FnOnce(&mut Message)) -> io::Result<()> {
        let mut event = Message::default();
        event.double(1, time);
        event.number(2, step);
        fill(&mut event);
        self.tail.append(&frame(&event.bytes))
    }
}

impl Sink for EventFile {
    fn row(&mut self, row: &Row) -> io::Result<()> {
        self.event(row.time, row.step, |event| {
            event.message(5, |summary| {
                for (name, number) in &row.values {
                    summary.message(1, |value| {
                        value.text(1, name);
                        value.float(2, *number as f32);
                    });
                }
            });
        })
    }

    fn note(&mut self, note: &Note) -> io::Result<()> {
        self.event(note.time, note.step, |event| {
            event.message(5, |summary| summary.message(1, |value| text_value(value, note)));
        })
    }
}

/// `SessionLog.START`: what earlier files say of this step and later ones is void.
const SESSION_START: u64 = 1;
/// `DT_STRING`.
const STRING: u64 = 7;
/// `DATA_CLASS_TENSOR`.
const TENSOR: u64 = 2;

/// `Summary.Value` of the text plugin: a scalar string tensor (8) and the plugin's name (9).
fn text_value(value: &mut Message, note: &Note) {
    value.text(1, &note.tag);
    value.message(8, |tensor| {
        tensor.number(1, STRING);
        tensor.message(2, |_scalar| ());
        tensor.text(8, &note.text);
    });
    value.message(9, |metadata| {
        metadata.message(1, |plugin| plugin.text(1, "text"));
        metadata.number(4, TENSOR);
    });
}

/// A TFRecord frame: length (u64), its masked CRC-32C, the data, its masked CRC-32C; all little-endian.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(data.len() + 16);
    frame.extend(length);
    frame.extend(masked(&length).to_le_bytes());
    frame.extend(data);
    frame.extend(masked(data).to_le_bytes());
    frame
}

/// CRC-32C, rotated and shifted by a constant: a checksum of data that holds checksums would be weak.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A protocol buffer message under construction.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.key(field, 0);
        self.varint(number);
    }

    fn double(&mut self, field: u64, number: f64) {
        self.key(field, 1);
        self.bytes.extend(number.to_le_bytes());
    }

    fn float(&mut self, field: u64, number: f32) {
        self.key(field, 5);
        self.bytes.extend(number.to_le_bytes());
    }

    fn text(&mut self, field: u64, text: &str) {
        self.delimited(field, text.as_bytes());
    }

    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.delimited(field, &inner.bytes);
    }

    fn delimited(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend(bytes);
    }
}
