//! Hostile tokenizers and templates end with an error, soon and small.

use std::fs::{self, File};
use std::time::Duration;

use patarm::tokenizer::{ChatOptions, Message, Role, Tokenizer, TokenizerError, TrainOptions, train};
use serde_json::{Value, json};

fn small() -> Tokenizer {
    train(["a small text, a small vocabulary"], &TrainOptions { vocab_size: 270, ..TrainOptions::default() })
        .unwrap()
}

/// The small tokenizer with one place of its `tokenizer.json` changed.
fn with(pointer: &str, value: Value) -> Result<Tokenizer, TokenizerError> {
    let mut json: Value = serde_json::from_slice(small().files().get("tokenizer.json").unwrap()).unwrap();
    *json.pointer_mut(pointer).unwrap() = value;
    Tokenizer::from_bytes(json.to_string().as_bytes())
}

/// Runs `work`, which may take one second of this thread's own processor time: neighbours on the machine do not count.
fn soon<T>(work: impl FnOnce() -> T) -> T {
    let start = processor_time();
    let result = work();
    let taken = processor_time() - start;
    assert!(taken < Duration::from_secs(1), "took {taken:?}");
    result
}

fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// What rendering one short message with this template says.
fn render(template: &str) -> Result<Vec<patarm::tokenizer::TokenId>, TokenizerError> {
    let mut files = small().files().clone();
    files.insert("chat_template.jinja", template);
    let tokenizer = Tokenizer::from_files(files)?;
    tokenizer.encode_chat(&[Message::new(Role::User, "hi")], &ChatOptions::default())
}

#[test]
fn endless_and_growing_templates_run_out_of_fuel_within_a_second() {
    for template in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(1000) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='x') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'x' * 10000000000 }}",
        "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
        "{{ ('x' * 100000).join(range(100000)) }}",
        "{{ 'x' | indent(10000000000) }}",
        "{{ '%10000000000d' | format(1) }}",
        "{{ messages | tojson(indent=10000000000) }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    ] {
        let error = soon(|| render(template)).unwrap_err();
        assert!(matches!(error, TokenizerError::Template { .. }), "{template}: {error}");
    }
}

#[test]
fn templates_reach_no_file_no_clock_and_no_format_method() {
    for template in [
        "{% include '/etc/hostname' %}",
        "{% import '../../etc/hostname' as x %}",
        "{{ strftime_now('%Y') }}",
        "{{ '{:>10000000000}'.format('x') }}",
        "{{ messages.__class__.__mro__ }}",
    ] {
        assert!(soon(|| render(template)).is_err(), "{template}");
    }
}

/// What Jinja2 makes of [`SOUND`], with the blocks trimmed as transformers does.
const EXPECTED: &str = "a:1:none\nb:3:hi\n(0a=-b=(1c=1d=(2)))\n123\nuser,assistant,user,system HERE\n\
    2 {\"role\": \"user\", \"size\": 9} True {\"a\": [\"b\", \"c\"]}";

/// Loops of all kinds, a macro, lists that grow in a namespace, comparisons in chains.
const SOUND: &str = r#"{% set ns = namespace(seen=[], n=0, last=none) %}
{% for m in messages if m.role != 'system' %}
{% set ns.seen = ns.seen + [{'role': m.role, 'size': m.content | length}] %}
{% if not (0 <= ns.n < 2) or m['role'] not in ['user', 'assistant'] %}{% continue %}{% endif %}
{% set ns.n = ns.n + (1 if loop.first else 2) %}{% set ns.last = loop.previtem.content if loop.previtem is defined else 'none' %}
{{ loop.cycle('a', 'b') ~ ':' ~ ns.n ~ ':' ~ ns.last }}
{% endfor %}
{% macro tree(t, deep=0) %}({{ deep }}{% for k, v in t | dictsort %}{{ k }}={% if v is mapping %}{{ tree(v, deep + 1) }}{% else %}{{ v or '-' }}{% endif %}{% endfor %}){% endmacro %}
{{ tree({'b': {'c': 1, 'd': {}}, 'a': ''}) }}
{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}

{{ (messages[1:] + messages[:1]) | map(attribute='role') | join(',') }} {{ messages[::-1][0].content.split(' ')[-1] | upper }}
{{ ns.seen | selectattr('role', 'equalto', 'user') | list | length }} {{ ns.seen[-1] | tojson }} {{ ns.seen[0] == {'role': 'user', 'size': 2} }} {{ {'a': ['b'] + ['c']} | tojson }}"#;

#[test]
fn templates_that_collect_compare_and_recurse_within_bounds_give_what_jinja2_gives() {
    let mut files = small().files().clone();
    files.insert("chat_template.jinja", SOUND);
    let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
    let turns = [("system", "be"), ("user", "hi"), ("assistant", "a b"), ("user", "more here")];
    let messages: Vec<Value> = turns.map(|(role, content)| turn(role, content)).to_vec();
    let tokenizer = Tokenizer::from_files(files).unwrap();
    let rendered = tokenizer.chat_template().unwrap().render(&json!({ "messages": messages })).unwrap();
    assert_eq!(rendered, EXPECTED);
}

#[test]
fn raised_exceptions_carry_the_templates_own_words() {
    let error = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
    assert!(error.to_string().contains("roles must alternate"), "{error}");
}

#[test]
fn templates_that_do_not_compile_are_refused_at_loading() {
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    for template in ["{% if %}", "{{ messages", &nested] {
        assert!(matches!(soon(|| render(template)), Err(TokenizerError::Template { .. })), "{template:.20}");
    }
}

#[test]
fn template_key_may_be_a_named_list_but_not_a_dictionary() {
    let load = |template: Value| {
        let mut files = small().files().clone();
        files.insert("tokenizer_config.json", json!({ "chat_template": template }).to_string());
        Tokenizer::from_files(files)
    };
    let named = json!([{ "name": "tool_use", "template": "t" }, { "name": "default", "template": "d" }]);
    let rendered = load(named).unwrap().chat_template().unwrap().render(&json!({})).unwrap();
    assert_eq!(rendered, "d");
    assert!(load(json!([{ "name": "tool_use", "template": "t" }])).is_err());
    assert!(load(json!({ "../../escape": "text" })).is_err());
    assert!(load(json!(7)).is_err());
    assert!(load(Value::Null).unwrap().chat_template().is_none());
}

#[test]
fn folder_without_a_template_cannot_encode_chats() {
    let tokenizer = Tokenizer::from_bytes(small().files().get("tokenizer.json").unwrap()).unwrap();
    let error = tokenizer.encode_chat(&[], &ChatOptions::default()).unwrap_err();
    assert!(matches!(error, TokenizerError::NoChatTemplate));
}

#[test]
fn damaged_tokenizers_are_refused() {
    for (pointer, value) in [
        ("/model/merges", json!([["a", "unknown"]])),
        ("/model/merges", json!(["a"])),
        ("/model/merges", json!([["a", "b"]])),
        ("/model/vocab/a", json!(1)),
        ("/model/vocab/a", json!(-1)),
        ("/model/vocab/a", json!(u32::MAX)),
        ("/model/vocab", json!({ "a": 0 })),
        ("/model/type", json!("WordPiece")),
        ("/model/dropout", json!(0.1)),
        ("/model/unk_token", json!("a")),
        ("/decoder", Value::Null),
        ("/pre_tokenizer", Value::Null),
        ("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("(")),
        ("/normalizer", json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aaaa" })),
        ("/added_tokens/0/lstrip", json!(true)),
        ("/added_tokens/0/content", json!("")),
        ("/added_tokens/0/content", json!("a")),
    ] {
        let error = soon(|| with(pointer, value.clone())).unwrap_err();
        assert!(error.to_string().contains("tokenizer.json"), "{pointer} {value}: {error}");
    }
}

#[test]
fn control_string_that_merges_can_spell_is_refused() {
    let merged = with("/added_tokens/0/content", json!("al")).unwrap_err();
    assert!(matches!(merged, TokenizerError::Unsupported { .. }), "{merged}");
}

#[test]
fn deep_huge_and_foreign_files_are_refused_within_a_second() {
    let deep = format!("{{\"model\":{}", "[".repeat(1_000_000));
    assert!(soon(|| Tokenizer::from_bytes(deep.as_bytes())).is_err());
    assert!(soon(|| Tokenizer::from_bytes(b"\xff\xfe")).is_err());
    let flat = format!("{{\"model\":{{\"merges\":[{}[]]}}}}", "[],".repeat(10_000_000));
    assert!(soon(|| Tokenizer::from_bytes(flat.as_bytes())).is_err());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = soon(|| Tokenizer::from_dir(dir.path())).unwrap_err();
    assert!(matches!(error, TokenizerError::TooLarge { .. }), "{error}");
    fs::remove_file(path).unwrap();
    assert!(matches!(Tokenizer::from_dir(dir.path()), Err(TokenizerError::Missing { .. })));
}

#[test]
fn vocabularies_and_merges_without_end_are_not_read_to_theirs() {
    let tokens: String = (1000..1_500_000).map(|id| format!("\"{id:x}\":{id},")).collect();
    let many = format!("{{\"model\":{{\"type\":\"BPE\",\"vocab\":{{{tokens}\"x\":0}},\"merges\":[]}}}}");
    let error = soon(|| Tokenizer::from_bytes(many.as_bytes())).unwrap_err();
    assert!(error.to_string().contains("300000"), "{error}");
    let merges = "\"a b\",".repeat(4_000_000);
    let many = format!("{{\"model\":{{\"type\":\"BPE\",\"vocab\":{{}},\"merges\":[{merges}\"a b\"]}}}}");
    let error = soon(|| Tokenizer::from_bytes(many.as_bytes())).unwrap_err();
    assert!(error.to_string().contains("300000"), "{error}");
}

#[test]
fn catastrophic_splitter_ends_within_a_second_and_loses_no_text() {
    let pattern = json!(r"(?=(a+)+b)x|(a|aa)+(?!a)b");
    let tokenizer = with("/pre_tokenizer/pretokenizers/0/pattern/Regex", pattern).unwrap();
    let text = "a".repeat(20_000);
    let ids = soon(|| tokenizer.encode(&text)).unwrap();
    assert_eq!(tokenizer.decode(&ids, patarm::tokenizer::Specials::Keep), text);
}
