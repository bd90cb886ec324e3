//! Rows 9 to 11: models, tokenizers and templates that cannot be used.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::program::{Home, patarm, within};

/// Reads two tokens with a model that must be refused, in little memory.
fn refused(home: &Home, folder: &Path, hints: &[&str]) {
    let tokens = home.file("tokens.jsonl", "{\"tokens\":[1,2]}\n");
    let command = ["logprobs", "--model", folder.to_str().unwrap(), "--in", &tokens];
    within([128, 1], &command).refused(4, hints);
}

/// A safetensors file taken apart.
struct Parts {
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Parts {
    fn of(folder: &Path) -> Self {
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        Self { header, data: bytes[8 + length..].to_vec() }
    }

    /// The name of the last tensor of the data.
    fn last(&self) -> String {
        let tensors = self.header.iter().filter(|(name, _)| *name != "__metadata__");
        tensors.max_by_key(|(_, entry)| entry["data_offsets"][1].as_u64()).unwrap().0.clone()
    }

    fn write(&self, folder: &Path) {
        write(folder, &Value::Object(self.header.clone()).to_string(), &self.data);
    }
}

fn write(folder: &Path, header: &str, data: &[u8]) {
    let length = (header.len() as u64).to_le_bytes();
    fs::write(folder.join("model.safetensors"), [&length, header.as_bytes(), data].concat()).unwrap();
}

/// Changes the entry of the model's last tensor; the model must be refused by that tensor's name and for this reason.
fn last_tensor(name: &str, reason: &str, change: impl FnOnce(&mut Value, &mut Vec<u8>)) {
    let home = Home::new();
    let folder = home.model(name);
    let mut parts = Parts::of(&folder);
    let last = parts.last();
    change(&mut parts.header[&last], &mut parts.data);
    parts.write(&folder);
    refused(&home, &folder, &["model.safetensors", &format!("tensor `{last}`"), reason]);
}

fn shift(entry: &mut Value, bytes: i64) {
    for offset in entry["data_offsets"].as_array_mut().unwrap() {
        *offset = (offset.as_i64().unwrap() + bytes).into();
    }
}

#[test]
fn row_09_tensors_that_overlap_leave_holes_or_overflow_are_named() {
    last_tensor("overlap", "overlaps `", |entry, data| {
        shift(entry, -4);
        data.truncate(data.len() - 4);
    });
    last_tensor("hole", "4 bytes before it belong to no tensor", |entry, data| {
        shift(entry, 4);
        data.extend([0; 4]);
    });
    last_tensor("overflow", "overflows", |entry, _| entry["shape"] = json!([1_u64 << 40, 1_u64 << 40, 4]));
    last_tensor("endless", "shape and dtype need", |entry, _| entry["shape"] = json!([1_u64 << 40]));
    last_tensor("beyond", "cut off", |entry, _| entry["data_offsets"][1] = json!(1_u64 << 60));
}

#[test]
fn row_09_tensors_of_another_shape_or_dtype_are_named() {
    last_tensor("folded", "config.json says", |entry, _| {
        let count = entry["shape"][0].as_u64().unwrap();
        entry["shape"] = json!([4, count / 4]);
    });
    last_tensor("integers", "stored as", |entry, _| entry["dtype"] = json!("U32"));
    last_tensor("unknown", "dtype `F8_E4M3`", |entry, _| entry["dtype"] = json!("F8_E4M3"));
}

#[test]
fn row_09_a_tensor_that_is_cut_stands_twice_or_is_missing_is_named() {
    last_tensor("cut", "cut off", |_, data| data.truncate(data.len() - 1));
    let home = Home::new();
    let folder = home.model("twice");
    let parts = Parts::of(&folder);
    let (last, header) = (parts.last(), Value::Object(parts.header.clone()).to_string());
    let again = format!("{},\"{last}\":{}}}", header.strip_suffix('}').unwrap(), parts.header[&last]);
    write(&folder, &again, &parts.data);
    refused(&home, &folder, &[&format!("tensor `{last}`"), "named twice"]);
    let mut fewer = Parts { header: parts.header.clone(), data: parts.data.clone() };
    let entry = fewer.header.remove(&last).unwrap();
    fewer.header.insert("stranger".into(), entry);
    fewer.write(&folder);
    refused(&home, &folder, &[&format!("tensor `{last}`"), "missing"]);
}

#[test]
fn row_09_a_header_over_100_mb_is_refused_by_its_length() {
    let home = Home::new();
    let folder = home.model("header");
    let weights = folder.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[..8].copy_from_slice(&100_000_001_u64.to_le_bytes());
    fs::write(&weights, &bytes).unwrap();
    // The file is long enough for it; nothing of that length is read or held.
    fs::File::options().write(true).open(&weights).unwrap().set_len(200_000_000).unwrap();
    refused(&home, &folder, &["model.safetensors", "100000001"]);
}

#[test]
fn row_09_an_index_that_names_a_missing_or_an_outside_file_is_refused() {
    let home = Home::new();
    let folder = home.model("index");
    fs::rename(folder.join("model.safetensors"), folder.join("a.safetensors")).unwrap();
    fs::copy(folder.join("a.safetensors"), Path::new(&home.path("outside.safetensors"))).unwrap();
    let parts = {
        fs::copy(folder.join("a.safetensors"), folder.join("model.safetensors")).unwrap();
        let parts = Parts::of(&folder);
        fs::remove_file(folder.join("model.safetensors")).unwrap();
        parts
    };
    let index = |file: &str| {
        let names = parts.header.keys().filter(|name| *name != "__metadata__");
        let map: Map<String, Value> = names.map(|name| (name.clone(), json!(file))).collect();
        let text = json!({ "weight_map": map }).to_string();
        fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
    };
    index("a.safetensors");
    let tokens = home.file("tokens.jsonl", "{\"tokens\":[1,2]}\n");
    patarm(&["logprobs", "--model", folder.to_str().unwrap(), "--in", &tokens]).well();
    index("gone.safetensors");
    refused(&home, &folder, &["gone.safetensors"]);
    for outside in ["../outside.safetensors", &home.path("outside.safetensors")] {
        index(outside);
        refused(&home, &folder, &["outside the folder"]);
    }
}

#[test]
fn row_10_weights_that_are_not_finite_are_refused_by_tensor_and_element_unless_nobody_looks() {
    let home = Home::new();
    let tokens = home.file("tokens.jsonl", "{\"tokens\":[1,2]}\n");
    let pairs = home.file("pairs.jsonl", "{\"prompt\":\"2+2?\",\"chosen\":\"4\",\"rejected\":\"5\"}\n");
    let rows = home.file("rows.jsonl", "{\"prompt\":\"good\",\"completion\":\" day\"}\n");
    for (name, bad) in [("nan", f32::NAN), ("infinite", f32::NEG_INFINITY)] {
        let folder = home.model(name);
        let mut parts = Parts::of(&folder);
        let last = parts.last();
        let end = parts.data.len();
        parts.data[end - 8..end - 4].copy_from_slice(&bad.to_le_bytes());
        parts.write(&folder);
        let model = folder.to_str().unwrap();
        let (out, run) = (home.path("taught"), home.path(name) + "-run");
        let logprobs: &[&str] = &["logprobs", "--model", model, "--in", &tokens];
        let commands: [&[&str]; 6] = [
            logprobs,
            &["generate", "--model", model, "--prompt", "a"],
            &["score", "--model", model, "--in", &pairs],
            &["evaluate", "--model", model, "--data", &pairs],
            &["sft", "--model", model, "--data", &rows, "--out", &out],
            &["train", "--model", model, "--data", &pairs, "--out", &run, "--data.max_prompt_tokens", "900"],
        ];
        for command in commands {
            patarm(command).refused(4, &[&format!("tensor `{last}`"), "element 14 is", &bad.to_string()]);
        }
        assert_eq!(patarm(&[logprobs, &["--no-scan"]].concat()).code, Some(0));
    }
}

/// The model with one of its tokenizer's files replaced must be refused within a second and 256 MB.
fn hostile(name: &str, file: &str, bytes: &[u8], hint: &str) {
    let home = Home::new();
    let folder = home.model(name);
    fs::write(folder.join(file), bytes).unwrap();
    let text = home.file("text.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n");
    let command = ["logprobs", "--model", folder.to_str().unwrap(), "--in", &text];
    let ended = within([256, 1], &command);
    assert!(ended.code.is_some(), "{name} was ended by a signal: {}", ended.talk);
    ended.refused(4, &[hint]);
}

/// The small model's tokenizer.json with one place of it changed.
fn tokenizer_with(pointer: &str, value: Value) -> Vec<u8> {
    let home = Home::new();
    let text = fs::read(home.model("sound").join("tokenizer.json")).unwrap();
    let mut json: Value = serde_json::from_slice(&text).unwrap();
    *json.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    json.to_string().into_bytes()
}

#[test]
fn row_11_hostile_tokenizers_are_refused_soon_and_in_little_memory() {
    let file = "tokenizer.json";
    let bomb = "((((((((((a{99}){99}){99}){99}){99}){99}){99}){99}){99}){99})";
    let expression = "/pre_tokenizer/pretokenizers/0/pattern/Regex";
    for (name, pointer, value) in [
        ("strangers", "/model/merges", json!([["a", "stranger"]])),
        ("unjoined", "/model/merges", json!([["a", "b"], ["zzz", "b"]])),
        ("half", "/model/merges", json!(["a"])),
        ("negative", "/model/vocab/a", json!(-1)),
        ("last", "/model/vocab/a", json!(u32::MAX)),
        ("far", "/model/vocab/a", json!(u32::MAX - 1)),
        ("bomb", expression, json!(bomb)),
        ("open", expression, json!("(")),
        ("nested", expression, json!(format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000)))),
        (
            "grower",
            "/normalizer",
            json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aa" }),
        ),
    ] {
        hostile(name, file, &tokenizer_with(pointer, value), "tokenizer");
    }
    let deep = format!("{{\"model\":{}", "[".repeat(10_000_000));
    hostile("deep", file, deep.as_bytes(), "tokenizer.json");
    let flat = format!("{{\"model\":{{\"merges\":[{}[]]}}}}", "[],".repeat(9_000_000));
    hostile("flat", file, flat.as_bytes(), "tokenizer.json");
    hostile("huge", file, &vec![b' '; 33 << 20], "the limit is");
    hostile("bytes", file, b"\xff\xfe{", "tokenizer.json");
}

#[test]
fn row_11_hostile_templates_are_refused_soon_and_in_little_memory() {
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    let loops = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    let doubling =
        "{% set ns = namespace(x='x') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    let shared =
        "{% set ns = namespace(x=['x']) %}{% for a in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    let [printed, json, text, joined] = ["ns.x", "ns.x | tojson", "ns.x | string", "ns.x | join"]
        .map(|end| format!("{shared}{{{{ {end} }}}}"));
    for (name, template) in [
        ("printed", printed.as_str()),
        ("json", &json),
        ("text", &text),
        ("joined", &joined),
        ("loop", loops),
        ("output", "{{ 'x' * 10000000000 }}"),
        ("doubling", &format!("{doubling}{{{{ ns.x }}}}")),
        ("recursion", "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}"),
        ("listed", "{{ [[messages] * 100000] * 100000 }}"),
        ("include", "{% include '/etc/hostname' %}"),
        ("nested", &nested),
        ("guard", "{{ ['x'] | map('#called') | list | tojson }}"),
        ("guards", "{{ [['x']] | map('#applied', '#applied', '#applied') | list | tojson }}"),
        ("starred", "{% set l = ['x', 'y'] %}{{ 'x' | replace(*l) }}"),
    ] {
        hostile(name, "chat_template.jinja", template.as_bytes(), "chat template");
    }
    let path_key = json!({ "chat_template": { "../../escape": "text" } }).to_string();
    let home = Home::new();
    let folder = home.model("path");
    let _ = fs::remove_file(folder.join("chat_template.jinja"));
    fs::write(folder.join("tokenizer_config.json"), path_key).unwrap();
    let text = home.file("text.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n");
    let command = ["logprobs", "--model", folder.to_str().unwrap(), "--in", &text];
    within([256, 1], &command).refused(4, &["tokenizer_config.json"]);
}

/// Two values that `grow` makes of `[]` again and again, which `end` then uses.
fn grown(grow: &str, end: &str) -> String {
    let grow_of =
        |name: &str| format!("{{% set ns.{name} = {} %}}", grow.replace('x', &format!("ns.{name}")));
    let body = grow_of("a") + &grow_of("b");
    format!("{{% set ns = namespace(a=[], b=[]) %}}{{% for i in range(100000) %}}{body}{{% endfor %}}{end}")
}

#[test]
fn row_11_templates_whose_values_grow_deep_are_refused_soon_and_in_little_memory() {
    let lines = "{% set x = [x] %}".repeat(15_000);
    let grow = |grow| grown(grow, "");
    for (name, template) in [
        ("lists", &grow("[x]")),
        ("tuples", &grow("(x,)")),
        ("objects", &grow("{'x': x}")),
        ("keys", &grow("{x: 1}")),
        ("arguments", &grow("dict(a=x)")),
        ("slices", &grow("x[0:]")),
        ("backward", &grow("x | reverse")),
        ("batches", &grow("x | list | batch(1, 0) | list")),
        ("mapped", &grow("[[1]] + (x | map('reverse') | list)")),
        ("times", &grow("(x * 1)[::1]")),
        ("lines", &lines),
    ] {
        hostile(name, "chat_template.jinja", template.as_bytes(), "chat template");
    }
}

#[test]
fn row_11_templates_whose_values_share_their_parts_are_refused_soon_and_in_little_memory() {
    let twice = "{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}";
    let wide = "{% set ns.a = [range(9000) | list] %}{% set ns.b = [range(9000) | list] %}";
    for (kind, times, grow) in [("doubled", 14, twice), ("wide", 1, wide)] {
        let begin = "{% set ns = namespace(a=['x'], b=['x']) %}";
        let begin = format!(
            "{begin}{{% for i in range({times}) %}}{grow}{{% endfor %}}{{% for i in range(90000) %}}"
        );
        for (name, end) in [
            ("text", "{% set t = ns.a ~ '' %}"),
            ("within", "{% set t = ns.a in 'text' %}"),
            ("equal", "{% set t = ns.a == ns.b %}"),
            ("chained", "{% set t = ns.a <= ns.b <= ns.a %}"),
            ("member", "{% set t = ns.a in [ns.b] %}"),
            ("key", "{% set t = {ns.a: 1} %}"),
            ("looked_up", "{% set t = {}[ns.a] %}"),
            ("asked", "{% set t = {}.get(ns.a) %}"),
            ("filtered", "{% set t = ns.a | upper %}"),
            ("sorted", "{% set t = [ns.a, ns.b] | sort %}"),
            ("tested", "{% set t = ns.a is eq ns.b %}"),
            ("selected", "{% set t = range(99) | map('default', ns.a) | list %}"),
            ("method", "{% set t = 'x'.startswith(ns.a) %}"),
            ("changed", "{% set t = loop.changed(ns.a) %}"),
            ("raised", "{{ raise_exception(ns.a) }}"),
        ] {
            let template = format!("{begin}{end}{{% endfor %}}");
            hostile(&format!("{kind}_{name}"), "chat_template.jinja", template.as_bytes(), "chat template");
        }
    }
    let listed = "{% set x = [[messages] * 100000] * 100000 %}{{ x ~ '' }}";
    hostile("listed", "chat_template.jinja", listed.as_bytes(), "chat template");
}

#[test]
fn row_11_templates_that_are_long_to_compile_are_refused_soon_and_in_little_memory() {
    let long =
        |begin: &str, part: &str, end: &str| format!("{begin}{}{end}", part.repeat(200_000 / part.len()));
    for (name, hint, template) in [
        ("size", "bytes", "{{ x }}".repeat(100_000)),
        ("sum", "one tag", long("{{ x", "+1", "}}")),
        ("filters", "one tag", long("{{ x", "|d", "}}")),
        ("parts", "one tag", long("{{ x", ".x", "}}")),
        ("not", "one tag", long("{{ ", "not ", "x }}")),
        ("minus", "one tag", long("{{ ", "-", "x }}")),
        ("choices", "one tag", long("{{ x", " if x else x", " }}")),
        ("elif", "elif", long("{% if x %}", "{% elif x %}", "{% endif %}")),
        ("constant", "a list and `*`", "{{ ([1] * 100000000) ~ 'x' }}".to_owned()),
        (
            "compared",
            "a list and `*`",
            "{% if not [1] * 100000000 == 100000000 * [1] %}{% endif %}".to_owned(),
        ),
    ] {
        hostile(name, "chat_template.jinja", template.as_bytes(), hint);
    }
}

#[test]
fn row_11_templates_whose_values_hold_themselves_are_refused_soon_and_in_little_memory() {
    for (name, hint, template) in [
        ("itself", "namespace", "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns.a | tojson }}"),
        ("listed", "namespace", "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ 'x' in ns.a }}"),
        ("named", "namespace", "{% set ns = namespace() %}{% set ns.a = dict(b=ns) %}{{ ns.a == ns.a }}"),
        ("nested", "namespace", "{% set ns = namespace() %}{% set t = namespace(b=ns) %}"),
        ("looping", "loop", "{% set ns = namespace() %}{% for x in [1] %}{% set ns.a = loop %}{% endfor %}"),
        ("debugged", "debug", "{% set ns = namespace() %}{{ debug() }}"),
    ] {
        hostile(name, "chat_template.jinja", template.as_bytes(), hint);
    }
}
