//! Row 7: rows that would take more memory or depth than they are worth.

use std::fs::{self, File};
use std::sync::Arc;

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;

use super::program::{Home, model, within};

const PAIR: &str = r#"{"prompt":"2+2?","chosen":"4","rejected":"5"}"#;
const SHORT: [&str; 2] = ["--rollout.max_new_tokens", "4"];

#[test]
fn row_07_surrogates_nul_and_deep_json_are_row_errors_within_bounded_memory() {
    let home = Home::new();
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(4_000_000), "]".repeat(4_000_000));
    let wide = format!("{{\"prompt\":[{}0],\"chosen\":\"a\",\"rejected\":\"b\"}}", "0,".repeat(8_000_000));
    for (name, row, hint) in [
        ("half", PAIR.replace('4', "\\ud800"), "surrogate"),
        ("nul", PAIR.replace('4', "\\u0000"), "NUL"),
        ("deep", deep, "nested too deeply"),
        ("wide", wide, "more than 1024 turns"),
    ] {
        let data = home.file(&format!("{name}.jsonl"), format!("{row}\n"));
        let place = format!("{name}.jsonl:1");
        for arguments in
            [["evaluate", "--model", model(), "--data", &data], ["score", "--model", model(), "--in", &data]]
        {
            within([256, 10], &arguments).refused(3, &[&place, hint]);
        }
        let sft = ["sft", "--model", model(), "--data", &data, "--out", &home.path("taught")];
        within([256, 10], &sft).refused(3, &[&place]);
    }
    let nul = home.file("response.jsonl", "{\"prompt\":\"q\",\"response\":\"a\\u0000\"}");
    within([256, 10], &["score", "--model", model(), "--in", &nul]).refused(3, &["response.jsonl:1", "NUL"]);
    let escaped = home.file("escaped.jsonl", "{\"prompt\":\"q\",\"response\":\"a\\\\u0000\"}");
    within([256, 10], &["score", "--model", model(), "--in", &escaped, "--max-new-tokens", "2"]).well();
}

#[test]
fn row_07_a_cell_beyond_ten_megabytes_is_a_row_error_and_the_next_row_is_read() {
    let home = Home::new();
    let row = |bytes: usize| PAIR.replace('4', &"g".repeat(bytes)) + "\n";
    let data = home.file("huge.jsonl", row(10_000_001) + &row(50_000_000) + PAIR);
    let rejects = home.path("rejects.jsonl");
    let command = ["evaluate", "--model", model(), "--data", &data, "--rejects", &rejects, "--skip-bad", "2"];
    assert_eq!(within([256, 10], &[&command[..], &SHORT].concat()).well()["overall"]["pairs"], 1);
    let codes = fs::read_to_string(&rejects).unwrap();
    assert!(codes.contains("oversized_cell") && codes.contains("oversized_row"), "{codes}");
}

/// Writes a Parquet file of one row group; `columns` fills them in the schema's order.
fn parquet(path: &str, schema: &str, columns: impl FnOnce(&mut SerializedRowGroupWriter<'_, File>)) {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(zstd).set_dictionary_enabled(false);
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    columns(&mut group);
    group.close().unwrap();
    writer.close().unwrap();
}

fn texts(group: &mut SerializedRowGroupWriter<'_, File>, values: &[ByteArray], levels: [Option<&[i16]>; 2]) {
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(values, levels[0], levels[1]).unwrap();
    column.close().unwrap();
}

#[test]
fn row_07_a_parquet_page_that_unpacks_to_more_than_its_limit_is_refused_before_it_does() {
    let home = Home::new();
    let data = home.path("bomb.parquet");
    let schema = "message rows { required binary prompt (UTF8); required binary chosen (UTF8);
                  required binary rejected (UTF8); }";
    parquet(&data, schema, |group| {
        for text in [vec![b'q'; 300 << 20], b"a".to_vec(), b"b".to_vec()] {
            texts(group, &[ByteArray::from(text)], [None, None]);
        }
    });
    assert!(fs::metadata(&data).unwrap().len() < 1 << 20, "a small file");
    let hints = ["bomb.parquet", "a page of", "write smaller pages"];
    within([256, 10], &["evaluate", "--model", model(), "--data", &data]).refused(3, &hints);
}

#[test]
fn row_07_a_parquet_list_without_end_is_refused_before_it_is_built() {
    let home = Home::new();
    let data = home.path("list.parquet");
    let schema = "message rows { optional group prompt (LIST) { repeated group list {
                  optional group element { optional binary role (UTF8); } } }
                  required binary chosen (UTF8); required binary rejected (UTF8); }";
    let many = 20_000_000;
    parquet(&data, schema, |group| {
        let repetitions: Vec<i16> = (0..many).map(|place| i16::from(place > 0)).collect();
        texts(group, &[], [Some(&vec![2; many]), Some(&repetitions)]);
        texts(group, &[ByteArray::from("a")], [None, None]);
        texts(group, &[ByteArray::from("b")], [None, None]);
    });
    assert!(fs::metadata(&data).unwrap().len() < 1 << 20, "a small file");
    let hints = ["list.parquet", "values in one row group", "write smaller row groups"];
    within([256, 10], &["evaluate", "--model", model(), "--data", &data]).refused(3, &hints);
}
