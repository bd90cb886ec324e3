//! Rows 12 to 15: steps that go wrong.

use std::fs;
use std::path::Path;

use patarm::checkpoint::{ModelFolder, Scan};
use patarm::record::Finish;
use patarm::report::Row;
use patarm::reward::{CutOff, Judgement, Outcome, ParConfig, par, read};
use patarm::rubric::{FailureKind, Score};
use patarm::trainer::{Setup, TrainError};
use serde_json::Value;

use crate::program::{Home, patarm};
use crate::small_run::{Ear, Small, checkpoints, new_setup, state};

/// The small model with NaN in one embedding: in every row of logits.
fn poisoned(home: &Path) -> Setup {
    let run = home.join("sound");
    Small::new(&run, "sft.steps = 1\nrl.steps = 0").train(&mut Ear::default()).unwrap();
    let folder = checkpoints(&run).pop().unwrap();
    let weights = folder.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    Setup { folder: Some(ModelFolder::open(&folder).unwrap()), ..new_setup() }
}

/// Nothing is saved or judged on the way.
const NEVER: &str = "checkpoint.every = 99\nevaluation.every = 99";

fn value(row: &Row, name: &str) -> f64 {
    row.values.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no {name} in {row:?}")).1
}

fn json_lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn row_12_steps_whose_numbers_are_not_finite_are_left_out_written_down_and_end_the_run_after_k() {
    let home = tempfile::tempdir().unwrap();
    let setup = poisoned(home.path());
    for (phase, steps) in [("sft", "sft.steps = 4"), ("rl", "sft.steps = 0")] {
        let out = home.path().join(phase);
        let mut small =
            Small { setup: &setup, ..Small::new(&out, &format!("{steps}\nrl.patience = 3\n{NEVER}")) };
        small.config.model.scan = Scan::Skip;
        let mut ear = Ear::default();
        let result = small.train(&mut ear);
        assert!(matches!(result, Err(TrainError::Diverged { step: 3, times: 3, .. })), "{result:?}");
        assert!(ear.rows.iter().all(|row| value(row, "skipped") == 1.0), "{:?}", ear.rows);
        assert_eq!(checkpoints(&out).len(), 0, "what is not finite is never saved");
        for step in 1..=3 {
            let at = out.join(format!("left_out/step-{step:08}.jsonl"));
            let facts: Value = serde_json::from_slice(&fs::read(at.with_extension("json")).unwrap()).unwrap();
            assert_eq!(
                (&facts["step"], &facts["phase"], &facts["seed"]),
                (&step.into(), &phase.into(), &3.into())
            );
            assert!(facts["why"].as_str().unwrap().ends_with("is not finite"), "{facts}");
            let batch = json_lines(&at);
            if phase == "sft" {
                assert_eq!((facts["rows"].as_array().unwrap().len(), batch.len()), (4, 4));
                assert!(batch[0]["completion"].as_array().is_some_and(|tokens| !tokens.is_empty()));
            } else {
                assert_eq!((facts["rows"].as_array().unwrap().len(), batch.len()), (2, 8));
                assert_eq!(batch[0]["rollout"]["lse"][0], Value::Null, "what was not finite");
                assert_eq!((&batch[0]["side"], &batch[2]["side"]), (&"chosen".into(), &"rejected".into()));
            }
        }
    }
}

#[test]
fn row_12_a_run_that_diverges_ends_with_6_and_its_last_good_checkpoint_stays_and_goes_on() {
    let home = Home::new();
    let out = home.path("run");
    let small = ["--sft.rows", "2", "--rl.steps", "0", "--checkpoint.every", "1", "--checkpoint.keep", "1"];
    let run = |steps: &str, more: &[&str]| {
        let few = ["--evaluation.held_out_pairs", "2", "--evaluation.validation_pairs", "2"];
        patarm(&[&["train", "--out", &out, "--sft.steps", steps], &small[..], &few, more].concat())
    };
    run("2", &[]).well();
    let good = state(Path::new(&out));
    let resume = ["--resume", "--allow", "sft"];
    let absurd = ["--sft.optimizer.lr", "1e39"];
    run("4", &[&resume[..], &absurd].concat())
        .refused(6, &["is not finite", "the last good checkpoint stays"]);
    assert_eq!(state(Path::new(&out)), good);
    run("4", &resume).well();
    assert!(checkpoints(Path::new(&out)).pop().unwrap().ends_with("step-00000004"));
}

/// Weights of every step of the cold start, and the rows, where a step is out of line from half a deviation on.
fn guarded(outliers: &str) -> (Ear, Vec<Vec<u8>>) {
    let home = tempfile::tempdir().unwrap();
    let mut ear = Ear::default();
    let changes = format!(
        "sft.steps = 12\nrl.steps = 0\ncheckpoint.every = 1\ncheckpoint.keep = 99\nguard.z = 1.5\nguard.window = 4\n\
         guard.outliers = \"{outliers}\""
    );
    let progress = Small::new(home.path(), &changes).train(&mut ear).unwrap();
    assert_eq!(value(ear.rows.last().unwrap(), "outliers"), progress.seen.outliers as f64, "counted");
    assert!((1..8).contains(&progress.seen.outliers), "{}", progress.seen.outliers);
    assert_eq!(
        ear.notices.iter().filter(|n| n.contains("standard deviations")).count() as u64,
        progress.seen.outliers
    );
    let kept = home.path().join("left_out").exists();
    assert_eq!(kept, outliers == "skip", "a batch that was left out is written down");
    let weights = |path: &std::path::PathBuf| fs::read(path.join("model.safetensors")).unwrap();
    (ear, checkpoints(home.path()).iter().map(weights).collect())
}

#[test]
fn row_13_updates_out_of_line_are_left_out_or_clipped_as_set_counted_and_told() {
    for outliers in ["skip", "clip"] {
        let (ear, weights) = guarded(outliers);
        let mut before = 0.0;
        for (i, row) in ear.rows.iter().enumerate() {
            let outlying = row.values.iter().any(|(name, count)| name == "outliers" && *count > before);
            before += f64::from(u8::from(outlying));
            let skipped = outlying && outliers == "skip";
            assert_eq!(value(row, "skipped"), f64::from(u8::from(skipped)), "{row:?}");
            if i > 0 {
                assert_eq!(weights[i] == weights[i - 1], skipped, "step {}", row.step);
            }
        }
    }
}

/// A judgement with this in place of its score.
fn judgement(score: &str) -> Result<patarm::rubric::Verdict, patarm::rubric::VerdictError> {
    let text = format!("<rubric>\na: b (1)\n</rubric>\n<eval>\na: b\n</eval>\n<score>{score}</score>");
    read(&text, Finish::Stop)
}

#[test]
fn row_15_a_judgement_without_exactly_one_score_within_range_is_an_outcome_of_its_own() {
    assert_eq!(judgement("7").map(|verdict| verdict.score.value()), Ok(7.0));
    let failures = [
        (judgement(""), FailureKind::InvalidScore),
        (judgement("good"), FailureKind::InvalidScore),
        (judgement("11"), FailureKind::OutOfRange),
        (judgement("0.5"), FailureKind::OutOfRange),
        (judgement("7</score><score>8"), FailureKind::Doubled),
        (read("I like it: 7 of 10", Finish::Stop), FailureKind::MissingTag),
    ];
    for (read, expected) in failures {
        assert_eq!(read.as_ref().map_err(|error| error.kind()), Err(expected));
        let failed = [Judgement::from(&read)];
        let valid = [Judgement::Valid(Score::LOWEST)];
        let rewards = par(&failed, &valid, &ParConfig::default());
        assert!(
            rewards.chosen[0].reward().is_some_and(|reward| reward.0 < 0.0),
            "penalised, not 0: {expected:?}"
        );
        assert_eq!(rewards.chosen_mean, None, "it has no score");
    }
    let (cut, masks) = (
        Judgement::Failed(FailureKind::CutOff),
        ParConfig { cut_off: CutOff::Masked, ..ParConfig::default() },
    );
    assert_eq!(par(&[cut], &[cut], &masks).chosen, [Outcome::Masked(FailureKind::CutOff)]);
}

#[test]
fn row_15_judgements_without_a_verdict_are_masked_or_penalised_as_set_and_their_rate_is_logged() {
    // Four tokens are never a judgement.
    for set in ["penalised", "masked"] {
        let home = tempfile::tempdir().unwrap();
        let mut ear = Ear::default();
        Small::new(home.path(), &format!("reward.cut_off = \"{set}\"")).train(&mut ear).unwrap();
        let first = ear.rows.iter().find(|row| row.phase == "rl").unwrap();
        assert_eq!(value(first, "failure_rate"), 1.0);
        assert!(value(first, "failures/cut_off") > 0.5, "{first:?}");
        assert!(value(first, "reward") <= -1.0, "no judgement counts as 0 or one half: {first:?}");
        assert_eq!(value(first, "masked") > 0.0, set == "masked");
    }
}

#[test]
fn row_15_too_many_in_a_row_over_the_limit_end_the_run_with_7() {
    let home = tempfile::tempdir().unwrap();
    let mut ear = Ear::default();
    let changes = "guard.unread_limit = 0.5\nguard.unread_steps = 3";
    let result = Small::new(home.path(), changes).train(&mut ear);
    assert!(matches!(result, Err(TrainError::Unreadable { step: 7, times: 3, .. })), "{result:?}");
    assert_eq!(ear.rows.last().unwrap().step, 7, "what it ended over is in the log");
    Small::new(home.path(), "").resumed(&["guard"]).train(&mut Ear::default()).unwrap();

    let home = Home::new();
    let few = ["--sft.steps", "0", "--evaluation.held_out_pairs", "2", "--evaluation.validation_pairs", "2"];
    let short = ["--rl.pairs", "1", "--rollout.samples", "2", "--rollout.max_new_tokens", "4"];
    let limit = ["--out", &home.path("run"), "--guard.unread_limit", "0.5"];
    let arguments = [&["train"], &few[..], &short, &limit].concat();
    patarm(&arguments).refused(7, &["100.0 % of the judgements", "guard.unread_limit"]);
}

#[test]
fn row_14_where_every_group_has_equal_rewards_nothing_is_learned_and_the_share_is_logged() {
    let home = tempfile::tempdir().unwrap();
    let mut ear = Ear::default();
    // Four tokens are never a judgement: in the first step all fail alike and earn the same.
    let changes = "rl.loss = { kl = 0.0 }\nevaluation.every = 1\ncheckpoint.keep = 9";
    Small::new(home.path(), changes).train(&mut ear).unwrap();
    let first = ear.rows.iter().find(|row| row.phase == "rl").unwrap();
    assert!(first.values.contains(&("frac_reward_zero_std".into(), 1.0)), "{first:?}");
    let all = checkpoints(home.path());
    let weights = |step: u64| {
        let folder = all.iter().find(|path| path.ends_with(format!("step-{step:08}"))).unwrap();
        fs::read(folder.join("model.safetensors")).unwrap()
    };
    assert_eq!(weights(first.step - 1), weights(first.step));
}
