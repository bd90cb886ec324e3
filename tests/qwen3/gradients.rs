//! Logits and every parameter gradient.

use patarm::qwen3::Keep;
use patarm::tensor::DType;

use super::golden::{Golden, MODELS, apart};
use super::pass::{leaves, run};

/// Compares everything with the golden values of `precision`; gives the worst difference and its name.
fn worst(name: &str, dtype: DType, precision: &str) -> (f64, String) {
    let golden = Golden::open(name);
    let ours = run(&golden, dtype, Keep::All, &leaves(&golden, usize::MAX));
    let per_token = ours.per_token.iter().map(|(what, values)| ((*what).to_owned(), values));
    let gradients = ours.gradients.iter().map(|(id, values)| (format!("grad.{id}"), values));
    let mut all: Vec<_> = per_token.chain(gradients).collect();
    assert!(all.len() > 14, "{name}: logits, three columns and every parameter");
    let mut worst = (0.0, String::new());
    for (what, values) in all.drain(..) {
        let difference = apart(values, &golden.values(&format!("{precision}.{what}")));
        assert!(difference.is_finite(), "{name}: {what} is not finite");
        if difference > worst.0 {
            worst = (difference, what);
        }
    }
    worst
}

#[test]
fn in_f32_logits_and_every_gradient_agree_with_transformers() {
    for name in MODELS {
        let (difference, what) = worst(name, DType::F32, "f32");
        assert!(difference <= 1e-5, "{name}: {what} differs by {difference:e} of its largest value");
    }
}

#[test]
fn in_f64_logits_and_every_gradient_agree_with_the_equations() {
    for name in MODELS {
        let (difference, what) = worst(name, DType::F64, "f64");
        assert!(difference <= 1e-12, "{name}: {what} differs by {difference:e} of its largest value");
    }
}

#[test]
fn recomputing_a_layer_gives_the_bits_of_keeping_it() {
    let golden = Golden::open(MODELS[0]);
    let all = leaves(&golden, usize::MAX);
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let (kept, recomputed) =
            (run(&golden, dtype, Keep::All, &all), run(&golden, dtype, Keep::Inputs, &all));
        assert!(kept.gradients == recomputed.gradients, "{dtype:?}");
        assert!(kept.per_token == recomputed.per_token, "{dtype:?}");
    }
}

#[test]
fn leaves_change_the_order_of_sums_and_nothing_else() {
    let golden = Golden::open(MODELS[1]);
    let [whole, cut] = [usize::MAX, 2].map(|n| run(&golden, DType::F64, Keep::All, &leaves(&golden, n)));
    assert!(whole.per_token == cut.per_token);
    for (id, gradient) in &cut.gradients {
        assert!(apart(gradient, &whole.gradients[id]) <= 1e-13, "{id}");
    }
}

#[test]
fn a_planted_error_in_one_weight_is_far_outside_the_tolerance() {
    let golden = Golden::open(MODELS[2]);
    let name = "model.layers.1.self_attn.k_norm.weight";
    let ours = run(&golden, DType::F64, Keep::All, &leaves(&golden, usize::MAX));
    let mut planted = ours.gradients[name].clone();
    planted[3] *= 1.0 + 1e-9;
    assert!(apart(&planted, &golden.values(&format!("f64.grad.{name}"))) > 1e-12);
}
