use super::subject::{Magnitudes, Output, Place, Subject, numbers, output};
use crate::bench::BenchError;
use crate::dims;
use crate::ops::Leaves;
use crate::ops::head::{self, Coefficients, HeadGradient, HeadInput, Logprobs, Lse, Scratch};
use crate::ops::philox::Key;
use crate::ops::sample::{self, Choice, Draw, Drawn};
use crate::tensor::{Arena, DType, Tensor};

/// Targets, hidden width, vocabulary, rows of a tile.
#[derive(Clone, Copy)]
struct Shape {
    n: usize,
    c: usize,
    v: usize,
    tile: usize,
}

const INV_TEMPERATURE: f64 = 1.0 / 0.7;

/// More ids than a tile of the softmax and tails; where the device has time, more targets than a tile of the scratch, too: long
/// chains, whose rounding needs a second body to be measured by.
pub(super) fn subjects(large: bool) -> Vec<Subject> {
    let shape = |n, c, v, tile| Shape { n, c, v, tile };
    let mut shapes = vec![shape(1, 8, 8, 64), shape(33, 24, 40, 64), shape(5, 40, 2056, 64)];
    if large {
        shapes.extend([shape(131, 16, 648, 64), shape(17, 264, 151_936, 64)]);
    }
    shapes
        .into_iter()
        .flat_map(|shape| [token_logprob(shape), gradient(shape), logits(shape), drawn(shape)])
        .collect()
}

/// Sums of magnitudes of one row's three numbers, of its scores' gradient by id, and of the scores.
struct RowTerms {
    own: [f64; 3],
    /// Its scores' gradient, and what that is made of.
    dz: [Vec<f64>; 2],
    scores: Vec<f64>,
}

impl Shape {
    fn name(self) -> String {
        let Self { n, c, v, .. } = self;
        format!("N={n} C={c} V={v}")
    }

    fn targets(self) -> Vec<u32> {
        (0..self.n).map(|i| (i * 7919 % self.v) as u32).collect()
    }

    /// Wide enough for policies far from uniform.
    fn w(self) -> Vec<f64> {
        numbers(2, self.v * self.c).iter().map(|w| 2.0 * w).collect()
    }

    fn x(self) -> Vec<f64> {
        numbers(1, self.n * self.c)
    }

    fn place(self, place: &Place<'_>) -> Result<(Tensor, Tensor, Tensor, Scratch), BenchError> {
        let Self { n, c, v, tile } = self;
        let mut plan = Arena::planned("head");
        Scratch::new(&mut plan, place.dtype, tile, v)?;
        let mut arena = Arena::sized("head", place.stream.device(), plan.peak())?;
        Ok((
            place.holding(place.dtype, &self.x(), dims![N: n, C: c])?,
            place.holding(place.dtype, &self.w(), dims![V: v, C: c])?,
            place.ids(&self.targets())?,
            Scratch::new(&mut arena, place.dtype, tile, v)?,
        ))
    }

    /// The formulas' magnitudes for one row.
    fn row_terms(self, row: usize, [x, w]: [&[f64]; 2]) -> RowTerms {
        let Self { c, v, .. } = self;
        let x = &x[row * c..][..c];
        let sum = |j: usize, f: fn(f64) -> f64| {
            x.iter().zip(&w[j * c..][..c]).map(|(x, w)| f(x * w)).sum::<f64>() * INV_TEMPERATURE
        };
        let z: Vec<f64> = (0..v).map(|j| sum(j, |t| t)).collect();
        let scores: Vec<f64> = (0..v).map(|j| sum(j, f64::abs)).collect();
        let max = z.iter().fold(f64::NEG_INFINITY, |m, z| m.max(*z));
        let lse = max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
        let p: Vec<f64> = z.iter().map(|z| (z - lse).exp()).collect();
        let entropy = -p.iter().zip(&z).map(|(p, z)| p * (z - lse)).sum::<f64>();
        let target = self.targets()[row] as usize;
        let spread = p.iter().zip(&scores).map(|(p, s)| p * s).sum::<f64>() + lse.abs() + 1.0;
        let own = [scores[target] + spread, spread, spread * (1.0 + entropy.abs())];
        let hot = |j: usize| if j == target { 1.0 } else { 0.0 };
        let dz = (0..v).map(|j| (hot(j) - p[j]).abs() * INV_TEMPERATURE).collect();
        let made_of = |j: usize| (hot(j) + p[j] * (1.0 + scores[j] + spread)) * INV_TEMPERATURE;
        let dz = [dz, (0..v).map(made_of).collect()];
        RowTerms { own, dz, scores }
    }

    fn each_row(self, mut f: impl FnMut(usize, RowTerms)) {
        let (x, w) = (self.x(), self.w());
        (0..self.n).for_each(|row| f(row, self.row_terms(row, [&x, &w])));
    }

    fn own_terms(self) -> Vec<Vec<f64>> {
        let mut columns = vec![Vec::new(); 3];
        self.each_row(|_, terms| columns.iter_mut().zip(terms.own).for_each(|(all, own)| all.push(own)));
        columns
    }

    fn gradient_terms(self) -> Vec<Magnitudes> {
        let Self { n, c, v, .. } = self;
        let (x, w, a) = (self.x(), self.w(), numbers(3, n));
        let [mut dx, mut dw] = [[(); 2].map(|()| vec![0.0; n * c]), [(); 2].map(|()| vec![0.0; v * c])];
        self.each_row(|row, terms| {
            for (k, dz) in terms.dz.iter().enumerate() {
                for (j, dz) in dz.iter().map(|dz| dz * a[row].abs()).enumerate() {
                    for i in 0..c {
                        dx[k][row * c + i] += dz * w[j * c + i].abs();
                        dw[k][j * c + i] += dz * x[row * c + i].abs();
                    }
                }
            }
        });
        [dx, dw].map(|[narrowed, summed]| Magnitudes::new(summed, narrowed)).into()
    }
}

fn input<'a>(x: &'a Tensor, w: &'a Tensor, targets: &'a Tensor) -> HeadInput<'a> {
    HeadInput { x: x.view(), w: w.view(), targets: targets.view(), inv_temperature: INV_TEMPERATURE }
}

/// Log-probability, LSE, entropy.
fn columns(shape: Shape, place: &Place<'_>) -> Result<[Tensor; 3], BenchError> {
    let (x, w, targets, mut scratch) = shape.place(place)?;
    let column = || place.room_for_sums(dims![N: shape.n]);
    let mut out = [column()?, column()?, column()?];
    let [logprob, lse, entropy] = out.each_mut().map(Tensor::view_mut);
    let to = Logprobs { logprob, lse, entropy };
    head::token_logprob(place.stream, input(&x, &w, &targets), &mut scratch, to)?;
    Ok(out)
}

fn token_logprob(shape: Shape) -> Subject {
    let run = move |place: &Place<'_>| {
        let [logprob, lse, entropy] = columns(shape, place)?;
        Ok(vec![output("logprob", &logprob)?, output("lse", &lse)?, output("entropy", &entropy)?])
    };
    Subject::new("head_token_logprob", shape.name(), run, move |_| shape.own_terms())
}

fn gradient(shape: Shape) -> Subject {
    let Shape { n, c, v, .. } = shape;
    let run = move |place: &Place<'_>| {
        let [_, lse, entropy] = columns(shape, place)?;
        let (x, w, targets, mut scratch) = shape.place(place)?;
        let dlogprob = place.sums(3, dims![N: n])?;
        let (mut dx, mut dw) = (place.room(dims![N: n, C: c])?, place.room_for_sums(dims![V: v, C: c])?);
        let coefficients = Coefficients { dlogprob: dlogprob.view(), dentropy: None };
        let known = Lse::Stored { lse: lse.view(), entropy: entropy.view() };
        let leaves = Leaves::new(vec![0, n / 3, n]);
        let out = HeadGradient { dx: dx.view_mut(), dw: Some(dw.view_mut()) };
        let input = input(&x, &w, &targets);
        head::gradient(place.stream, input, coefficients, known, (&leaves, &mut scratch), out)?;
        Ok(vec![output("dx", &dx)?, output("dw", &dw)?])
    };
    let terms = move |_: &Place<'_>, _: &[Vec<f64>]| Ok(shape.gradient_terms());
    Subject { op: "head_gradient", case: shape.name(), run: Box::new(run), terms: Box::new(terms) }
}

fn logits(shape: Shape) -> Subject {
    let Shape { n, v, .. } = shape;
    let run = move |place: &Place<'_>| {
        let (x, w, ..) = shape.place(place)?;
        let mut out = place.room_for_sums(dims![B: n, V: v])?;
        let x = x.view().reshape(dims![B: n, C: shape.c]);
        head::logits(place.stream, x, w.view(), INV_TEMPERATURE, out.view_mut())?;
        Ok(vec![output("out", &out)?])
    };
    Subject::new("head_logits", shape.name(), run, move |_| {
        let mut scores = Vec::new();
        shape.each_row(|_, terms| scores.extend(terms.scores));
        vec![scores]
    })
}

/// What is drawn greedily from logits that all bodies share, and what the policy thinks of it.
fn drawn(shape: Shape) -> Subject {
    let Shape { n, v, .. } = shape;
    let scores = move || numbers(5, n * v).iter().map(|z| 8.0 * z).collect::<Vec<_>>();
    let run = move |place: &Place<'_>| {
        let logits = place.holding(place.dtype.accumulator(), &scores(), dims![B: n, V: v])?;
        let draw = |row| Draw {
            key: Key::of_request(1, 0, row, 0),
            position: 7,
            choice: Choice::Greedy,
            vocabulary: v as u32,
        };
        let draws: Vec<Draw> = (0..n as u32).map(draw).collect();
        let mut out = vec![Drawn::default(); n];
        sample::forward(place.stream, logits.view(), &draws, &mut out)?;
        let dtype = logits.dtype();
        let column = |name, of: fn(&Drawn) -> f64| {
            let values = out.iter().map(of).collect();
            Output { name, dtype, values }
        };
        let token = Output { dtype: DType::F64, ..column("token", |drawn| f64::from(drawn.token)) };
        let numbers = [
            column("logprob", |drawn| drawn.logprob),
            column("lse", |drawn| drawn.lse),
            column("entropy", |drawn| drawn.entropy),
        ];
        Ok([token].into_iter().chain(numbers).collect())
    };
    Subject::new("sample", shape.name(), run, move |exact| {
        let spread = |row: usize| exact[2][row].abs() + 9.0;
        let column = |of: &dyn Fn(usize) -> f64| (0..n).map(of).collect::<Vec<f64>>();
        let entropy = |row: usize| spread(row) * (1.0 + exact[3][row].abs());
        vec![vec![0.0; n], column(&spread), column(&spread), column(&entropy)]
    })
}
