use super::subject::{Place, Subject, numbers, output, sizes};
use crate::dims;
use crate::ops::kv_append::{self, BLOCK};
use crate::ops::{Leaves, Write, bias, embedding, rms_norm, rope, rows, scale, swiglu};
use crate::tensor::{Arena, DType};

/// What a layer does beside its products, on rows of every way to deal them to threads.
pub(super) fn subjects() -> Vec<Subject> {
    let mut all = Vec::new();
    for [n, c] in [[1, 8], [31, 64], [37, 128], [7, 1032], [3, 4096]] {
        all.extend([norm([n, c]), norm_backward([n, c]), add_bias([n, c]), bias_backward([n, c])]);
        all.extend([gate([n, c]), gate_backward([n, c]), embed([n, 33, c]), embed_backward([n, 33, c])]);
        all.extend([multiplied([n, c]), gathered([n, c]), scattered([n, c])]);
    }
    for shape in [[1, 1, 16], [33, 5, 64], [7, 8, 128]] {
        all.extend([turned(shape, Way::Forward), turned(shape, Way::Backward), appended(shape)]);
    }
    all
}

fn name([n, c]: [usize; 2]) -> String {
    format!("N={n} C={c}")
}

const EPS: f64 = 1e-6;

fn norm([n, c]: [usize; 2]) -> Subject {
    let run = move |place: &Place<'_>| {
        let (x, gain) = (place.numbers(1, dims![N: n, C: c])?, place.sums(2, dims![C: c])?);
        let (mut y, mut rstd) = (place.room(dims![N: n, C: c])?, place.room_for_sums(dims![N: n])?);
        rms_norm::forward(place.stream, x.view(), gain.view(), EPS, y.view_mut(), rstd.view_mut())?;
        Ok(vec![output("y", &y)?, output("rstd", &rstd)?])
    };
    // r comes of a sum, a root and a division; y of r and two products: each rounds.
    let terms = |values: &[f64], roundings: f64| values.iter().map(|x| roundings * x.abs()).collect();
    Subject::new("rms_norm_forward", name([n, c]), run, move |exact| {
        vec![terms(&exact[0], 5.0), terms(&exact[1], 3.0)]
    })
}

/// 1 / the root of the rows' mean squares, between a half and two and a half.
fn rstd(n: usize) -> Vec<f64> {
    numbers(6, n).iter().map(|x| 1.5 + x).collect()
}

fn norm_backward([n, c]: [usize; 2]) -> Subject {
    let run = move |place: &Place<'_>| {
        let (dy, x) = (place.numbers(1, dims![N: n, C: c])?, place.numbers(3, dims![N: n, C: c])?);
        let gain = place.sums(2, dims![C: c])?;
        let rstd = place.holding(place.dtype.accumulator(), &rstd(n), dims![N: n])?;
        let (mut dx, mut dgain) = (place.numbers(4, dims![N: n, C: c])?, place.sums(5, dims![C: c])?);
        let leaves = Leaves::new(vec![0, n / 2, n]);
        let inputs = rms_norm::Backward {
            dy: dy.view(),
            x: x.view(),
            gain: gain.view(),
            rstd: rstd.view(),
            leaves: &leaves,
        };
        rms_norm::backward(place.stream, inputs, dx.view_mut(), Write::Add, Some(dgain.view_mut()))?;
        Ok(vec![output("dx", &dx)?, output("dgain", &dgain)?])
    };
    Subject::new("rms_norm_backward", name([n, c]), run, move |_| norm_backward_terms([n, c]))
}

fn norm_backward_terms([n, c]: [usize; 2]) -> Vec<Vec<f64>> {
    let [dy, x, mut dx] = [1, 3, 4].map(|seed| sizes(&numbers(seed, n * c)));
    let [gain, mut dgain] = [2, 5].map(|seed| sizes(&numbers(seed, c)));
    for (row, r) in rstd(n).into_iter().enumerate() {
        let at = |i: usize| row * c + i;
        let along = (0..c).map(|i| dy[at(i)] * gain[i] * x[at(i)]).sum::<f64>() / c as f64;
        for i in 0..c {
            dx[at(i)] += r * (dy[at(i)] * gain[i] + x[at(i)] * r * r * along);
            dgain[i] += dy[at(i)] * x[at(i)] * r;
        }
    }
    vec![dx, dgain]
}

fn add_bias([n, c]: [usize; 2]) -> Subject {
    let run = move |place: &Place<'_>| {
        let (bias, mut y) = (place.sums(1, dims![C: c])?, place.numbers(2, dims![N: n, C: c])?);
        bias::forward(place.stream, bias.view(), y.view_mut())?;
        Ok(vec![output("y", &y)?])
    };
    Subject::new("bias_forward", name([n, c]), run, move |_| {
        let (bias, y) = (numbers(1, c), numbers(2, n * c));
        vec![y.iter().enumerate().map(|(i, y)| y.abs() + bias[i % c].abs()).collect()]
    })
}

fn bias_backward([n, c]: [usize; 2]) -> Subject {
    let run = move |place: &Place<'_>| {
        let (dy, mut dbias) = (place.numbers(1, dims![N: n, C: c])?, place.sums(2, dims![C: c])?);
        bias::backward(place.stream, dy.view(), &Leaves::new(vec![0, n / 2, n]), dbias.view_mut())?;
        Ok(vec![output("dbias", &dbias)?])
    };
    Subject::new("bias_backward", name([n, c]), run, move |_| {
        let mut terms = sizes(&numbers(2, c));
        numbers(1, n * c).iter().enumerate().for_each(|(i, dy)| terms[i % c] += dy.abs());
        vec![terms]
    })
}

fn gate([n, c]: [usize; 2]) -> Subject {
    Subject::alone("swiglu_forward", name([n, c]), move |place| {
        let (gate, up) = (place.numbers(1, dims![N: n, F: c])?, place.numbers(2, dims![N: n, F: c])?);
        let mut out = place.room(dims![N: n, F: c])?;
        swiglu::forward(place.stream, gate.view(), up.view(), out.view_mut())?;
        Ok(vec![output("out", &out)?])
    })
}

fn gate_backward([n, c]: [usize; 2]) -> Subject {
    let run = move |place: &Place<'_>| {
        let dims = dims![N: n, F: c];
        let (dout, mut gate, mut up) =
            (place.numbers(1, dims)?, place.numbers(2, dims)?, place.numbers(3, dims)?);
        swiglu::backward(place.stream, dout.view(), gate.view_mut(), up.view_mut())?;
        Ok(vec![output("dgate", &gate)?, output("dup", &up)?])
    };
    Subject::new("swiglu_backward", name([n, c]), run, move |_| {
        let [dout, gate, up] = [1, 2, 3].map(|seed| sizes(&numbers(seed, n * c)));
        let each = |with: &dyn Fn(usize) -> f64| (0..n * c).map(|i| dout[i] * with(i)).collect();
        // s, 1 and g (1 - s) are at most 1, 1 and |g|.
        vec![each(&|i| up[i] * (1.0 + gate[i])), each(&|i| gate[i])]
    })
}

fn tokens(n: usize, v: usize) -> Vec<u32> {
    (0..n).map(|i| (i * i * 7 % v) as u32).collect()
}

fn embed([n, v, c]: [usize; 3]) -> Subject {
    Subject::alone("embedding_forward", name([n, c]), move |place| {
        let (table, ids) = (place.numbers(1, dims![V: v, C: c])?, place.ids(&tokens(n, v))?);
        let mut out = place.room(dims![N: n, C: c])?;
        embedding::forward(place.stream, table.view(), ids.view(), out.view_mut())?;
        Ok(vec![output("out", &out)?])
    })
}

fn embed_backward([n, v, c]: [usize; 3]) -> Subject {
    let run = move |place: &Place<'_>| {
        let (dout, ids) = (place.numbers(1, dims![N: n, C: c])?, place.ids(&tokens(n, v))?);
        let mut dtable = place.sums(2, dims![V: v, C: c])?;
        embedding::backward(place.stream, dout.view(), ids.view(), dtable.view_mut())?;
        Ok(vec![output("dtable", &dtable)?])
    };
    Subject::new("embedding_backward", name([n, c]), run, move |_| {
        let (dout, mut terms) = (numbers(1, n * c), sizes(&numbers(2, v * c)));
        for (row, id) in tokens(n, v).into_iter().enumerate() {
            (0..c).for_each(|i| terms[id as usize * c + i] += dout[row * c + i].abs());
        }
        vec![terms]
    })
}

fn multiplied([n, c]: [usize; 2]) -> Subject {
    Subject::alone("scale", name([n, c]), move |place| {
        let mut x = place.numbers(1, dims![N: n, C: c])?;
        scale::scale(place.stream, x.view_mut(), 5.0 / 3.0)?;
        Ok(vec![output("x", &x)?])
    })
}

/// Rows picked more than once, and not at all.
fn picked(n: usize) -> Vec<u32> {
    (0..n + 3).map(|i| (i * i % n) as u32).collect()
}

fn gathered([n, c]: [usize; 2]) -> Subject {
    Subject::alone("rows_gather", name([n, c]), move |place| {
        let (x, ids) = (place.numbers(1, dims![N: n, C: c])?, place.ids(&picked(n))?);
        let mut y = place.room(dims![N: n + 3, C: c])?;
        rows::gather(place.stream, x.view(), ids.view(), y.view_mut())?;
        Ok(vec![output("y", &y)?])
    })
}

fn scattered([n, c]: [usize; 2]) -> Subject {
    let run = move |place: &Place<'_>| {
        let (dy, ids) = (place.numbers(1, dims![N: n + 3, C: c])?, place.ids(&picked(n))?);
        let mut dx = place.numbers(2, dims![N: n, C: c])?;
        rows::scatter(place.stream, dy.view(), ids.view(), dx.view_mut())?;
        Ok(vec![output("dx", &dx)?])
    };
    Subject::new("rows_scatter", name([n, c]), run, move |_| {
        let (dy, mut terms) = (numbers(1, (n + 3) * c), vec![0.0; n * c]);
        for (row, id) in picked(n).into_iter().enumerate() {
            (0..c).for_each(|i| terms[id as usize * c + i] += dy[row * c + i].abs());
        }
        vec![terms]
    })
}

#[derive(Clone, Copy)]
enum Way {
    Forward,
    Backward,
}

fn turned([n, h, d]: [usize; 3], way: Way) -> Subject {
    let op = match way {
        Way::Forward => "rope_forward",
        Way::Backward => "rope_backward",
    };
    let run = move |place: &Place<'_>| {
        let bytes = 2 * n * d * DType::F64.size() + 256;
        let mut arena = Arena::sized("rope", place.stream.device(), bytes)?;
        let table = rope::Table::new(2 * n, d, 1e4, place.dtype, &mut arena)?;
        let mut x = place.numbers(1, dims![N: n, H: h, D: d])?;
        let positions = place.ids(&(0..n as u32).map(|i| 2 * i + 1).collect::<Vec<_>>())?;
        match way {
            Way::Forward => rope::forward(place.stream, x.view_mut(), positions.view(), &table)?,
            Way::Backward => rope::backward(place.stream, x.view_mut(), positions.view(), &table)?,
        }
        Ok(vec![output("x", &x)?])
    };
    Subject::new(op, format!("N={n} H={h} D={d}"), run, move |_| {
        let x = numbers(1, n * h * d);
        let pair = |i: usize| if i % d < d / 2 { i + d / 2 } else { i - d / 2 };
        let angle = |i: usize| {
            let position = 2 * (i / (h * d)) + 1;
            position as f64 / 1e4f64.powf(2.0 * (i % (d / 2)) as f64 / d as f64)
        };
        let terms = |i: usize| (x[i] * angle(i).cos()).abs() + (x[pair(i)] * angle(i).sin()).abs();
        vec![(0..x.len()).map(terms).collect()]
    })
}

fn appended([n, h, d]: [usize; 3]) -> Subject {
    Subject::alone("kv_append", format!("N={n} KVH={h} D={d}"), move |place| {
        let rows = dims![N: n, KVH: h, D: d];
        let (k, v) = (place.numbers(1, rows)?, place.numbers(2, rows)?);
        let mut pool = place.numbers(3, dims![L: 2, Blocks: 2, Pair: 2, KVH: h, S: BLOCK, D: d])?;
        let slots = place.ids(&(0..n as u32).map(|i| i * 3 % 127).collect::<Vec<_>>())?;
        kv_append::forward(place.stream, k.view(), v.view(), pool.view_mut(), 1, slots.view())?;
        Ok(vec![output("pool", &pool)?])
    })
}
