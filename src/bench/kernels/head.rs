use super::KernelShapes;
use super::case::{Case, Room, Traffic};
use crate::bench::{BenchError, tokens};
use crate::dims;
use crate::ops::Leaves;
use crate::ops::grpo_loss::{self, GrpoLoss, Kl, LossGradient, LossSums, PolicyTokens, Ratio, Reference};
use crate::ops::head::{self, Coefficients, HeadGradient, HeadInput, Known, Logprobs, Lse, Scratch};
use crate::ops::philox::Key;
use crate::ops::sample::{self, Choice, Draw, Drawn, Truncation};
use crate::tensor::{DType, Tensor};

/// The head while training and while drawing, the loss, and the drawing itself.
pub(super) fn cases(shapes: &KernelShapes) -> Vec<Case> {
    let head =
        Head { c: shapes.config.hidden, v: shapes.config.vocabulary, tile: shapes.tile, dtype: shapes.dtype };
    let targets =
        shapes.head.iter().flat_map(|n| [head.token_logprob(*n), head.gradient(*n), loss(*n, head.dtype)]);
    let truncated = Truncation { top_k: 50, top_p: 0.95, min_p: 0.0 };
    let choices = [
        ("greedy", Choice::Greedy),
        ("untruncated", Choice::Gumbel(Truncation::NONE)),
        ("top_k=50 top_p=0.95", Choice::Gumbel(truncated)),
    ];
    let drawn = shapes.drawn.iter().flat_map(|b| {
        let draws = choices.map(|(how, choice)| head.sample(*b, how, choice));
        [head.logits(*b)].into_iter().chain(draws)
    });
    targets.chain(drawn).collect()
}

/// Hidden width, vocabulary, rows of a tile, storage.
#[derive(Clone, Copy)]
struct Head {
    c: usize,
    v: usize,
    tile: usize,
    dtype: DType,
}

/// What both training directions read, and what one writes for each target.
struct Operands {
    x: Tensor,
    w: Tensor,
    targets: Tensor,
    scratch: Scratch,
    columns: [Tensor; 3],
}

fn input<'a>(x: &'a Tensor, w: &'a Tensor, targets: &'a Tensor) -> HeadInput<'a> {
    HeadInput { x: x.view(), w: w.view(), targets: targets.view(), inv_temperature: 1.0 }
}

impl Head {
    fn operands(self, room: &mut Room<'_>, n: usize) -> Result<Operands, BenchError> {
        let Self { c, v, tile, dtype } = self;
        let sums = dtype.accumulator();
        Ok(Operands {
            x: room.numbers(dtype, dims![N: n, C: c])?,
            w: room.numbers(dtype, dims![V: v, C: c])?,
            targets: room.ids(&tokens(n, v), dims![N: n])?,
            scratch: Scratch::new(&mut room.arena, dtype, tile, v)?,
            columns: [
                room.numbers(sums, dims![N: n])?,
                room.zeros(sums, dims![N: n])?,
                room.zeros(sums, dims![N: n])?,
            ],
        })
    }

    fn token_logprob(self, n: usize) -> Case {
        let Self { c, v, dtype, .. } = self;
        let work = head::token_logprob_work([n, c, v], dtype);
        let name = format!("head_token_logprob/N={n} C={c} V={v}");
        Case::new(name, (work, Traffic::Reads), move |room| {
            let mut held = self.operands(room, n)?;
            Ok(Box::new(move |stream| {
                let Operands { x, w, targets, scratch, columns: [logprob, lse, entropy] } = &mut held;
                let out = Logprobs {
                    logprob: logprob.view_mut(),
                    lse: lse.view_mut(),
                    entropy: entropy.view_mut(),
                };
                head::token_logprob(stream, input(x, w, targets), scratch, out)
            }))
        })
    }

    fn gradient(self, n: usize) -> Case {
        let Self { c, v, dtype, .. } = self;
        let work = head::gradient_work([n, c, v], dtype, Known::Stored);
        let name = format!("head_gradient/N={n} C={c} V={v}");
        Case::new(name, (work, Traffic::Copies), move |room| {
            let mut held = self.operands(room, n)?;
            let mut dx = room.zeros(dtype, dims![N: n, C: c])?;
            let mut dw = room.zeros(dtype.accumulator(), dims![V: v, C: c])?;
            let leaves = Leaves::one(n);
            Ok(Box::new(move |stream| {
                let Operands { x, w, targets, scratch, columns: [dlogprob, lse, entropy] } = &mut held;
                let coefficients = Coefficients { dlogprob: dlogprob.view(), dentropy: None };
                let known = Lse::Stored { lse: lse.view(), entropy: entropy.view() };
                let out = HeadGradient { dx: dx.view_mut(), dw: Some(dw.view_mut()) };
                head::gradient(stream, input(x, w, targets), coefficients, known, (&leaves, scratch), out)
            }))
        })
    }

    fn logits(self, b: usize) -> Case {
        let Self { c, v, dtype, .. } = self;
        let work = head::logits_work([b, c, v], dtype);
        Case::new(format!("head_logits/B={b} C={c} V={v}"), (work, Traffic::Reads), move |room| {
            let x = room.numbers(dtype, dims![B: b, C: c])?;
            let w = room.numbers(dtype, dims![V: v, C: c])?;
            let mut out = room.zeros(dtype.accumulator(), dims![B: b, V: v])?;
            Ok(Box::new(move |stream| head::logits(stream, x.view(), w.view(), 1.0, out.view_mut())))
        })
    }

    fn sample(self, b: usize, how: &str, choice: Choice) -> Case {
        let (v, sums) = (self.v, self.dtype.accumulator());
        let name = format!("sample/{how}/B={b} V={v}");
        Case::new(name, (sample::work([b, v], sums), Traffic::Reads), move |room| {
            let logits = room.numbers(sums, dims![B: b, V: v])?;
            let draw = |row| {
                let key = Key::of_request(1, 0, row, 0);
                Draw { key, position: 7, choice, vocabulary: v as u32 }
            };
            let draws: Vec<Draw> = (0..b as u32).map(draw).collect();
            let mut out = vec![Drawn::default(); b];
            Ok(Box::new(move |stream| sample::forward(stream, logits.view(), &draws, &mut out)))
        })
    }
}

/// Sequences of so many targets.
const SEQUENCE: usize = 512;

/// The loss of n targets, with KL to a reference.
fn loss(n: usize, dtype: DType) -> Case {
    let sums = dtype.accumulator();
    let settings = GrpoLoss {
        ratio: Ratio::Token,
        clip_low: 0.2,
        clip_high: 0.2,
        dual_clip: None,
        kl: 0.01,
        kl_form: Kl::K3,
        entropy: 0.0,
    };
    let work = grpo_loss::work(n, sums, Reference::Present);
    Case::new(format!("grpo_loss/N={n}"), (work, Traffic::Reads), move |room| {
        let mut column = || room.numbers(sums, dims![N: n]);
        let [logprob, behaviour, reference, entropy] = [column()?, column()?, column()?, column()?];
        let [advantage, weight, kl_weight, entropy_weight] = [column()?, column()?, column()?, column()?];
        let [mut dlogprob, mut dentropy] = [column()?, column()?];
        let sequence: Vec<u32> = (0..n).map(|i| (i / SEQUENCE) as u32).collect();
        let sequence = room.ids(&sequence, dims![N: n])?;
        Ok(Box::new(move |stream| {
            let tokens = PolicyTokens {
                logprob: logprob.view(),
                behaviour: behaviour.view(),
                reference: Some(reference.view()),
                entropy: entropy.view(),
                advantage: advantage.view(),
                sequence: sequence.view(),
                weight: weight.view(),
                kl_weight: kl_weight.view(),
                entropy_weight: entropy_weight.view(),
            };
            let out = LossGradient { dlogprob: dlogprob.view_mut(), dentropy: dentropy.view_mut() };
            grpo_loss::forward_backward(stream, tokens, &settings, out, &mut LossSums::default())
        }))
    })
}
