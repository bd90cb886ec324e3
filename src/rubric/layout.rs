use std::collections::BTreeSet;

/// A piece of a layout string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text that stands as it is.
    Literal(String),
    /// A place to be filled.
    Slot(&'static str),
}

/// A layout string: text with `{slots}`; `{{` and `}}` are plain braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout(Vec<Piece>);

impl Layout {
    /// Reads `text`, whose slots must be among `allowed`; the error is a sentence.
    pub(super) fn parse(text: &str, allowed: &[&'static str]) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let tail = &rest[at..];
            if tail.starts_with("{{") || tail.starts_with("}}") {
                literal.push_str(&tail[..1]);
                rest = &tail[2..];
                continue;
            }
            let name = tail.strip_prefix('{').and_then(|slot| slot.split_once('}'));
            let Some((name, after)) = name else {
                return Err("a brace stands alone: write `{{` or `}}` for a plain one".into());
            };
            let Some(slot) = allowed.iter().find(|slot| **slot == name) else {
                return Err(format!("`{{{name}}}` is no slot here: there are {}", listed(allowed)));
            };
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            pieces.push(Piece::Slot(slot));
            rest = after;
        }
        pieces.push(Piece::Literal(literal + rest));
        Ok(Self(pieces))
    }

    /// The text with every slot filled.
    pub(super) fn fill<'a>(&'a self, value: impl Fn(&str) -> &'a str) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Literal(text) => text.as_str(),
            Piece::Slot(slot) => value(slot),
        });
        pieces.collect()
    }

    /// The slots in their order.
    pub(super) fn slots(&self) -> Vec<&'static str> {
        let slots = self.0.iter().filter_map(|piece| match piece {
            Piece::Slot(slot) => Some(*slot),
            Piece::Literal(_) => None,
        });
        slots.collect()
    }

    /// Whether every `slot` stands directly inside a tag: `<{slot}>` or `</{slot}>`.
    pub(super) fn only_as_tag(&self, slot: &str) -> bool {
        // Literals and slots alternate, so each slot has a literal on both sides.
        self.0.windows(3).all(|three| match three {
            [Piece::Literal(before), Piece::Slot(found), Piece::Literal(after)] if *found == slot => {
                (before.ends_with('<') || before.ends_with("</")) && after.starts_with('>')
            }
            _ => true,
        })
    }

    /// Names of the tags that the literal text holds.
    pub(super) fn tag_names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for piece in &self.0 {
            let Piece::Literal(text) = piece else { continue };
            for start in text.split('<').skip(1) {
                let name = start.strip_prefix('/').unwrap_or(start);
                let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'));
                let name = &name[..end.unwrap_or(name.len())];
                if !name.is_empty() {
                    names.insert(name.to_owned());
                }
            }
        }
        names
    }
}

fn listed(slots: &[&str]) -> String {
    slots.iter().map(|slot| format!("`{{{slot}}}`")).collect::<Vec<_>>().join(", ")
}
