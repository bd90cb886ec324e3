//! A picture as text: the few SVG elements the charts need. Colours and fonts are classes; the style sheet knows them.

use std::fmt::Write;

/// One picture under construction; coordinates are pixels from the upper left.
pub(super) struct Svg {
    out: String,
}

impl Svg {
    /// An empty picture with a description for those who cannot see it.
    pub(super) fn new(width: f64, height: f64, label: &str) -> Self {
        let mut svg = Self { out: String::new() };
        let label = escape(label);
        svg.add(format_args!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">"));
        svg
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("a String takes every text");
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    /// A rectangle from its upper left corner; `opacity` in 0..=1.
    pub(super) fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), opacity: f64) {
        let ((x, y), (width, height)) = (at, size);
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\""
        ));
        if opacity < 1.0 {
            self.add(format_args!(" fill-opacity=\"{opacity:.3}\""));
        }
        self.out.push_str("/>");
    }

    pub(super) fn circle(&mut self, class: &str, at: (f64, f64), radius: f64) {
        let (x, y) = at;
        self.add(format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>"));
    }

    /// Straight lines through `points`; each run of neighbours is one stroke, `None` lifts the pen.
    pub(super) fn stroke(&mut self, class: &str, points: impl IntoIterator<Item = Option<(f64, f64)>>) {
        let mut path = String::new();
        let mut pen = 'M';
        for point in points {
            pen = match point {
                Some((x, y)) => {
                    write!(path, "{pen}{x:.1} {y:.1}").expect("a String takes every text");
                    'L'
                }
                None => 'M',
            };
        }
        self.add(format_args!("<path class=\"{class}\" d=\"{path}\"/>"));
    }

    /// The closed area with these corners.
    pub(super) fn area(&mut self, class: &str, corners: impl IntoIterator<Item = (f64, f64)>) {
        let mut points = String::new();
        for (x, y) in corners {
            write!(points, "{x:.1},{y:.1} ").expect("a String takes every text");
        }
        self.add(format_args!("<polygon class=\"{class}\" points=\"{}\"/>", points.trim_end()));
    }

    pub(super) fn text(&mut self, class: &str, at: (f64, f64), text: &str) {
        let ((x, y), text) = (at, escape(text));
        self.add(format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"));
    }

    /// A title that the browser shows over what `fill` draws.
    pub(super) fn titled(&mut self, title: &str, fill: impl FnOnce(&mut Self)) {
        let title = escape(title);
        self.add(format_args!("<g><title>{title}</title>"));
        fill(self);
        self.out.push_str("</g>");
    }

    /// A group that the legend can switch off.
    pub(super) fn series(&mut self, index: usize, fill: impl FnOnce(&mut Self)) {
        self.add(format_args!("<g data-series=\"{index}\">"));
        fill(self);
        self.out.push_str("</g>");
    }

    pub(super) fn finish(mut self) -> String {
        self.out.push_str("</svg>");
        self.out
    }
}

/// `text` for use between tags and inside quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no place for them, and a browser shows nothing where they stand.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
