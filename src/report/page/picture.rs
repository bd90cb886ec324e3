//! The accuracy of several runs as a picture that stands alone, for a README.

use super::accuracy;
use super::line_chart::{LineChart, Rule};
use crate::report::run::RunReport;
use crate::report::unit::Unit;

impl RunReport {
    /// Validation accuracy of these runs over their steps as one SVG file, light and dark. Each run has a name, such as its
    /// seed; the simple judges are those of the first. `None` where no run was evaluated.
    pub fn picture(runs: &[(String, Self)]) -> Option<String> {
        let lines: Vec<_> = runs
            .iter()
            .enumerate()
            .filter_map(|(index, (name, run))| {
                let mut line = accuracy::line(run.accuracy.first()?, &format!("c{}", index % 6));
                line.name.clone_from(name);
                Some(line)
            })
            .collect();
        let curves: Vec<_> = runs.iter().filter_map(|(_, run)| run.accuracy.first().cloned()).collect();
        let mut rules = accuracy::null_rules(&runs.first()?.1.nulls);
        rules.extend(lines.iter().filter_map(|line| {
            let last = line.points.last()?.value;
            Some(Rule {
                value: last,
                label: format!("{} {}", line.name, Unit::Share.show(last)),
                class: "reached",
            })
        }));
        let chart = LineChart {
            label: "validation accuracy over training steps",
            size: (1040.0, 400.0),
            margin: 190.0,
            unit: Unit::Share,
            range: Some(accuracy::range(&curves)),
            lines: &lines,
            rules: &rules,
            phases: &[],
        };
        let style = include_str!("picture.css");
        let open = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1040\" height=\"400\"";
        let picture = chart.picture().replacen("<svg", open, 1);
        (!lines.is_empty()).then(|| picture.replacen('>', &format!("><style>{style}</style>"), 1) + "\n")
    }
}
