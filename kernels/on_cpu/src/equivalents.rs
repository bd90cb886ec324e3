//! The list of mutants that do what the kernel does, so that no test can kill them.

use crate::mutation::Mutant;

/// A mutant that is said to do what the kernel does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equivalent {
    file: String,
    text: String,
    change: String,
    /// Why nothing can tell the difference.
    pub reason: String,
}

impl Equivalent {
    /// Whether this is the mutant that is meant.
    #[must_use]
    pub fn is(&self, mutant: &Mutant) -> bool {
        self.file == mutant.file && self.text == mutant.text && self.change == mutant.change
    }
}

/// The list of equivalents: blocks of four lines, the file, its line, the change and the reason, with a blank line between
/// blocks; lines that begin with # are comments.
///
/// # Errors
/// A block of another length, or a mutant of that description that does not exist (any more).
pub fn equivalents(list: &str, mutants: &[Mutant]) -> Result<Vec<Equivalent>, String> {
    let lines: Vec<&str> = list.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let mut all = Vec::new();
    for block in lines.split(|line| line.is_empty()).filter(|block| !block.is_empty()) {
        let [file, text, change, reason] = block else {
            return Err(format!(
                "an equivalent is described by file, line, change and reason, not by {block:?}"
            ));
        };
        let owned = |part: &&str| (*part).to_owned();
        let named =
            Equivalent { file: owned(file), text: owned(text), change: owned(change), reason: owned(reason) };
        if !mutants.iter().any(|mutant| named.is(mutant)) {
            return Err(format!("{file}: no line `{text}` has a mutant `{change}`: the list is out of date"));
        }
        all.push(named);
    }
    Ok(all)
}
