/// Which side of the fixed division of requests and filler combinations a text is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Seven eighths, for everything that training reads.
    Train,
    /// One eighth, for evaluation alone.
    HeldOut,
}

impl Split {
    /// How rows' ids name this side.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::HeldOut => "held-out",
        }
    }

    /// The side on which `text` lies: a property of its bytes, so that no seed moves a text across.
    pub(super) fn of(text: &str) -> Self {
        let digest = blake3::hash(text.as_bytes());
        if digest.as_bytes()[0].is_multiple_of(8) { Self::HeldOut } else { Self::Train }
    }
}
