//! All parts of the method in one run.

use crate::small_run::{Ear, state};
use crate::writer::{rows, run, value};

const ALL: &str = "rl.epochs = 2
rl.minibatches = 2
rl.resample = 2
rl.record_every = 2
rl.reference = { kind = \"synchronised\", every = 3 }
rl.reward_kl = { coefficient = 0.05, form = \"k2\" }
rl.advantage = { estimator = \"rloo\" }
reward.overlong = { cache = 4 }";

const LOSSES: [&str; 4] = [
    "rl.loss = { loss = \"grpo\", kl = 0.02, kl_form = \"k2\" }",
    "rl.loss = { loss = \"dr_grpo\", dual_clip = 3.0 }",
    "rl.loss = { loss = \"dapo\", clip_high = 0.28, entropy = 0.01 }",
    "rl.loss = { loss = \"gspo\", clip_low = 3e-4, clip_high = 4e-4 }",
];

#[test]
fn every_loss_trains_with_all_the_rest_and_resumes_to_the_bit_from_the_middle() {
    let mut ends = Vec::new();
    for loss in LOSSES {
        let changes = format!("{ALL}\n{loss}");
        let [whole, broken] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let steps = rows(run(whole.path(), &changes)).unwrap().0;
        for row in &steps {
            let finite = |(name, x): &(String, f64)| name == "tokens_per_second" || x.is_finite();
            assert!(row.values.iter().all(finite), "{loss}: {row:?}");
            assert_eq!((value(row, "on_policy_gap"), value(row, "skipped")), (0.0, 0.0), "{loss}");
        }
        assert!(steps.iter().any(|row| value(row, "ratio/mean") != 1.0), "{loss}");
        let mut ear = Ear { stop_after: Some(3), ..Ear::default() };
        run(broken.path(), &changes).train(&mut ear).unwrap();
        run(broken.path(), &changes).resumed(&[]).train(&mut Ear::default()).unwrap();
        assert_eq!(state(whole.path()), state(broken.path()), "{loss}");
        ends.push(state(whole.path()));
    }
    ends.sort();
    ends.dedup();
    assert_eq!(ends.len(), LOSSES.len(), "each loss leads elsewhere");
}
