//! Losses, their coefficients and advantages against TRL's and verl's own functions (tests/golden/losses.py), in f64.

use patarm::device::{Device, DeviceChoice, Stream};
use patarm::dims;
use patarm::grpo::{
    AdvantageConfig, Estimator, Life, Rewarded, advantages, sequence_mean, sum_over_constant, token_mean,
};
use patarm::ops::Leaves;
use patarm::ops::grpo_loss::{GrpoLoss, Kl, LossGradient, LossSums, PolicyTokens, Ratio, forward_backward};
use patarm::ops::head::{self, Coefficients, HeadGradient, HeadInput, Logprobs, Lse, Scratch};
use patarm::reward::Reward;
use patarm::tensor::{Arena, DType, Tensor};
use serde::Deserialize;

const TOLERANCE: f64 = 1e-10;

#[derive(Deserialize)]
struct Golden {
    batches: Vec<Batch>,
    advantages: Vec<Estimate>,
    heads: Vec<Head>,
}

#[derive(Deserialize)]
struct Estimate {
    name: String,
    rewards: Vec<Option<f64>>,
    groups: Vec<usize>,
    lengths: Vec<usize>,
    advantages: Vec<f64>,
}

type Matrix = Vec<Vec<f64>>;

#[derive(Deserialize)]
struct Batch {
    name: String,
    inputs: Inputs,
    losses: Vec<Loss>,
}

#[derive(Deserialize)]
struct Inputs {
    mask: Matrix,
    logprob: Matrix,
    old_logprob: Matrix,
    reference_logprob: Matrix,
    entropy: Matrix,
    advantage: Vec<f64>,
}

#[derive(Deserialize)]
struct Loss {
    name: String,
    settings: Settings,
    loss: f64,
    d_logprob: Matrix,
    d_entropy: Matrix,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    low: f64,
    high: f64,
    beta: f64,
    entropy_coef: f64,
    on_policy: bool,
    delta: Option<f64>,
    dual: Option<f64>,
}

#[derive(Deserialize)]
struct Head {
    temperature: f64,
    logits: Matrix,
    targets: Vec<u32>,
    d_logprob: Vec<f64>,
    d_entropy: Vec<f64>,
    logprob: Vec<f64>,
    entropy: Vec<f64>,
    d_logits: Matrix,
}

fn golden() -> Golden {
    let text = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/losses.json"))
        .expect("a golden file");
    serde_json::from_slice(&text).expect("losses.json as losses.py writes it")
}

fn stream() -> Stream {
    Stream::new(Device::open(DeviceChoice::Cpu, 1).expect("a CPU"))
}

/// Every element within `TOLERANCE` of the reference, as a share of 1 or of the reference, whichever is larger.
fn assert_close(what: &str, ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let close = (a - b).abs() <= TOLERANCE * b.abs().max(1.0);
        assert!(close, "{what}: element {i} is {a:e}, the reference says {b:e}");
    }
}

/// The packed tokens of a batch: positions (sequence, column) that the mask keeps.
struct Tokens<'a> {
    inputs: &'a Inputs,
    places: Vec<(usize, usize)>,
}

impl<'a> Tokens<'a> {
    fn of(inputs: &'a Inputs) -> Self {
        let row = |s: usize| (0..inputs.mask[s].len()).map(move |t| (s, t));
        let places =
            (0..inputs.mask.len()).flat_map(row).filter(|&(s, t)| inputs.mask[s][t] != 0.0).collect();
        Self { inputs, places }
    }

    fn column(&self, of: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        self.places.iter().map(|&(s, t)| of(s, t)).collect()
    }

    fn take(&self, matrix: &Matrix) -> Vec<f64> {
        self.column(|s, t| matrix[s][t])
    }

    /// Tokens of each sequence that count.
    fn lengths(&self) -> Vec<f64> {
        self.inputs.mask.iter().map(|row| row.iter().sum()).collect()
    }

    /// The weight of each token under the normalisation that the record's name says.
    fn weights(&self, name: &str) -> Vec<f64> {
        let (lengths, all) = (self.lengths(), self.places.len() as f64);
        let (sequences, counted) =
            (lengths.len() as f64, lengths.iter().filter(|&&n| n > 0.0).count() as f64);
        self.column(|s, _| match name {
            _ if name.starts_with("trl_grpo") => 1.0 / (sequences * lengths[s]),
            _ if name.starts_with("trl_dr_grpo") => 1.0 / (sequences * 16.0),
            "verl_sequence_sum" => 1.0 / counted,
            _ if name.starts_with("verl_sequence_sum_norm") => 1.0 / (counted * 16.0),
            // verl adds to the lengths; see the test of the packing's weights.
            _ if name.ends_with("sequence_mean") => 1.0 / (counted * (lengths[s] + 1e-8)),
            _ => 1.0 / all,
        })
    }
}

fn vector(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, dims![N: values.len()])
}

/// Our loss, dL/dlogp and dL/dH on the packed tokens.
fn ours(tokens: &Tokens<'_>, loss: &Loss) -> (f64, Vec<f64>, Vec<f64>) {
    let (inputs, settings) = (tokens.inputs, &loss.settings);
    let alone = [("verl_k1", Kl::K1), ("verl_k2", Kl::K2), ("verl_k3", Kl::K3)];
    let alone = alone.iter().find(|(name, _)| *name == loss.name).map(|(_, form)| *form);
    let behaviour = if settings.on_policy { &inputs.logprob } else { &inputs.old_logprob };
    let weights = tokens.weights(&loss.name);
    let policy_weights = if alone.is_some() { vec![0.0; weights.len()] } else { weights.clone() };
    let columns = [
        tokens.take(&inputs.logprob),
        tokens.take(behaviour),
        tokens.take(&inputs.reference_logprob),
        tokens.take(&inputs.entropy),
        tokens.column(|s, _| inputs.advantage[s]),
        policy_weights,
        weights,
        vec![1.0 / tokens.places.len() as f64; tokens.places.len()],
    ];
    let columns = columns.map(|column| vector(&column));
    let [logprob, behaviour, reference, entropy, advantage, weight, kl_weight, entropy_weight] =
        columns.each_ref().map(Tensor::view);
    let reference = Some(reference);
    let sequence: Vec<u32> = tokens.places.iter().map(|&(s, _)| s as u32).collect();
    let sequence = Tensor::from_ids(&sequence, columns[0].dims());
    let packed = PolicyTokens {
        logprob,
        behaviour,
        reference,
        entropy,
        advantage,
        sequence: sequence.view(),
        weight,
        kl_weight,
        entropy_weight,
    };
    let by_sequence = loss.name.contains("sequence_ratio") || loss.name.contains("gspo");
    let settings = GrpoLoss {
        ratio: if by_sequence { Ratio::Sequence } else { Ratio::Token },
        clip_low: settings.low,
        clip_high: settings.high,
        dual_clip: settings.delta.or(settings.dual),
        kl: if alone.is_some() { 1.0 } else { settings.beta },
        kl_form: alone.unwrap_or(Kl::K3),
        entropy: settings.entropy_coef,
    };
    let [mut dlogprob, mut dentropy] = std::array::from_fn(|_| Tensor::zeros(DType::F64, columns[0].dims()));
    let out = LossGradient { dlogprob: dlogprob.view_mut(), dentropy: dentropy.view_mut() };
    let mut sums = LossSums::default();
    forward_backward(&stream(), packed, &settings, out, &mut sums).expect("fitting arguments");
    (sums.loss, dlogprob.view().to_f64(), dentropy.view().to_f64())
}

#[test]
fn losses_and_their_coefficients_equal_trl_and_verl() {
    let (mut compared, mut clipped) = (0, 0);
    for batch in golden().batches {
        let tokens = Tokens::of(&batch.inputs);
        for loss in &batch.losses {
            let what = format!("{} of {}", loss.name, batch.name);
            let (value, dlogprob, dentropy) = ours(&tokens, loss);
            assert_close(&what, &[value], &[loss.loss]);
            assert_close(&what, &dlogprob, &tokens.take(&loss.d_logprob));
            assert_close(&what, &dentropy, &tokens.take(&loss.d_entropy));
            compared += 1;
            clipped += dlogprob.iter().filter(|&&d| d == 0.0).count();
        }
    }
    assert_eq!(compared, 58, "every record was compared");
    assert!(clipped > 100, "clipping takes part in the comparison");
}

#[test]
fn a_planted_error_in_one_token_is_noticed() {
    let golden = golden();
    let batch = &golden.batches[0];
    let tokens = Tokens::of(&batch.inputs);
    let loss = batch.losses.iter().find(|loss| loss.name == "trl_grpo").expect("recorded");
    let (_, mut dlogprob, _) = ours(&tokens, loss);
    dlogprob[17] += 1e-9;
    let noticed =
        std::panic::catch_unwind(|| assert_close("planted", &dlogprob, &tokens.take(&loss.d_logprob)));
    assert!(noticed.is_err());
}

#[test]
fn the_head_gives_trls_log_probability_entropy_and_gradient_of_the_logits() {
    for golden in golden().heads {
        let (n, v) = (golden.logits.len(), golden.logits[0].len());
        // With the identity as the head's matrix the hidden rows are the logits, and dx is their gradient.
        let identity: Vec<f64> = (0..v * v).map(|i| f64::from(u8::from(i / v == i % v))).collect();
        let (w, targets) = (
            Tensor::from_slice(&identity, dims![V: v, C: v]),
            Tensor::from_ids(&golden.targets, dims![N: n]),
        );
        let x = Tensor::from_slice(&golden.logits.concat(), dims![N: n, C: v]);
        let input = HeadInput {
            x: x.view(),
            w: w.view(),
            targets: targets.view(),
            inv_temperature: 1.0 / golden.temperature,
        };
        let [mut logprob, mut lse, mut entropy] =
            std::array::from_fn(|_| Tensor::zeros(DType::F64, dims![N: n]));
        let (dlogprob, dentropy) = (vector(&golden.d_logprob), vector(&golden.d_entropy));
        let mut dx = Tensor::zeros(DType::F64, dims![N: n, C: v]);
        let mut dw = Tensor::zeros(DType::F64, dims![V: v, C: v]);
        let fresh = Lse::Fresh(Logprobs {
            logprob: logprob.view_mut(),
            lse: lse.view_mut(),
            entropy: entropy.view_mut(),
        });
        let mut scratch = Scratch::new(&mut arena(), DType::F64, n, v).expect("room for one tile");
        let coefficients = Coefficients { dlogprob: dlogprob.view(), dentropy: Some(dentropy.view()) };
        let out = HeadGradient { dx: dx.view_mut(), dw: Some(dw.view_mut()) };
        head::gradient(&stream(), input, coefficients, fresh, (&Leaves::one(n), &mut scratch), out)
            .expect("fitting arguments");
        let what = format!("temperature {}", golden.temperature);
        assert_close(&what, &logprob.view().to_f64(), &golden.logprob);
        assert_close(&what, &entropy.view().to_f64(), &golden.entropy);
        assert_close(&what, &dx.view().to_f64(), &golden.d_logits.concat());
    }
}

#[test]
fn the_weights_of_the_packing_are_the_normalisations_of_the_records() {
    for batch in golden().batches {
        let tokens = Tokens::of(&batch.inputs);
        let lengths: Vec<usize> = tokens.lengths().iter().map(|&n| n as usize).collect();
        let per_token = |weights: Vec<f64>| tokens.column(|s, _| weights[s]);
        assert_close(&batch.name, &per_token(token_mean(&lengths)), &tokens.weights("trl_dapo"));
        // TRL counts a sequence without a token in the mean over sequences; verl and this program do not.
        let counted = lengths.iter().filter(|&&n| n > 0).count() as f64 / lengths.len() as f64;
        let trl: Vec<f64> = tokens.weights("trl_grpo").iter().map(|w| w / counted).collect();
        assert_close(&batch.name, &per_token(sequence_mean(&lengths)), &trl);
        let trl: Vec<f64> = tokens.weights("trl_dr_grpo").iter().map(|w| w / counted).collect();
        assert_close(&batch.name, &per_token(sum_over_constant(&lengths, 16)), &trl);
        let verl = tokens.weights("verl_sequence_sum_norm");
        assert_close(&batch.name, &per_token(sum_over_constant(&lengths, 16)), &verl);
        let verl = tokens.weights("verl_sequence_mean");
        let whole: Vec<f64> = tokens.column(|s, _| lengths[s] as f64);
        let verl: Vec<f64> = verl.iter().zip(whole).map(|(w, n)| w * (n + 1e-8) / n).collect();
        assert_close(&batch.name, &per_token(sequence_mean(&lengths)), &verl);
    }
}

/// Which of our estimators a record is of.
fn estimator(name: &str) -> AdvantageConfig {
    let (of, _) = name.rsplit_once('_').expect("an estimator and its rewards");
    let (estimator, eps) = match of {
        "trl_group" | "verl_grpo_0.0001" => (Estimator::Grpo, 1e-4),
        "verl_grpo_1e-06" => (Estimator::Grpo, 1e-6),
        "trl_none" | "verl_grpo_False" => (Estimator::GrpoWithoutStd, 1.0),
        "trl_batch" => (Estimator::GrpoBatchStd, 1e-4),
        "verl_rloo" | "trl_rloo" => (Estimator::Rloo, 1.0),
        "verl_reinforce_plus_plus_baseline" => (Estimator::ReinforcePlusPlus, 1.0),
        other => panic!("no estimator for {other}"),
    };
    AdvantageConfig { estimator, eps }
}

#[test]
fn advantages_equal_trl_and_verl_with_failed_judgements_and_equal_rewards() {
    let (mut compared, mut dead) = (0, 0);
    for record in golden().advantages {
        let config = estimator(&record.name);
        let whole: Vec<usize> = (0..record.rewards.len()).collect();
        let rewarded =
            |&i: &usize| Rewarded { reward: record.rewards[i].map(Reward), tokens: record.lengths[i] };
        let groups: Vec<Vec<Rewarded>> = whole
            .chunk_by(|a, b| record.groups[*a] == record.groups[*b])
            .map(|group| group.iter().map(rewarded).collect())
            .collect();
        let mut rest = record.advantages.as_slice();
        for group in advantages(&groups, &config) {
            let (theirs, more) = rest.split_at(group.advantages.len());
            // The reference gives a failed judgement the advantage 0; here it has none.
            let ours: Vec<f64> = group.advantages.iter().map(|a| a.map_or(0.0, |a| a.0)).collect();
            if group.life == Life::Alive || config.estimator != Estimator::ReinforcePlusPlus {
                assert_close(&record.name, &ours, theirs);
            } else {
                // verl whitens a group with equal rewards too; here it has left.
                assert!(ours.iter().all(|a| *a == 0.0) && theirs.iter().all(|a| *a == theirs[0]));
            }
            dead += usize::from(group.life != Life::Alive);
            rest = more;
        }
        assert!(rest.is_empty());
        compared += 1;
    }
    assert_eq!((compared, dead), (16, 14), "every record was compared");
}

fn arena() -> Arena {
    Arena::new("test", &Device::open(DeviceChoice::Cpu, 1).expect("a CPU"), 1 << 20)
}
