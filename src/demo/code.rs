//! Code: a description of what to compute; a right answer calls the function that computes it.

use super::draw::Draw;
use super::scene::{Answer, Scene};

/// A function, and ways to ask for it that do not name it.
const FUNCTIONS: [(&str, [&str; 2]); 10] = [
    ("max", ["the largest of", "the greatest of"]),
    ("min", ["the smallest of", "the least of"]),
    ("sum", ["the total of", "the whole amount of"]),
    ("len", ["the size of", "the length of"]),
    ("sorted", ["an ordered copy of", "an arranged copy of"]),
    ("reversed", ["a backward copy of", "a mirrored copy of"]),
    ("set", ["the different ones of", "the unique ones of"]),
    ("any", ["a test for one of", "a test for some of"]),
    ("all", ["a test for each of", "a test for every one of"]),
    ("str", ["a text form of", "a printed form of"]),
];
const VALUES: [&str; 6] = ["prices", "ages", "words", "scores", "dates", "sizes"];
const REQUESTS: [&str; 2] = ["I need {what} {values}.", "Compute {what} {values}."];
const FORMS: [&str; 2] = ["Write {gist}({values}).", "Just call {gist}({values})."];

/// A request for one expression.
pub(super) fn scene(draw: &mut Draw) -> Scene {
    let ((right, phrases), (wrong, _)) = draw.two(&FUNCTIONS);
    let values = draw.one(&VALUES);
    let form = draw.one(&FORMS).replace("{values}", values);
    let answer = |gist| Answer { gist, sentence: form.replace("{gist}", gist) };
    let request = draw.one(&REQUESTS).replace("{what}", draw.one(&phrases)).replace("{values}", values);
    Scene { request, right: answer(right), wrong: answer(wrong) }
}
