use super::draw::Draw;
use super::scene::Scene;
use super::split::Split;
use super::{TASKS, filler, judge};
use crate::preference::PreferencePair;
use crate::rubric::Score;
use crate::tokenizer::{Message, Role};

/// Streams of one seed, so that pairs, reading and openings are drawn apart from each other.
const TRAIN_PAIRS: u64 = 0;
const HELD_OUT_PAIRS: u64 = 1;
const READING: u64 = 2;
const OPENINGS: u64 = 3;

/// A request and one answer to it, with nothing said about the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// One of [`TASKS`].
    pub task: String,
    /// One user turn.
    pub messages: Vec<Message>,
    /// The answer.
    pub response: String,
}

/// A text to read with the parts of a verdict on it that were written without knowing whether its answer is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// What is judged.
    pub reading: Reading,
    /// The word on which another answer to the same request turned, drawn like the answers of [`reading`].
    pub expected: String,
    /// The word on which this answer turns, copied from it.
    pub said: String,
    /// One of 1 to 9, drawn blindly: two five-sided dice less one, so that 5 leads clearly and greedy reading ties.
    pub score: Score,
}

/// `count` pairs of `split`, cycling through [`TASKS`]; chosen is the right answer, rejected the wrong one.
pub fn pairs(seed: u64, split: Split, count: usize) -> Vec<PreferencePair> {
    let stream = match split {
        Split::Train => TRAIN_PAIRS,
        Split::HeldOut => HELD_OUT_PAIRS,
    };
    let mut draw = Draw::new(seed, stream);
    (0..count)
        .map(|row| {
            let task = TASKS[row % TASKS.len()];
            let asked = Asked::draw(task, split, &mut draw);
            PreferencePair {
                id: format!("demo-{}-{seed}-{row}", split.name()),
                task: task.to_string(),
                chosen: asked.respond(&mut draw, &asked.scene.right.sentence),
                rejected: asked.respond(&mut draw, &asked.scene.wrong.sentence),
                messages: asked.messages(),
            }
        })
        .collect()
}

/// `count` unlabelled texts from the training side, cycling through [`TASKS`]; an answer is right with probability
/// `share_right` (0 to 1).
pub fn reading(seed: u64, count: usize, share_right: f64) -> Vec<Reading> {
    let mut draw = Draw::new(seed, READING);
    (0..count)
        .map(|row| {
            let asked = Asked::draw(TASKS[row % TASKS.len()], Split::Train, &mut draw);
            let sentence = &asked.scene.answer(&mut draw, share_right).sentence;
            asked.read(&mut draw, sentence)
        })
        .collect()
}

/// `count` openings from the training side, cycling through [`TASKS`]. The judged answer is right half of the time;
/// `expected` comes from an answer of its own, right with probability `share_right` as in [`reading`].
pub fn openings(seed: u64, count: usize, share_right: f64) -> Vec<Opening> {
    let mut draw = Draw::new(seed, OPENINGS);
    (0..count)
        .map(|row| {
            let asked = Asked::draw(TASKS[row % TASKS.len()], Split::Train, &mut draw);
            let judged = asked.scene.answer(&mut draw, 0.5);
            let expected = asked.scene.answer(&mut draw, share_right).gist.to_string();
            let score = judge::score(1 + draw.below(5) + draw.below(5));
            let said = judged.gist.to_string();
            Opening { reading: asked.read(&mut draw, &judged.sentence), expected, said, score }
        })
        .collect()
}

/// A scene as a named user puts it.
struct Asked {
    task: &'static str,
    split: Split,
    name: &'static str,
    request: String,
    scene: Scene,
}

impl Asked {
    /// A request of `task` that lies on `split`'s side.
    fn draw(task: &'static str, split: Split, draw: &mut Draw) -> Self {
        loop {
            let scene = Scene::draw(task, draw);
            let name = filler::name(draw);
            let request = format!("{name}: {}", scene.request);
            if Split::of(&request) == split {
                return Self { task, split, name, request, scene };
            }
        }
    }

    fn messages(&self) -> Vec<Message> {
        vec![Message::new(Role::User, self.request.clone())]
    }

    fn respond(&self, draw: &mut Draw, sentence: &str) -> String {
        filler::respond(draw, self.split, self.name, sentence)
    }

    fn read(&self, draw: &mut Draw, sentence: &str) -> Reading {
        let response = self.respond(draw, sentence);
        Reading { task: self.task.to_string(), messages: self.messages(), response }
    }
}
