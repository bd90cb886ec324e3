use super::draw::Draw;
use super::split::Split;

const NAMES: [&str; 16] = [
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Iris", "Jack", "Kate", "Leo",
    "Maria", "Noah", "Olga", "Paul",
];
const OPENERS: [&str; 8] = [
    "Hello {n}.",
    "Well, {n}.",
    "Dear {n}.",
    "Good day, {n}.",
    "Thanks, {n}.",
    "Hi {n}!",
    "Look, {n}.",
    "So, {n}.",
];
const CLOSERS: [&str; 8] = [
    "Take care.",
    "See you soon.",
    "All the best.",
    "Have fun.",
    "Until later.",
    "That is it.",
    "Good luck.",
    "Ask again.",
];

/// A name of the user, drawn alike.
pub(super) fn name(draw: &mut Draw) -> &'static str {
    draw.one(&NAMES)
}

/// `sentence` as a whole response to `name`, opened and closed by a combination from `split`'s side.
pub(super) fn respond(draw: &mut Draw, split: Split, name: &str, sentence: &str) -> String {
    loop {
        let opener = draw.one(&OPENERS).replace("{n}", name);
        let closer = draw.one(&CLOSERS);
        if Split::of(&format!("{opener} {closer}")) == split {
            return format!("{opener} {sentence} {closer}");
        }
    }
}
