use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use patarm::tokenizer::{Tokenizer, TokenizerFiles};
use serde_json::{Value, json};

use super::{Home, PAIRS, lines, refused, said, teach, verdict};

/// A template that opens the model's turn inside a thought, or after an empty one.
const TEMPLATE: &str = "{%- for message in messages %}\
    {{- '<|im_start|>' + message.role + '\\n' }}\
    {%- if message.role == 'assistant' %}{{- '<think>\\n</think>\\n\\n' }}{%- endif %}\
    {{- message.content + '<|im_end|>\\n' }}{%- endfor %}\
    {%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>' }}\
    {%- if not enable_thinking %}{{- '\\n</think>\\n\\n' }}{%- endif %}{%- endif %}";

/// The demo's tokenizer with these control tokens and this template.
fn tokenizer(tags: &[&str], template: &str) -> Tokenizer {
    let plain = patarm::demo::tokenizer().expect("the demo's tokenizer");
    let mut json: Value =
        serde_json::from_slice(plain.files().get("tokenizer.json").expect("every tokenizer has it"))
            .expect("JSON");
    let added = json["added_tokens"].as_array_mut().expect("control tokens");
    for (tag, id) in tags.iter().zip(plain.vocab_size()..) {
        added.push(json!({
            "id": id, "content": tag, "special": false, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false,
        }));
    }
    let mut files = TokenizerFiles::default();
    files.insert("tokenizer.json", json.to_string().as_bytes());
    let mut config: Value =
        serde_json::from_slice(plain.files().get("tokenizer_config.json").expect("the demo names its end"))
            .expect("JSON");
    config["chat_template"] = json!(template);
    files.insert("tokenizer_config.json", config.to_string().as_bytes());
    Tokenizer::from_files(files).expect("a sound tokenizer")
}

fn thinker() -> &'static Home {
    static HOME: OnceLock<Home> = OnceLock::new();
    HOME.get_or_init(|| teach(&tokenizer(&["<think>", "</think>"], TEMPLATE)))
}

#[test]
fn a_thought_over_its_budget_is_closed_and_the_judgement_follows() {
    let home = thinker();
    let (silent, _) = home.run("score", &[]);
    let (closed, _) = home.run("score", &["--thinking", "on", "--thinking-budget", "0"]);
    for ((plain, thought), score) in silent.iter().zip(&closed).zip(["8", "2.5", "3", "3"]) {
        assert_eq!(
            plain["text"],
            json!(verdict(score)),
            "without thinking the thought is empty, in the prompt"
        );
        assert_eq!(thought["text"], json!(format!("<think>\n</think>\n\n{}", verdict(score))));
        assert_eq!(thought["score"], plain["score"]);
    }
    let (longer, _) =
        home.run("score", &["--thinking", "on", "--thinking-budget", "7", "--max-new-tokens", "50"]);
    for line in longer {
        let text = line["text"].as_str().expect("text");
        assert!(text.starts_with("<think>"), "{text}");
        assert!(text.contains("</think>") || line["failure"] == json!("missing_tag"), "{line}");
    }
}

#[test]
fn expected_scores_follow_a_thought_that_the_prompt_began() {
    let how = ["--thinking", "on", "--thinking-budget", "0", "--reading", "expected"];
    let (lines, _) = thinker().run("score", &how);
    for (line, score) in lines.iter().zip([8.0, 2.5, 3.0, 3.0]) {
        assert!((line["expected"].as_f64().expect("a number") - score).abs() < 0.05, "{line}");
    }
}

#[test]
fn both_orders_can_be_thought_about() {
    let how = ["--thinking", "on", "--thinking-budget", "0", "--mode", "pairwise", "--temperature", "0"];
    let (found, _) = thinker().run("evaluate", &how);
    assert_eq!(found[0]["overall"]["flip_rate"], json!(0.5));
}

#[test]
fn training_thinks_in_its_rollouts_and_evaluations() {
    let home = thinker();
    let rows: String = (0..24)
        .map(|i| format!("{{\"prompt\":\"{i}+2?\",\"chosen\":\"{}\",\"rejected\":\"{i}\"}}\n", i + 2))
        .collect();
    let [model, tasks, out] = ["judge/model", "tasks", "run"].map(|name| home.path(name));
    let data = home.file("train.jsonl", &rows);
    let arguments = [
        "train",
        "--model",
        &model,
        "--data.rubrics",
        &tasks,
        "--data",
        &data,
        "--out",
        &out,
        "--thinking",
        "on",
        "--thinking-budget",
        "5",
        "--rl.steps",
        "2",
        "--rl.pairs",
        "2",
        "--rollout.samples",
        "2",
        "--rollout.max_new_tokens",
        "48",
        "--rl.leaf_tokens",
        "512",
        "--data.max_prompt_tokens",
        "200",
        "--evaluation.validation_pairs",
        "2",
        "--evaluation.held_out_pairs",
        "2",
        "--data.held_out_share",
        "0.3",
        "--evaluation.judgements",
        "1",
    ];
    let arguments: Vec<&str> = arguments.into_iter().collect();
    let result = said(&arguments).0;
    assert_eq!(result.last().expect("a result")["steps"], json!([0, 2]));
    let samples = lines(&fs::read_to_string(Path::new(&out).join("samples.jsonl")).expect("samples"));
    assert!(!samples.is_empty());
    for sample in samples {
        let text = sample["chosen"]["judgement"].as_str().expect("text");
        assert!(text.starts_with("<think>"), "{text}");
    }
}

#[test]
fn lengths_that_follow_from_the_longest_judgement_count_the_thought() {
    let print = |more: &[&str]| -> toml::Table {
        let start = ["train", "--data", "pairs.jsonl", "--rollout.max_new_tokens", "40", "--print-config"];
        let output = super::patarm(&[&start[..], more].concat());
        String::from_utf8(output.stdout).expect("UTF-8").parse().expect("TOML")
    };
    let lengths = |config: &toml::Table| {
        let [constant, limit] = [&config["rl"]["loss"]["constant"], &config["reward"]["overlong"]["limit"]];
        [constant.as_integer(), limit.as_integer()]
    };
    assert_eq!(lengths(&print(&[])), [Some(40); 2]);
    let thinking = print(&["--thinking", "on", "--thinking-budget", "100"]);
    assert_eq!(lengths(&thinking), [Some(40 + 1 + 100); 2], "the tag that opens a thought is drawn too");
    assert_eq!(thinking["rollout"]["thinking"].as_str(), Some("on"));
}

#[test]
fn models_that_cannot_think_are_refused_in_words() {
    let home = super::home();
    let [model, tasks, pairs] = ["judge/model", "tasks", "pairs.jsonl"].map(|name| home.path(name));
    let on = ["--thinking", "on"];
    for (command, input) in [("score", "--in"), ("evaluate", "--data")] {
        let start = [command, "--model", &model, "--rubrics", &tasks, input, &pairs];
        refused(2, "enable_thinking", &[&start[..], &on].concat());
    }
    let start =
        ["train", "--model", &model, "--data.rubrics", &tasks, "--data", &pairs, "--out", &home.path("no")];
    refused(2, "enable_thinking", &[&start[..], &on].concat());
    refused(2, "on", &["score", "--model", &model, "--in", &pairs, "--thinking", "maybe"]);

    let tagless = super::untaught(&tokenizer(&[], TEMPLATE));
    let input = tagless.file("pairs.jsonl", PAIRS);
    let start = ["score", "--model", &tagless.path("fresh"), "--in", &input];
    refused(2, "no token `<think>`", &[&start[..], &on].concat());

    let home = thinker();
    let [model, data] = ["judge/model", "pairs.jsonl"].map(|name| home.path(name));
    let start = ["train", "--model", &model, "--data.rubrics", &home.path("tasks"), "--data", &data, "--out"];
    let more = [
        &home.path("cold"),
        "--sft.steps",
        "3",
        "--data.held_out_share",
        "0",
        "--data.max_prompt_tokens",
        "200",
    ];
    refused(2, "rollout.thinking", &[&start[..], &more, &on].concat());
}
