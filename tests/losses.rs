//! Losses, their coefficients and advantages against TRL's and verl's own functions (tests/golden/losses.py), in f64.

use patarm::device::{Device, DeviceChoice, Stream};
use patarm::dims;
use patarm::grpo::{AdvantageConfig, Estimator, Life, advantages, sequence_mean, token_mean};
use patarm::ops::Leaves;
use patarm::ops::grpo_loss::{GrpoLoss, LossGradient, LossSums, PolicyTokens, forward_backward};
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
            "verl_sequence_sum_norm" => 1.0 / (counted * 16.0),
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
    let k3_alone = loss.name == "verl_k3";
    let behaviour = if settings.on_policy { &inputs.logprob } else { &inputs.old_logprob };
    let weights = tokens.weights(&loss.name);
    let policy_weights = if k3_alone { vec![0.0; weights.len()] } else { weights.clone() };
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
    let packed =
        PolicyTokens { logprob, behaviour, reference, entropy, advantage, weight, kl_weight, entropy_weight };
    let kl = if k3_alone { 1.0 } else { settings.beta };
    let settings =
        GrpoLoss { clip_low: settings.low, clip_high: settings.high, kl, entropy: settings.entropy_coef };
    let [mut dlogprob, mut dentropy] = std::array::from_fn(|_| Tensor::zeros(DType::F64, columns[0].dims()));
    let out = LossGradient { dlogprob: dlogprob.view_mut(), dentropy: dentropy.view_mut() };
    let mut sums = LossSums::default();
    forward_backward(&stream(), packed, &settings, out, &mut sums).expect("fitting arguments");
    (sums.loss, dlogprob.view().to_f64(), dentropy.view().to_f64())
}

/// Records of what this loss offers: one ratio a token, clipped on both sides, k3, no dual clip.
fn is_offered(loss: &Loss) -> bool {
    let other = [
        "trl_grpo_sequence_ratio",
        "trl_dapo_delta",
        "verl_token_mean_dual",
        "verl_gspo",
        "verl_k1",
        "verl_k2",
    ];
    // verl divides a sequence's sum by its tokens + 1e-8: further than the tolerance from a mean, see the test below.
    !other.contains(&loss.name.as_str()) && loss.name != "verl_sequence_mean"
}

#[test]
fn losses_and_their_coefficients_equal_trl_and_verl() {
    let (mut compared, mut clipped) = (0, 0);
    for batch in golden().batches {
        let tokens = Tokens::of(&batch.inputs);
        for loss in batch.losses.iter().filter(|loss| is_offered(loss)) {
            let what = format!("{} of {}", loss.name, batch.name);
            let (value, dlogprob, dentropy) = ours(&tokens, loss);
            assert_close(&what, &[value], &[loss.loss]);
            assert_close(&what, &dlogprob, &tokens.take(&loss.d_logprob));
            assert_close(&what, &dentropy, &tokens.take(&loss.d_entropy));
            compared += 1;
            clipped += dlogprob.iter().filter(|&&d| d == 0.0).count();
        }
    }
    assert_eq!(compared, 30, "every record that this loss offers was compared");
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
        let out = HeadGradient { dx: dx.view_mut(), dw: dw.view_mut() };
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
    }
}

#[test]
fn a_mean_per_sequence_is_verls_up_to_what_verl_adds_to_the_lengths() {
    for batch in golden().batches {
        let tokens = Tokens::of(&batch.inputs);
        let find = |name: &str| batch.losses.iter().find(|loss| loss.name == name).expect("recorded");
        let (verl, trl) = (find("verl_sequence_mean"), find("trl_grpo"));
        let counted =
            tokens.lengths().iter().filter(|&&n| n > 0.0).count() as f64 / batch.inputs.mask.len() as f64;
        let (value, ..) = ours(&tokens, trl);
        assert!((value / counted - verl.loss).abs() <= 2e-8 * verl.loss.abs(), "{}", batch.name);
    }
}

/// Which of our estimators a record is of.
fn estimator(name: &str) -> Option<AdvantageConfig> {
    let grpo = |eps| Some(AdvantageConfig { estimator: Estimator::Grpo, eps });
    match name.rsplit_once('_')?.0 {
        "trl_group" | "verl_grpo_0.0001" => grpo(1e-4),
        "verl_grpo_1e-06" => grpo(1e-6),
        "trl_none" | "verl_grpo_False" => {
            Some(AdvantageConfig { estimator: Estimator::GrpoWithoutStd, ..AdvantageConfig::default() })
        }
        _ => None,
    }
}

#[test]
fn advantages_equal_trl_and_verl_with_failed_judgements_and_equal_rewards() {
    let (mut compared, mut dead) = (0, 0);
    for record in golden().advantages {
        let Some(config) = estimator(&record.name) else { continue };
        let mut ours = Vec::new();
        for group in record.groups.chunk_by(|a, b| a == b) {
            let rewards = &record.rewards[ours.len()..ours.len() + group.len()];
            let rewards: Vec<Option<Reward>> = rewards.iter().map(|r| r.map(Reward)).collect();
            let group = advantages(&rewards, &config);
            dead += usize::from(group.life != Life::Alive);
            // The reference gives a failed judgement the advantage 0; here it has none.
            ours.extend(group.advantages.iter().map(|a| a.map_or(0.0, |a| a.0)));
        }
        assert_close(&record.name, &ours, &record.advantages);
        compared += 1;
    }
    assert_eq!((compared, dead), (10, 9));
}

fn arena() -> Arena {
    Arena::new("test", &Device::open(DeviceChoice::Cpu, 1).expect("a CPU"), 1 << 20)
}
