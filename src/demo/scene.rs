use super::draw::Draw;
use super::{chat, code, math, safety};

/// One request of a world, with what the world knows about answers to it.
pub(super) struct Scene {
    /// What the user asks, one or two sentences.
    pub(super) request: String,
    /// An answer that does what was asked.
    pub(super) right: Answer,
    /// An answer of the same form that does something else.
    pub(super) wrong: Answer,
}

/// One sentence that answers a request, and the word on which it turns.
pub(super) struct Answer {
    /// The word of `sentence` that makes it right or wrong.
    pub(super) gist: &'static str,
    /// The whole sentence.
    pub(super) sentence: String,
}

impl Scene {
    /// A scene of the world named `task`, one of [`super::TASKS`].
    pub(super) fn draw(task: &str, draw: &mut Draw) -> Self {
        match task {
            "chat" => chat::scene(draw),
            "math" => math::scene(draw),
            "code" => code::scene(draw),
            "safety" => safety::scene(draw),
            other => unreachable!("TASKS names four worlds, {other} is none of them"),
        }
    }

    /// The right answer with probability `share_right`, else the wrong one.
    pub(super) fn answer(&self, draw: &mut Draw, share_right: f64) -> &Answer {
        if draw.chance(share_right) { &self.right } else { &self.wrong }
    }
}
