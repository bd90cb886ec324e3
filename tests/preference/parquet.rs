//! Parquet files of preference pairs, written here column by column.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;
use patarm::preference::{Place, PreferenceError, ReadOptions, Reason, read};
use patarm::tokenizer::{Message, Role};

/// Values of one column with their definition and repetition levels.
type Column<'a> = (&'a [&'a str], &'a [i16], &'a [i16]);

fn write(path: &Path, schema: &str, columns: impl FnOnce(&mut SerializedRowGroupWriter<'_, File>)) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    columns(&mut group);
    group.close().unwrap();
    writer.close().unwrap();
}

fn texts(group: &mut SerializedRowGroupWriter<'_, File>, (values, definitions, repetitions): Column<'_>) {
    let values: Vec<ByteArray> = values.iter().map(|&text| ByteArray::from(text)).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&values, Some(definitions), Some(repetitions)).unwrap();
    column.close().unwrap();
}

const TURNS: &str = "message rows {
    optional int64 id;
    optional group chosen (LIST) { repeated group list { optional group element {
        optional binary content (UTF8); optional binary role (UTF8); } } }
    optional group rejected (LIST) { repeated group list { optional group element {
        optional binary content (UTF8); optional binary role (UTF8); } } }
}";

#[test]
fn conversations_in_nested_lists_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    write(&path, TURNS, |group| {
        let mut ids = group.next_column().unwrap().unwrap();
        ids.typed::<Int64Type>().write_batch(&[7, 8], Some(&[1, 1]), None).unwrap();
        ids.close().unwrap();
        let (full, starts) = (&[4, 4, 4, 4][..], &[0, 1, 0, 1][..]);
        let roles = (&["user", "assistant", "user", "assistant"][..], full, starts);
        texts(group, (&["one?", "yes", "two?", "good"], full, starts));
        texts(group, roles);
        texts(group, (&["one?", "no", "two?", "bad"], full, starts));
        texts(group, roles);
    });
    let dataset = read(dir.path(), &ReadOptions::default()).unwrap();
    let found: Vec<(&str, &[Message], &str, &str)> = dataset
        .pairs
        .iter()
        .map(|pair| (&*pair.id, &*pair.messages, &*pair.chosen, &*pair.rejected))
        .collect();
    let asked = |text| [Message::new(Role::User, text)];
    assert_eq!(found, [("7", &asked("one?")[..], "yes", "no"), ("8", &asked("two?")[..], "good", "bad")]);
}

const TEXTS: &str = "message rows {
    optional binary prompt (UTF8);
    optional binary chosen (UTF8);
    optional int96 stranger;
    optional binary rejected;
}";

#[test]
fn null_cells_and_bad_text_are_row_errors_with_the_rows_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    write(&path, TEXTS, |group| {
        texts(group, (&["q", "q", "q"], &[1, 1, 1], &[0, 0, 0]));
        texts(group, (&["good", "better"], &[1, 0, 1], &[0, 0, 0]));
        let mut stranger = group.next_column().unwrap().unwrap();
        stranger.typed::<::parquet::data_type::Int96Type>().write_batch(&[], Some(&[0, 0, 0]), None).unwrap();
        stranger.close().unwrap();
        texts(group, (&["bad", "bad", "bad\0"], &[1, 1, 1], &[0, 0, 0]));
    });
    let dataset = read(&path, &ReadOptions { skip_bad: 2, ..ReadOptions::default() }).unwrap();
    assert_eq!(dataset.pairs.len(), 1);
    let found: Vec<(Place, Option<&str>, &Reason)> =
        dataset.rejects.iter().map(|row| (row.place, row.field.as_deref(), &row.reason)).collect();
    let expected = [
        (Place::Row(1), Some("chosen"), &Reason::Missing),
        (Place::Row(2), Some("rejected"), &Reason::ContainsNul),
    ];
    assert_eq!(found, expected);
    let error = read(&path, &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("a.parquet:row 1: `chosen`: missing"), "{error}");
}

#[test]
fn damaged_file_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    write(&path, TEXTS.replace("optional int96 stranger;", "").as_str(), |group| {
        for text in ["q", "good", "bad"] {
            texts(group, (&[text], &[1], &[0]));
        }
    });
    let whole = std::fs::read(&path).unwrap();
    for cut in [4, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = read(&path, &ReadOptions::default()).unwrap_err();
        assert!(matches!(error, PreferenceError::Parquet { .. }), "{error}");
    }
    for place in 4..whole.len() {
        let mut flipped = whole.clone();
        flipped[place] ^= 0x55;
        std::fs::write(&path, &flipped).unwrap();
        // Any result will do but a panic or an abort.
        let _ = read(&path, &ReadOptions::default());
    }
}
