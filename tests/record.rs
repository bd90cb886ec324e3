//! Replay files: what is written is read back to the bit, and nothing unsound passes.

use std::path::Path;
use std::sync::Arc;

use patarm::record::{
    Finish, JudgedRollout, RecordError, ReplayReader, ReplayWriter, Rollout, Sampling, SeedKey, Side,
};
use patarm::tokenizer::TokenId;
use proptest::prelude::*;

fn judged(logprob: Vec<f32>, reward: Option<f64>) -> JudgedRollout {
    let rollout = Rollout {
        prompt: Arc::from([TokenId(1), TokenId(u32::MAX)]),
        group: 3,
        completion: vec![TokenId(7); logprob.len()],
        lse: logprob.iter().map(|value| -value).collect(),
        entropy: logprob.clone(),
        logprob,
        forced: Vec::new(),
        sampling: Sampling { temperature: 0.1, top_k: 5, top_p: 0.3, min_p: 0.7 },
        weights_version: u64::MAX,
        seed: SeedKey { run: u64::MAX, step: 1, group: 3, sample: 9 },
        finish: Finish::Length,
    };
    let text = "a \"quoted\"\nline\u{2028} é \u{0}".into();
    JudgedRollout {
        reference: None,
        policy: None,
        pair: "p".into(),
        side: Side::Rejected,
        text,
        score: None,
        failure: Some("cut_off".into()),
        reward,
        rollout,
    }
}

fn written(rows: &[JudgedRollout]) -> Result<Vec<u8>, RecordError> {
    let mut writer = ReplayWriter::new(Vec::new(), Path::new("replay.jsonl"));
    rows.iter().try_for_each(|row| writer.write(row))?;
    writer.finish()
}

fn read(bytes: &[u8]) -> Vec<Result<JudgedRollout, RecordError>> {
    ReplayReader::new(bytes, Path::new("replay.jsonl")).collect()
}

fn bits(row: &JudgedRollout) -> (Vec<u32>, Option<u64>) {
    let Rollout { logprob, lse, entropy, sampling, .. } = &row.rollout;
    let sampling = [sampling.temperature, sampling.top_p, sampling.min_p];
    let values = logprob.iter().chain(lse).chain(entropy).chain(&sampling);
    (values.map(|value| value.to_bits()).collect(), row.reward.map(f64::to_bits))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn every_finite_number_comes_back_to_the_bit(
        patterns in prop::collection::vec(any::<u32>(), 0..40), reward in prop::option::of(any::<u64>()),
    ) {
        let logprob = patterns.into_iter().map(f32::from_bits).filter(|value| value.is_finite()).collect();
        let row = judged(logprob, reward.map(f64::from_bits).filter(|value| value.is_finite()));
        let back = read(&written(std::slice::from_ref(&row)).expect("all is finite"));
        prop_assert_eq!(back.len(), 1);
        let back = back[0].as_ref().expect("it was just written");
        prop_assert_eq!(bits(back), bits(&row));
        prop_assert_eq!(back, &row);
    }
}

#[test]
fn neighbours_share_their_prompt_again() {
    let rows = [judged(vec![-0.0], Some(1.2)), judged(vec![f32::MIN_POSITIVE / 2.0], None)];
    let back: Vec<_> = read(&written(&rows).unwrap()).into_iter().map(Result::unwrap).collect();
    assert_eq!(back, rows);
    assert!(Arc::ptr_eq(&back[0].rollout.prompt, &back[1].rollout.prompt));
}

#[test]
fn numbers_that_json_cannot_hold_are_refused_and_nothing_is_written() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = written(&[judged(vec![0.0, bad], None)]).unwrap_err();
        assert!(
            matches!(error, RecordError::NotFinite { line: 1, field: "logprob", index: 1, .. }),
            "{error}"
        );
    }
    let error = written(&[judged(vec![0.0], None), judged(vec![0.0], Some(f64::NAN))]).unwrap_err();
    assert!(matches!(error, RecordError::NotFinite { line: 2, field: "reward", .. }), "{error}");
    let mut short = judged(vec![0.0; 3], None);
    short.rollout.entropy.pop();
    let mut writer = ReplayWriter::new(Vec::new(), Path::new("replay.jsonl"));
    let error = writer.write(&short).unwrap_err();
    assert!(matches!(error, RecordError::Length { field: "entropy", expected: 3, found: 2, .. }), "{error}");
    assert!(writer.finish().unwrap().is_empty());
}

#[test]
fn damaged_lines_are_named_by_file_and_line() {
    let good = written(&[judged(vec![-1.5], Some(1.4))]).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    for bad in [
        good[..good.len() / 2].to_vec(),
        text.replace("-1.5", "null").into_bytes(),
        text.replace("\"lse\":[1.5]", "\"lse\":[]").into_bytes(),
        text.replace("\"group\":3,\"c", "\"group\":-3,\"c").into_bytes(),
        text.replace("\"pair\"", "\"extra\":1,\"pair\"").into_bytes(),
        [&b"\xff"[..], &good].concat(),
        b"\n".to_vec(),
    ] {
        assert_ne!(bad, good);
        let back = read(&[&good[..], &bad].concat());
        assert!(back[0].is_ok());
        let error = back[1].as_ref().unwrap_err().to_string();
        assert!(error.starts_with("replay.jsonl:2: "), "{error}");
    }
}

#[test]
fn forced_places_come_back_and_must_be_places() {
    let mut row = judged(vec![-1.0; 4], None);
    assert!(!String::from_utf8(written(std::slice::from_ref(&row)).unwrap()).unwrap().contains("forced"));
    row.rollout.forced = vec![1, 2];
    assert_eq!(row.rollout.drawn(), 2);
    let back = read(&written(std::slice::from_ref(&row)).unwrap()).remove(0).unwrap();
    assert_eq!(back, row);
    for bad in [vec![4], vec![2, 1], vec![1, 1]] {
        row.rollout.forced = bad;
        let error = written(std::slice::from_ref(&row)).unwrap_err();
        assert!(matches!(error, RecordError::Forced { line: 1, expected: 4, .. }), "{error}");
    }
}
