use super::text::{Opening, openings};
use crate::rubric::{GeneratedCriterion, Remark, RubricSet, Score, Spacing, Verdict, format_verdict};
use crate::tokenizer::{Tokenizer, TokenizerError, TrainOptions, train};

/// Tokens of the demo's vocabulary at most: room for every word of the four worlds as one token.
const VOCAB_SIZE: usize = 1024;
/// Openings from which the vocabulary is learned; they hold every word many times.
const VOCAB_TEXTS: usize = 8_000;
/// What returns in one form in every verdict: names of criteria; tags, with what always stands right before them.
const WHOLE: &str = r"\p{L}+:|(?: \(1\)| indeed| instead)?(?:</?[a-z]+>)+";

/// The judging tasks of the four worlds, with prompts for a model that has little to spend.
pub fn rubrics() -> RubricSet {
    let files = [
        ("chat", include_str!("../../models/demo/tasks/chat.toml")),
        ("math", include_str!("../../models/demo/tasks/math.toml")),
        ("code", include_str!("../../models/demo/tasks/code.toml")),
        ("safety", include_str!("../../models/demo/tasks/safety.toml")),
    ];
    files.iter().fold(RubricSet::default(), |set, (name, text)| {
        set.replaced_by(RubricSet::parse(name, text).expect("the embedded task files are tested to be sound"))
    })
}

impl Opening {
    /// The verdict as the cold start shows it: the criterion of the task with what is expected as generated rubric,
    /// what the answer says and whether that is the same word as remark, and the blind score.
    pub fn verdict(&self) -> Verdict {
        let name = criterion(&self.reading.task);
        let rubric = vec![GeneratedCriterion { name: name.into(), text: self.expected.clone(), weight: 1.0 }];
        let eval = vec![Remark { name: name.into(), text: self.remark() }];
        Verdict { rubric, eval, score: self.score }
    }

    /// What the answer says, held against what was expected of it: two words on the page are compared, whichever is true.
    fn remark(&self) -> String {
        format!("{} {}", self.said, if self.said == self.expected { "indeed" } else { "instead" })
    }

    /// The verdict as text: what the model learns to write.
    pub fn verdict_text(&self) -> String {
        format_verdict(&self.verdict(), Spacing::Compact).expect("words of the worlds keep to the grammar")
    }
}

fn criterion(task: &str) -> &'static str {
    match task {
        "chat" => "Wish",
        "math" => "Result",
        "code" => "Function",
        _ => "Care",
    }
}

/// The demo's tokenizer, learned from what the cold start reads; the same on every call.
///
/// # Errors
/// None that the embedded texts can cause; the error is the trainer's own.
pub fn tokenizer() -> Result<Tokenizer, TokenizerError> {
    let rubrics = rubrics();
    let texts = openings(0, VOCAB_TEXTS, 0.5).into_iter().flat_map(|opening| {
        let Opening { reading, .. } = &opening;
        let prompt = rubrics
            .judge_prompt(&reading.task, &reading.messages, &reading.response)
            .expect("each world has its task file");
        prompt
            .into_iter()
            .map(|turn| turn.content)
            .chain([opening.verdict_text(), "user\nassistant\n".into()])
    });
    train(texts, &TrainOptions { vocab_size: VOCAB_SIZE, whole: WHOLE.into(), ..TrainOptions::default() })
}

/// The score of a whole number from 1 to 9.
pub(super) fn score(one_to_nine: usize) -> Score {
    u8::try_from(10 * one_to_nine).ok().and_then(Score::from_tenths).expect("1 to 9 lie on the scale")
}
