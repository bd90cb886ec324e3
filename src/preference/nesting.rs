/// How deep a place in JSON is nested: quotes and brackets are all that is understood of it, so it takes any bytes.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Nesting {
    /// Passes one byte and returns the depth after it.
    pub(super) fn pass(&mut self, byte: u8) -> usize {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_text => self.escaped = true,
            b'"' => self.in_text = !self.in_text,
            _ if self.in_text => {}
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.depth
    }

    /// Whether the place is neither within brackets nor within a text.
    pub(super) fn is_outside(&self) -> bool {
        self.depth == 0 && !self.in_text
    }

    /// The deepest place of some JSON.
    pub(super) fn deepest(json: &[u8]) -> usize {
        let mut nesting = Self::default();
        json.iter().map(|&byte| nesting.pass(byte)).max().unwrap_or(0)
    }
}
