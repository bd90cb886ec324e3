//! The checkpoints of a run: damage is noticed, the best and the last are kept.

use std::fs;

use patarm::checkpoint::{Better, CheckpointError, Checkpoints, Keep, LocalDisk, MARKER, Save, State};
use serde_json::json;

use super::{config, named, weights};

fn save(run: &Checkpoints, step: u64, score: Option<f64>) -> Result<(), CheckpointError> {
    let (weights, config, facts) = (weights(), config(), json!({}));
    let (views, moments) = (named(&weights), named(&weights));
    let state = State { step, score, facts: &facts, tensors: &moments };
    run.save(&LocalDisk, &Save { state: Some(state), ..Save::new(&config, &views) }).map(|_| ())
}

fn steps(run: &Checkpoints) -> Vec<u64> {
    run.complete().expect("listed").into_iter().map(|(_, marker)| marker.step).collect()
}

fn keep(last: usize, better: Better) -> (tempfile::TempDir, Checkpoints) {
    let folder = tempfile::tempdir().expect("a folder");
    let run = Checkpoints::new(folder.path().join("checkpoints"), Keep { last, better });
    (folder, run)
}

#[test]
fn a_run_that_saved_nothing_has_no_checkpoint() {
    let (_folder, run) = keep(1, Better::Higher);
    assert!(run.newest().expect("no folder is no error").is_none());
    assert!(run.best().expect("no folder is no error").is_none());
}

#[test]
fn a_flipped_bit_in_any_file_of_the_newest_is_noticed_and_the_one_before_is_found() {
    let (_folder, run) = keep(3, Better::Higher);
    save(&run, 1, None).expect("saved");
    save(&run, 2, None).expect("saved");
    let newest = run.newest().expect("listed").expect("there");
    let files: Vec<_> = newest.marker.files.keys().map(String::as_str).chain([MARKER]).collect();
    assert_eq!(files.len(), 5);
    for file in files {
        let path = newest.path.join(file);
        let sound = fs::read(&path).expect("read");
        for at in [0, sound.len() / 2, sound.len() - 1] {
            let mut flipped = sound.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, &flipped).expect("written");
            let found = run.newest().expect("listed").expect("the one before");
            assert_eq!((found.marker.step, found.passed_over.len()), (1, 1), "{file}, byte {at}");
        }
        fs::write(&path, &sound[..sound.len() - 1]).expect("cut");
        assert_eq!(run.newest().expect("listed").expect("the one before").marker.step, 1, "{file}, cut");
        fs::write(&path, &sound).expect("restored");
    }
    assert_eq!(run.newest().expect("listed").expect("restored").marker.step, 2);
}

#[test]
fn the_best_and_the_last_are_kept() {
    let (_folder, run) = keep(2, Better::Higher);
    for (step, score) in [(1, 0.5), (2, 0.9), (3, 0.7), (4, 0.6), (5, 0.8)] {
        save(&run, step, Some(score)).expect("saved");
    }
    assert_eq!(steps(&run), [2, 4, 5]);
    assert_eq!(run.best().expect("listed").expect("scored").1.step, 2);
    save(&run, 6, Some(0.9)).expect("saved");
    assert_eq!(steps(&run), [5, 6], "of equal scores the newer one is the best");
}

#[test]
fn a_lower_score_can_be_the_better_one_and_none_is_never_the_best() {
    let (_folder, run) = keep(1, Better::Lower);
    for (step, score) in [(1, Some(2.0)), (2, Some(1.0)), (3, None), (4, Some(f64::NAN))] {
        save(&run, step, score).expect("saved");
    }
    assert_eq!(steps(&run), [2, 4]);
}

#[test]
fn a_step_saved_before_it_was_judged_is_saved_again_with_its_score() {
    let (_folder, run) = keep(2, Better::Higher);
    for (step, score) in [(1, Some(0.5)), (2, None), (2, Some(0.4))] {
        save(&run, step, score).expect("saved");
    }
    let found = run.complete().expect("listed");
    assert_eq!(
        found.iter().map(|(_, m)| (m.step, m.score)).collect::<Vec<_>>(),
        [(1, Some(0.5)), (2, Some(0.4))]
    );
    assert!(matches!(save(&run, 2, Some(0.4)), Err(CheckpointError::Exists { .. })));
}

#[test]
fn a_sound_checkpoint_is_not_saved_over_but_a_damaged_one_is() {
    let (_folder, run) = keep(2, Better::Higher);
    save(&run, 1, None).expect("saved");
    assert!(matches!(save(&run, 1, None), Err(CheckpointError::Exists { .. })));
    let path = run.newest().expect("listed").expect("there").path;
    fs::write(path.join("state.json"), b"{}").expect("damaged");
    let error = run.newest().expect_err("to begin anew is not the program's to decide");
    assert!(error.to_string().contains("no sound checkpoint"), "{error}");
    save(&run, 1, None).expect("a run that fell back comes here again");
    assert_eq!(run.newest().expect("listed").expect("there").marker.step, 1);
}
