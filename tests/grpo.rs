//! Packing: what is in a leaf, what each target weighs, and what never changes a number.

use std::sync::Arc;

use patarm::device::{Device, DeviceChoice, Stream};
use patarm::dims;
use patarm::grpo::{
    Advantage, AdvantageConfig, DeadGroups, Example, Group, GrpoError, Life, Loss, LossConfig, Packed,
    Scored, Sharing, TrainBatch, pack, pack_examples,
};
use patarm::ops::attention::Source;
use patarm::ops::grpo_loss::Kl;
use patarm::record::{Finish, Rollout, Sampling, SeedKey};
use patarm::tensor::DType;
use patarm::tokenizer::TokenId;
use proptest::prelude::*;

/// A rollout whose tokens and numbers tell where they come from.
fn rollout(group: u32, sample: u32, prompt: usize, completion: usize) -> Rollout {
    let token = |i: usize| TokenId(100 * group + 10 * sample + i as u32);
    let number = |k: f32| (0..completion).map(|i| k + sample as f32 + i as f32 / 64.0).collect();
    Rollout {
        prompt: Arc::from((0..prompt).map(|i| TokenId(1000 + 100 * group + i as u32)).collect::<Vec<_>>()),
        group,
        completion: (0..completion).map(token).collect(),
        logprob: number(-10.0),
        lse: number(20.0),
        entropy: number(40.0),
        forced: Vec::new(),
        sampling: Sampling::default(),
        weights_version: 3,
        seed: SeedKey::default(),
        finish: Finish::Stop,
    }
}

/// Groups of (prompt length, completion lengths, life), with an advantage for every rollout.
type Shape = (usize, Vec<usize>, Life);

fn rollouts(shapes: &[Shape]) -> Vec<Vec<Rollout>> {
    let group = |(g, shape): (usize, &Shape)| {
        let lengths = shape.1.iter().enumerate();
        lengths.map(|(s, length)| rollout(g as u32, s as u32, shape.0, *length)).collect()
    };
    shapes.iter().enumerate().map(group).collect()
}

fn groups<'a>(shapes: &[Shape], rollouts: &'a [Vec<Rollout>]) -> Vec<Group<'a>> {
    let scored = |rollout: &'a Rollout| Scored {
        rollout,
        advantage: Some(Advantage(f64::from(rollout.group) + f64::from(rollout.completion[0].0) / 8.0)),
        reference: Some(&rollout.logprob),
    };
    let pairs = shapes.iter().zip(rollouts);
    pairs.map(|(shape, of)| Group { rollouts: of.iter().map(scored).collect(), life: shape.2 }).collect()
}

fn packed(shapes: &[Shape], loss: &LossConfig, sharing: Sharing, capacity: usize) -> TrainBatch {
    let rollouts = rollouts(shapes);
    pack(&groups(shapes, &rollouts), loss, sharing, capacity).expect("every family fits")
}

fn shapes() -> Vec<Shape> {
    vec![(5, vec![4, 1, 3], Life::Alive), (2, vec![2, 2], Life::Equal), (3, vec![6, 2], Life::Alive)]
}

/// The whole sequence up to and including a packed row, through its span's ancestors.
fn context(packed: &Packed, row: usize) -> Vec<u32> {
    let span = packed.spans.iter().find(|span| span.queries.contains(&row)).expect("a span has the row");
    let own = &packed.tokens[span.queries.start..=row];
    let Source::Packed { parent } = &span.source else { panic!("training reads no cache") };
    let before = match parent {
        None => Vec::new(),
        Some(parent) => context(packed, packed.spans[*parent].queries.end - 1),
    };
    assert_eq!(before.len(), span.start, "a span starts after its parent's tokens");
    let all = [&before, own].concat();
    assert_eq!(packed.positions[row] as usize + 1, all.len());
    all
}

/// Every target as (sequence, context, token, numbers): what a batch says, wherever it lies.
fn statements(packed: &Packed) -> Vec<(u32, Vec<u32>, u32, String)> {
    let stored = packed.stored_at(3).expect("all rollouts have version 3");
    let one = |i: usize| {
        let numbers = (
            [packed.weight[i], packed.kl_weight[i], packed.entropy_weight[i], packed.advantage[i]],
            [packed.behaviour[i], packed.reference[i], stored.lse[i], stored.entropy[i]],
        );
        let context = context(packed, packed.targets.rows[i] as usize);
        (packed.targets.sequence[i], context, packed.targets.ids[i], format!("{numbers:?}"))
    };
    (0..packed.targets.ids.len()).map(one).collect()
}

#[test]
fn every_target_is_predicted_from_exactly_what_stands_before_it() {
    let shapes = shapes();
    let batch = packed(&shapes, &LossConfig { kl: 0.1, ..LossConfig::default() }, Sharing::Prefix, 64);
    let found = statements(&Packed::join(&batch.leaves));
    let mut expected = Vec::new();
    for (index, rollout) in rollouts(&shapes).iter().flatten().enumerate() {
        let ids: Vec<u32> = rollout.prompt.iter().chain(&rollout.completion).map(|id| id.0).collect();
        for i in 0..rollout.completion.len() {
            let at = rollout.prompt.len() + i;
            expected.push((index as u32, ids[..at].to_vec(), ids[at]));
        }
    }
    let found: Vec<_> = found.into_iter().map(|(sequence, context, id, _)| (sequence, context, id)).collect();
    assert_eq!(found, expected);
}

#[test]
fn shared_and_repeated_prompts_say_the_same_and_sharing_takes_fewer_rows() {
    for loss in [Loss::Grpo, Loss::Dapo] {
        let config = LossConfig { loss, kl: 0.1, ..LossConfig::default() };
        let [shared, repeated] =
            [Sharing::Prefix, Sharing::Off].map(|sharing| packed(&shapes(), &config, sharing, 64));
        assert_eq!(statements(&Packed::join(&shared.leaves)), statements(&Packed::join(&repeated.leaves)));
        assert_eq!(shared.counts.rows, 5 + 5 + 2 + 2 + 3 + 6);
        assert_eq!(repeated.counts.rows, shared.counts.rows + 2 * 5 + 2 + 3);
    }
}

#[test]
fn tokens_that_were_not_drawn_weigh_nothing_and_the_rest_weigh_what_they_would_without_them() {
    let shapes = vec![(5, vec![4, 3], Life::Alive), (3, vec![6, 2], Life::Alive)];
    for loss in [Loss::Grpo, Loss::Dapo] {
        let config = LossConfig { loss, kl: 0.1, ..LossConfig::default() };
        let mut rollouts = rollouts(&shapes);
        rollouts[1][0].forced = vec![1, 2];
        let batch = pack(&groups(&shapes, &rollouts), &config, Sharing::Prefix, 64).expect("it fits");
        let all = Packed::join(&batch.leaves);
        let drawn = [4.0, 3.0, 4.0, 2.0];
        for weights in [&all.weight, &all.kl_weight, &all.entropy_weight] {
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            for (i, weight) in weights.iter().enumerate() {
                assert_eq!(*weight == 0.0, [8, 9].contains(&i), "target {i}");
            }
        }
        for (weight, sequence) in all.weight.iter().zip(&all.targets.sequence) {
            let expected = match loss {
                Loss::Grpo => 1.0 / (4.0 * drawn[*sequence as usize]),
                _ => 1.0 / 13.0,
            };
            assert!(*weight == 0.0 || (weight - expected).abs() < 1e-15);
        }
        assert_eq!(all.behaviour.len(), all.weight.len(), "the record stays whole");
    }
}

#[test]
fn weights_are_normalised_over_the_whole_step_by_each_variant() {
    let live: [&[usize]; 2] = [&[4, 1, 3], &[6, 2]];
    for loss in [Loss::Grpo, Loss::DrGrpo, Loss::Dapo, Loss::Gspo] {
        let config = LossConfig { loss, constant: 4, kl: 0.1, ..LossConfig::default() };
        let all = Packed::join(&packed(&shapes(), &config, Sharing::Prefix, 11).leaves);
        // By dr_grpo a step of long sequences weighs more: 16 live tokens in 5 sequences, 20 tokens in all 7.
        let [policy, kl] = if loss == Loss::DrGrpo { [16.0 / 20.0, 20.0 / 28.0] } else { [1.0, 1.0] };
        for (weights, sum) in [(&all.weight, policy), (&all.kl_weight, kl), (&all.entropy_weight, 1.0)] {
            assert!((weights.iter().sum::<f64>() - sum).abs() < 1e-12);
        }
        let expected: Vec<f64> = [live[0], &[0, 0], live[1]]
            .concat()
            .iter()
            .zip([4, 1, 3, 2, 2, 6, 2])
            .flat_map(|(counted, length)| {
                let weight = match (counted, loss) {
                    (0, _) => 0.0,
                    (_, Loss::DrGrpo) => 1.0 / (5.0 * 4.0),
                    (_, Loss::Grpo | Loss::Gspo) => 1.0 / (5.0 * f64::from(length)),
                    (_, Loss::Dapo) => 1.0 / 16.0,
                };
                vec![weight; length as usize]
            })
            .collect();
        assert_eq!(all.weight, expected);
        assert!(all.entropy_weight.iter().zip(&expected).all(|(w, e)| (*w > 0.0) == (*e > 0.0)));
    }
}

#[test]
fn groups_with_equal_rewards_leave_the_batch_unless_the_kl_term_keeps_them() {
    let plain = LossConfig::default();
    let rows = |config: &LossConfig| {
        let batch = packed(&shapes(), config, Sharing::Prefix, 64);
        (batch.counts.sequences, batch.counts.targets)
    };
    assert_eq!(rows(&plain), (5, 16));
    assert_eq!(rows(&LossConfig { entropy: 0.1, ..plain }), (5, 16));
    assert_eq!(rows(&LossConfig { kl: 0.1, ..plain }), (7, 20));
    assert_eq!(rows(&LossConfig { kl: 0.1, dead_groups: DeadGroups::Drop, ..plain }), (5, 16));
}

#[test]
fn masked_rollouts_and_dead_groups_are_counted() {
    let shapes = shapes();
    let rollouts = rollouts(&shapes);
    let mut groups = groups(&shapes, &rollouts);
    groups[0].rollouts[1].advantage = None;
    groups.push(Group { rollouts: Vec::new(), life: Life::TooFew });
    let batch = pack(&groups, &LossConfig::default(), Sharing::Prefix, 64).expect("it fits");
    let counts = batch.counts;
    assert_eq!([counts.groups, counts.alive, counts.equal, counts.too_few, counts.masked], [4, 2, 1, 1, 1]);
    let all = Packed::join(&batch.leaves);
    assert!(!all.targets.sequence.contains(&1) && all.targets.sequence.contains(&2));
    assert_eq!(all.weight[0], 1.0 / (4.0 * 4.0));
}

#[test]
fn a_step_without_a_live_group_has_no_leaves() {
    let batch = packed(&[(3, vec![2, 2], Life::Equal)], &LossConfig::default(), Sharing::Prefix, 8);
    assert!(batch.leaves.is_empty());
    assert_eq!(Packed::join(&batch.leaves).leaves().tokens(), 0);
}

#[test]
fn stored_numbers_are_given_only_for_the_weights_that_drew_them() {
    let shapes = shapes();
    let mut rollouts = rollouts(&shapes);
    let config = LossConfig::default();
    let all = |rollouts: &[Vec<Rollout>]| {
        Packed::join(&pack(&groups(&shapes, rollouts), &config, Sharing::Prefix, 16).expect("it fits").leaves)
    };
    assert!(all(&rollouts).stored_at(3).is_some() && all(&rollouts).stored_at(4).is_none());
    rollouts[2][1].weights_version = 4;
    assert!(all(&rollouts).stored_at(3).is_none() && all(&rollouts).stored_at(4).is_none());
}

#[test]
fn what_does_not_fit_or_agree_is_refused_by_name() {
    let shapes = shapes();
    let config = LossConfig { kl: 0.1, ..LossConfig::default() };
    let refused = |change: &dyn Fn(&mut Vec<Vec<Rollout>>), capacity| {
        let mut rollouts = rollouts(&shapes);
        change(&mut rollouts);
        pack(&groups(&shapes, &rollouts), &config, Sharing::Prefix, capacity)
            .expect_err("refused")
            .to_string()
    };
    assert!(refused(&|_| (), 7).starts_with("sequence 0 needs 8 rows, a leaf has 7"));
    assert!(refused(&|r| r[1][1].prompt = Arc::from([TokenId(1)]), 64).starts_with("group 1: its rollouts"));
    assert!(refused(&|r| r[2][0].lse.truncate(1), 64).starts_with("sequence 5: 1 LSE values for 6 tokens"));
    let rollouts = rollouts(&shapes);
    let mut groups = groups(&shapes, &rollouts);
    groups[2].rollouts[0].reference = None;
    let error = pack(&groups, &config, Sharing::Prefix, 64).expect_err("refused");
    assert!(matches!(error, GrpoError::NoReference { sequence: 5 }));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let default = LossConfig::default();
    assert!(LossConfig { dual_clip: Some(1.3), kl_form: Kl::K2, ..default }.check().is_ok());
    assert!(default.check().is_ok() && AdvantageConfig::default().check().is_ok());
    let broken = [
        ("loss.clip_low", LossConfig { clip_low: 1.5, ..default }),
        ("loss.clip_high", LossConfig { clip_high: f64::NAN, ..default }),
        ("loss.constant", LossConfig { loss: Loss::DrGrpo, ..default }),
        ("loss.dual_clip", LossConfig { dual_clip: Some(1.2), ..default }),
        ("loss.dual_clip", LossConfig { dual_clip: Some(f64::INFINITY), ..default }),
        ("loss.kl", LossConfig { kl: -0.1, ..default }),
        ("loss.entropy", LossConfig { entropy: f64::INFINITY, ..default }),
    ];
    for (setting, config) in broken {
        let error = config.check().expect_err(setting).to_string();
        assert!(error.starts_with(&format!("{setting} = ")), "{error}");
    }
    let error = LossConfig { kl_form: Kl::K1, ..default }.check().expect_err("refused").to_string();
    assert!(error.starts_with("loss.kl_form: k1 in the loss") && error.contains("whose mean"), "{error}");
    assert!(AdvantageConfig { eps: 0.0, ..AdvantageConfig::default() }.check().is_err());
}

#[test]
fn supervised_examples_learn_their_completion_only() {
    let (prompt, completion): (Vec<u32>, Vec<u32>) = ((0..5).collect(), (50..53).collect());
    let examples = [Example { prompt: &prompt, completion: &completion }; 3];
    let batch = pack_examples(&examples, 14).expect("two fit a leaf");
    assert_eq!(batch.leaves.len(), 2);
    let all = Packed::join(&batch.leaves);
    let stream = Stream::new(Device::open(DeviceChoice::Cpu, 1).unwrap());
    assert_eq!(all.targets.ids, [50, 51, 52].repeat(3));
    assert_eq!(all.targets.rows, [4, 5, 6, 11, 12, 13, 18, 19, 20]);
    assert!(all.weight.iter().all(|w| *w == 1.0 / 9.0));
    assert_eq!(patarm::grpo::supervised(&stream, &all, DType::F64).unwrap().dims(), dims![N: 9]);
    assert!(pack_examples(&examples, 6).is_err());
}

fn shape() -> impl Strategy<Value = Shape> {
    let life = prop_oneof![Just(Life::Alive), Just(Life::Equal), Just(Life::TooFew)];
    (1usize..9, prop::collection::vec(1usize..9, 0..6), life)
}

proptest! {
    #[test]
    fn leaves_hold_whole_families_and_any_capacity_says_the_same(
        shapes in prop::collection::vec(shape(), 1..6),
        capacity in 16usize..80,
        dapo in any::<bool>(),
    ) {
        let loss = if dapo { Loss::Dapo } else { Loss::Grpo };
        let config = LossConfig { loss, kl: 0.1, ..LossConfig::default() };
        let batch = packed(&shapes, &config, Sharing::Prefix, capacity);
        let whole = Packed::join(&packed(&shapes, &config, Sharing::Prefix, 10_000).leaves);
        let joined = Packed::join(&batch.leaves);
        let of_leaves: Vec<_> = batch.leaves.iter().flat_map(statements).collect();
        if batch.leaves.is_empty() {
            prop_assert!(whole.tokens.is_empty());
        } else {
            prop_assert_eq!(statements(&joined), statements(&whole));
            prop_assert_eq!(of_leaves, statements(&whole));
        }
        let mut row = 0;
        for (leaf, range) in batch.leaves.iter().zip(joined.leaves().ranges()) {
            prop_assert!(leaf.tokens.len() <= capacity);
            prop_assert_eq!(range, row..row + leaf.tokens.len());
            row += leaf.tokens.len();
            let covered: Vec<usize> = leaf.spans.iter().flat_map(|span| span.queries.clone()).collect();
            prop_assert!(covered.iter().copied().eq(0..leaf.tokens.len()));
        }
        prop_assert_eq!(joined.target_leaves().tokens(), batch.counts.targets);
        prop_assert_eq!(row, batch.counts.rows);
    }
}
