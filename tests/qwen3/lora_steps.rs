//! Twenty AdamW steps of an adapter against torch on the equations: what learns, what decays, what is clipped, and what stays.

use patarm::ops::grpo_loss::LossSums;
use patarm::optimizer::{Kept, Update};
use patarm::qwen3::{Keep, LowRank, Model};
use patarm::tensor::{Arena, DType};
use patarm::trainer::{Gate, Learner, Objective, Pass, PassLimits};

use super::fine_tuning::{batch, settings, worst_relative};
use super::golden::{Golden, apart, arena, stream};

/// The base of the golden steps with the recorded start of the factors.
fn adapted(base: &Golden, recorded: &Golden, dtype: DType, arena: &mut Arena) -> Model {
    let low = LowRank::new(4, 6.0, &["all"]).expect("sound");
    let mut model = base.model_with(Some(low), dtype, arena);
    for (id, tensor) in model.learns_mut().iter_mut() {
        let start = recorded.values(&format!("start.{}", id.name()));
        match dtype {
            DType::F64 => tensor.view_mut().host_mut::<f64>().copy_from_slice(&start),
            _ => {
                let factor = tensor.view_mut().host_mut::<f32>().iter_mut();
                factor.zip(start).for_each(|(to, x)| *to = x as f32);
            }
        }
    }
    model
}

/// Losses, gradient norms, and the learner at the end.
fn train(dtype: DType) -> (Vec<f64>, Vec<f64>, Learner) {
    let (base, recorded) = (Golden::open("sft"), Golden::open("lora_sft"));
    let (stream, mut fixed) = (stream(), arena(&stream()));
    let model = adapted(&base, &recorded, dtype, &mut fixed);
    let limits = PassLimits { rows: 64, targets: 64, tile: 16, keep: Keep::All };
    let mut pass = Pass::new(&model.config, dtype, limits, &mut fixed).expect("fits");
    let mut learner = Learner::new(stream, model, Kept::default(), &mut fixed).expect("fits");
    let (tokens, rows) = (base.ids("tokens"), base.ids("rows"));
    let per_step: u32 = rows.chunks(2).map(|row| row[0]).sum();
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for (i, tokens) in tokens.chunks(per_step as usize).enumerate() {
        learner.zero_gradients().unwrap();
        let (packed, mut sums) = (batch(tokens, &rows), LossSums::default());
        learner.accumulate(&packed, Objective::Supervised, &mut pass, &mut sums).expect("fits");
        losses.push(sums.loss);
        match learner
            .update(&settings(&base), i as u64 + 1, (sums.loss, Gate::OPEN))
            .expect("fitting arguments")
        {
            Update::Applied { norm, .. } => norms.push(norm),
            other => panic!("step {i}: {other:?}"),
        }
    }
    (losses, norms, learner)
}

#[test]
fn in_f64_losses_norms_and_final_factors_are_torchs_and_the_base_stays() {
    let recorded = Golden::open("lora_sft");
    let (losses, norms, learner) = train(DType::F64);
    let losses = worst_relative(&losses, &recorded.values("f64.losses"));
    assert!(losses <= 1e-10, "losses differ by {losses:e}");
    let norms = worst_relative(&norms, &recorded.values("f64.norms"));
    assert!(norms <= 1e-10, "gradient norms differ by {norms:e}");
    for (id, factor) in learner.model.learns().iter() {
        let theirs = recorded.values(&format!("f64.final.{}", id.name()));
        let difference = apart(&factor.view().to_f64(), &theirs);
        assert!(difference <= 1e-9, "{}: differs by {difference:e}", id.name());
    }
    let base = Golden::open("sft");
    for (id, weight) in learner.model.params.iter() {
        assert_eq!(weight.view().to_f64(), base.values(&format!("weight.{}", id.name())), "{}", id.name());
    }
}

#[test]
fn in_f32_losses_are_those_of_peft() {
    let (losses, ..) = train(DType::F32);
    let losses = worst_relative(&losses, &Golden::open("lora_sft").values("f32.losses"));
    assert!(losses <= 1e-5, "losses differ by {losses:e}");
}
