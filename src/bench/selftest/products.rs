use super::subject::{Place, Subject, numbers, output, sizes};
use crate::dims;
use crate::ops::{Leaves, Write, product};

/// [N, M, K]: one row, tails of every tile, more than a leaf of K; and, where the device has time, enough for its large tiles.
pub(super) fn subjects(large: bool) -> Vec<Subject> {
    let mut shapes = vec![[1, 8, 8], [17, 72, 1032], [33, 40, 264], [131, 136, 72]];
    if large {
        shapes.extend([[1409, 1416, 1160], [64, 4096, 4096]]);
    }
    shapes
        .into_iter()
        .flat_map(|shape| [forward(shape), backward_input(shape), backward_weight(shape)])
        .collect()
}

fn name([n, m, k]: [usize; 3]) -> String {
    format!("N={n} M={m} K={k}")
}

/// c [rows, columns] += Σ over depth of |a| |b|, each given by where its element for (row or column, depth) lies.
fn magnitudes(
    [rows, columns, depth]: [usize; 3],
    (a, a_at): (&[f64], impl Fn(usize, usize) -> usize),
    (b, b_at): (&[f64], impl Fn(usize, usize) -> usize),
) -> Vec<f64> {
    let mut terms = vec![0.0; rows * columns];
    let b: Vec<f64> = (0..columns * depth).map(|i| b[b_at(i / depth, i % depth)].abs()).collect();
    for (row, terms) in terms.chunks_mut(columns).enumerate() {
        let a: Vec<f64> = (0..depth).map(|i| a[a_at(row, i)].abs()).collect();
        for (terms, b) in terms.iter_mut().zip(b.chunks(depth)) {
            *terms = a.iter().zip(b).map(|(a, b)| a * b).sum();
        }
    }
    terms
}

fn forward([n, m, k]: [usize; 3]) -> Subject {
    let run = move |place: &Place<'_>| {
        let (x, w) = (place.numbers(1, dims![N: n, C: k])?, place.numbers(2, dims![N: m, C: k])?);
        let mut y = place.room(dims![N: n, C: m])?;
        product::forward(place.stream, x.view(), w.view(), y.view_mut(), Write::Set)?;
        Ok(vec![output("y", &y)?])
    };
    Subject::new("product_forward", name([n, m, k]), run, move |_| {
        let (x, w) = (numbers(1, n * k), numbers(2, m * k));
        vec![magnitudes([n, m, k], (&x, |row, i| row * k + i), (&w, |column, i| column * k + i))]
    })
}

fn backward_input([n, m, k]: [usize; 3]) -> Subject {
    let run = move |place: &Place<'_>| {
        let (dy, w) = (place.numbers(1, dims![N: n, C: m])?, place.numbers(2, dims![N: m, C: k])?);
        let mut dx = place.numbers(3, dims![N: n, C: k])?;
        product::backward_input(place.stream, dy.view(), w.view(), dx.view_mut(), Write::Add)?;
        Ok(vec![output("dx", &dx)?])
    };
    Subject::new("product_backward_input", name([n, m, k]), run, move |_| {
        let (dy, w) = (numbers(1, n * m), numbers(2, m * k));
        let mut terms = magnitudes([n, k, m], (&dy, |row, i| row * m + i), (&w, |column, i| i * k + column));
        terms.iter_mut().zip(sizes(&numbers(3, n * k))).for_each(|(terms, old)| *terms += old);
        vec![terms]
    })
}

fn backward_weight([n, m, k]: [usize; 3]) -> Subject {
    let run = move |place: &Place<'_>| {
        let (dy, x) = (place.numbers(1, dims![N: n, C: m])?, place.numbers(2, dims![N: n, C: k])?);
        let mut dw = place.sums(3, dims![N: m, C: k])?;
        let leaves = Leaves::new(vec![0, n / 3, n]);
        product::backward_weight(place.stream, dy.view(), x.view(), &leaves, dw.view_mut())?;
        Ok(vec![output("dw", &dw)?])
    };
    Subject::new("product_backward_weight", name([n, m, k]), run, move |_| {
        let (dy, x) = (numbers(1, n * m), numbers(2, n * k));
        let mut terms = magnitudes([m, k, n], (&dy, |row, i| i * m + row), (&x, |column, i| i * k + column));
        terms.iter_mut().zip(sizes(&numbers(3, m * k))).for_each(|(terms, old)| *terms += old);
        vec![terms]
    })
}
