//! Chat: the user names two things and wants one of them; a right answer gives the wanted one.
//!
//! Both things stand in the request and either may come first, so neither word overlap nor position tells.

use super::draw::Draw;
use super::scene::{Answer, Scene};

const CITIES: [&str; 8] = ["Paris", "Rome", "Berlin", "Madrid", "Vienna", "Dublin", "Oslo", "Prague"];
const VEHICLES: [&str; 3] = ["train", "bus", "flight"];
const ROUTES: [&str; 2] = ["Book a {v} from {not} to {want}.", "Book a {v} to {want} from {not}."];
const TRAVEL: [&str; 2] = ["Your {v} to {gist} is booked.", "I found a {v} to {gist}."];

const TASTES: [&str; 8] = ["tea", "coffee", "milk", "soup", "rice", "bread", "cake", "juice"];
const ORDERS: [&str; 3] =
    ["I want {want}, not {not}.", "I want {want} instead of {not}.", "Instead of {not}, bring {want}."];
const SERVED: [&str; 2] = ["Here comes your {gist}.", "I have brought {gist}."];

/// A request for one of two things.
pub(super) fn scene(draw: &mut Draw) -> Scene {
    if draw.chance(0.5) {
        let vehicle = draw.one(&VEHICLES);
        choice(
            draw,
            &CITIES,
            &ROUTES.map(|t| t.replace("{v}", vehicle)),
            &TRAVEL.map(|t| t.replace("{v}", vehicle)),
        )
    } else {
        choice(draw, &TASTES, &ORDERS.map(String::from), &SERVED.map(String::from))
    }
}

fn choice(draw: &mut Draw, things: &[&'static str], requests: &[String], answers: &[String]) -> Scene {
    let (want, not) = draw.two(things);
    let request = &requests[draw.below(requests.len())];
    let form = &answers[draw.below(answers.len())];
    let answer = |gist| Answer { gist, sentence: form.replace("{gist}", gist) };
    let request = request.replace("{want}", want).replace("{not}", not);
    Scene { request, right: answer(want), wrong: answer(not) }
}
