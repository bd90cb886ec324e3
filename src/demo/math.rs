//! Math: a sum or a difference in words; a right answer names the result.
//!
//! Results are drawn first and evenly, so that no number is more often right; a wrong one is none of the request's.

use super::draw::Draw;
use super::scene::{Answer, Scene};

const NUMBERS: [&str; 11] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
const SMALLEST: usize = 2;
const LARGEST: usize = 10;
const THINGS: [&str; 6] = ["apples", "books", "coins", "cards", "pens", "eggs"];
const GAINS: [&str; 3] = ["buys", "finds", "gets"];
const LOSSES: [&str; 3] = ["sells", "drops", "loses"];
const PEOPLE: [&str; 2] = ["He", "She"];
const FORMS: [&str; 2] = ["There are {gist} {thing}.", "That makes {gist} {thing}."];

/// A small word problem.
pub(super) fn scene(draw: &mut Draw) -> Scene {
    let (start, verb, change, result) = problem(draw);
    let thing = draw.one(&THINGS);
    let others: Vec<usize> = (SMALLEST..=LARGEST).filter(|n| ![start, change, result].contains(n)).collect();
    let wrong = draw.one(&others);
    let form = draw.one(&FORMS).replace("{thing}", thing);
    let answer = |n: usize| Answer { gist: NUMBERS[n], sentence: form.replace("{gist}", NUMBERS[n]) };
    let request = format!(
        "{} has {} {thing} and {verb} {}. How many now?",
        draw.one(&PEOPLE),
        NUMBERS[start],
        NUMBERS[change]
    );
    Scene { request, right: answer(result), wrong: answer(wrong) }
}

/// Start, verb, change and result, with the result even over its range and unlike start and change.
fn problem(draw: &mut Draw) -> (usize, &'static str, usize, usize) {
    loop {
        let result = SMALLEST + draw.below(LARGEST - SMALLEST + 1);
        let change = SMALLEST + draw.below(LARGEST - SMALLEST + 1);
        let gain = draw.chance(0.5);
        let start = if gain { result.saturating_sub(change) } else { result + change };
        if (SMALLEST..=LARGEST).contains(&start) && result != change {
            return (start, draw.one(if gain { &GAINS } else { &LOSSES }), change, result);
        }
    }
}
