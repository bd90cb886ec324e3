//! Reads event files back with a reader that shares nothing with the writer: bitwise CRC, field by field.

use std::path::{Path, PathBuf};

use patarm::report::{EventFile, Note, Origin, Row, Sink, Start};

/// CRC-32C one bit at a time, straight from the reversed polynomial.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_left(17).wrapping_add(0xa282_ead8)
}

/// The payloads of a TFRecord file; panics where a frame is broken.
fn payloads(file: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut found) = (file, Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(
            u32::from_le_bytes(rest[8..12].try_into().unwrap()),
            masked(&rest[..8]),
            "length checksum"
        );
        let data = &rest[12..12 + length];
        assert_eq!(u32::from_le_bytes(rest[12 + length..16 + length].try_into().unwrap()), masked(data));
        found.push(data);
        rest = &rest[16 + length..];
    }
    found
}

/// One field of a protocol buffer message: number and raw content.
#[derive(Debug, PartialEq)]
enum Field<'a> {
    Number(u64, u64),
    Double(u64, f64),
    Float(u64, f32),
    Bytes(u64, &'a [u8]),
}

fn varint(rest: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = rest[0];
        *rest = &rest[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn fields(mut rest: &[u8]) -> Vec<Field<'_>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        let (number, take) = match key & 7 {
            0 => {
                found.push(Field::Number(key >> 3, varint(&mut rest)));
                continue;
            }
            1 => (key >> 3, 8),
            2 => (key >> 3, varint(&mut rest) as usize),
            5 => (key >> 3, 4),
            other => panic!("wire type {other}"),
        };
        let (content, after) = rest.split_at(take);
        rest = after;
        found.push(match key & 7 {
            1 => Field::Double(number, f64::from_le_bytes(content.try_into().unwrap())),
            5 => Field::Float(number, f32::from_le_bytes(content.try_into().unwrap())),
            _ => Field::Bytes(number, content),
        });
    }
    found
}

fn inner<'a>(fields: &[Field<'a>], wanted: u64) -> Vec<&'a [u8]> {
    let content = |field: &Field<'a>| match field {
        Field::Bytes(number, bytes) if *number == wanted => Some(*bytes),
        _ => None,
    };
    fields.iter().filter_map(content).collect()
}

fn only_file(folder: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn origin() -> Origin {
    Origin { host: "a machine/b".into(), pid: 77, time: 1_790_000_000.5 }
}

/// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
#[test]
fn the_readers_checksum_equals_the_published_vectors() {
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn scalars_come_back_from_an_event_file_with_their_step_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = EventFile::create(folder.path(), &origin(), Start::Fresh).unwrap();
    let row = Row::new(300, "rl", 1_790_000_009.25).with("reward", 0.75).with("kl", f64::NAN);
    events.row(&row).unwrap();
    let path = only_file(folder.path());
    assert_eq!(path.file_name().unwrap(), "events.out.tfevents.1790000000.a-machine-b.77.0");
    let file = std::fs::read(path).unwrap();
    let events = payloads(&file);
    assert_eq!(events.len(), 3);
    assert_eq!(
        fields(events[0]),
        [Field::Double(1, 1_790_000_000.5), Field::Number(2, 0), Field::Bytes(3, b"brain.Event:2")]
    );
    let event = fields(events[2]);
    assert_eq!(event[..2], [Field::Double(1, 1_790_000_009.25), Field::Number(2, 300)]);
    let values = inner(&fields(inner(&event, 5)[0]), 1);
    assert_eq!(fields(values[0]), [Field::Bytes(1, b"reward"), Field::Float(2, 0.75)]);
    assert!(matches!(fields(values[1])[..], [Field::Bytes(1, b"kl"), Field::Float(2, v)] if v.is_nan()));
}

#[test]
fn a_text_is_a_scalar_string_tensor_of_the_text_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = EventFile::create(folder.path(), &origin(), Start::Fresh).unwrap();
    let text = "long ".repeat(60);
    events.note(&Note { step: 4, time: 1.0, tag: "config".into(), text: text.clone() }).unwrap();
    let file = std::fs::read(only_file(folder.path())).unwrap();
    let event = fields(payloads(&file)[2]);
    let value = fields(inner(&fields(inner(&event, 5)[0]), 1)[0]);
    assert_eq!(inner(&value, 1), [b"config"]);
    let tensor = fields(inner(&value, 8)[0]);
    assert_eq!(tensor, [Field::Number(1, 7), Field::Bytes(2, b""), Field::Bytes(8, text.as_bytes())]);
    let metadata = fields(inner(&value, 9)[0]);
    assert_eq!(fields(inner(&metadata, 1)[0]), [Field::Bytes(1, b"text")]);
}

#[test]
fn every_file_starts_a_session_and_a_resumed_one_voids_later_steps() {
    let folder = tempfile::tempdir().unwrap();
    EventFile::create(folder.path(), &origin(), Start::Fresh).unwrap();
    EventFile::create(folder.path(), &origin(), Start::After(20)).unwrap();
    for (n, first_step) in [(0, 0), (1, 21)] {
        let path = folder.path().join(format!("events.out.tfevents.1790000000.a-machine-b.77.{n}"));
        let file = std::fs::read(path).unwrap();
        let event = fields(payloads(&file)[1]);
        assert_eq!(event[1], Field::Number(2, first_step));
        assert_eq!(fields(inner(&event, 7)[0]), [Field::Number(1, 1)], "SessionLog.START");
    }
}
