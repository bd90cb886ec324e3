use serde::Deserialize;

use super::{Criterion, GeneratedCriterion, Remark, Score, Spacing, Task, Verdict, format_verdict};

/// Words of template judgements: all of them fit any response.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    criteria: Vec<Criterion>,
    remarks: Vec<String>,
}

impl Template {
    /// The words of a task whose own file gives none.
    pub(super) fn standard() -> Result<Self, String> {
        toml::from_str(include_str!("template.toml")).map_err(|e| e.to_string())
    }

    /// Checks that every judgement can be written; the error is a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.criteria.is_empty() || self.remarks.is_empty() {
            return Err("template: give at least one criterion and one remark".into());
        }
        for criterion in &self.criteria {
            for remark in &self.remarks {
                format_verdict(&judgement(criterion, remark, Score::LOWEST), Spacing::Compact)
                    .map_err(|e| format!("template: `{}` with `{remark}`: {e}", criterion.name))?;
            }
        }
        Ok(())
    }
}

impl Task {
    /// A judgement that keeps to the output grammar and holds no truth: criterion, remark and score are drawn by
    /// `below`, which gives an index below its argument. Scores are whole numbers from 1 to 9: one digit, drawn at once.
    pub fn template_judgement(&self, below: &mut dyn FnMut(usize) -> usize) -> Verdict {
        let Template { criteria, remarks } = &self.template;
        let (criterion, remark) = (&criteria[below(criteria.len())], &remarks[below(remarks.len())]);
        judgement(criterion, remark, Score::new((1 + below(9)) as f64).expect("1 to 9 are scores"))
    }
}

fn judgement(Criterion { name, text }: &Criterion, remark: &str, score: Score) -> Verdict {
    let rubric = vec![GeneratedCriterion { name: name.clone(), text: text.clone(), weight: 1.0 }];
    Verdict { rubric, eval: vec![Remark { name: name.clone(), text: remark.into() }], score }
}
