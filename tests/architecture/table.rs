//! The module table in the crate's documentation: who may use whom.

use std::collections::{BTreeMap, BTreeSet};

/// Module name -> the modules it may use.
pub(crate) struct Table {
    pub(crate) allowed: BTreeMap<String, BTreeSet<String>>,
    pub(crate) pure: BTreeSet<String>,
}

impl Table {
    /// Reads the table out of the `//!` lines of `lib`. Panics with a sentence where it is not well formed.
    pub(crate) fn parse(lib: &str) -> Self {
        let rows: Vec<(&str, &str)> = lib.lines().filter_map(row).collect();
        let all: BTreeSet<String> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(all.len(), rows.len(), "a module stands twice in the table");
        let allowed =
            rows.iter().map(|(name, uses)| ((*name).to_owned(), uses_of(name, uses, &all))).collect();
        let line =
            lib.lines().find_map(|l| l.strip_prefix("//! Pure (no tensor, no device anywhere below them): "));
        let names = line.expect("the crate's documentation says which modules are pure");
        let pure = names.trim_end_matches('.').split(' ').map(str::to_owned).collect();
        Self { allowed, pure }
    }

    /// Everything that `module` reaches, itself included.
    pub(crate) fn reach(&self, module: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::from([module.to_owned()]);
        let mut waiting = vec![module.to_owned()];
        while let Some(next) = waiting.pop() {
            for used in &self.allowed[&next] {
                if reached.insert(used.clone()) {
                    waiting.push(used.clone());
                }
            }
        }
        reached
    }

    /// A module that reaches itself over others, if there is one.
    pub(crate) fn cycle(&self) -> Option<&str> {
        let returns =
            |name: &&String| self.allowed[*name].iter().any(|used| self.reach(used).contains(*name));
        self.allowed.keys().find(returns).map(String::as_str)
    }
}

/// `//! | `name` | what | uses |` -> (name, uses).
fn row(line: &str) -> Option<(&str, &str)> {
    let cells: Vec<&str> = line.strip_prefix("//! | `")?.trim_end_matches(" |").split(" | ").collect();
    assert_eq!(cells.len(), 3, "a row of the module table has three cells: {line}");
    Some((cells[0].trim_end_matches('`'), cells[2]))
}

fn uses_of(name: &str, uses: &str, all: &BTreeSet<String>) -> BTreeSet<String> {
    let except = |names: &str| -> BTreeSet<String> {
        let out: BTreeSet<&str> = names.split(' ').collect();
        all.iter().filter(|m| *m != name && !out.contains(m.as_str())).cloned().collect()
    };
    match uses.strip_prefix("everything") {
        Some("") => except(""),
        Some(rest) => {
            except(rest.strip_prefix(" but ").expect("`everything but a b c` names what is left out"))
        }
        None if uses == "-" => BTreeSet::new(),
        None => {
            let names: BTreeSet<String> = uses.split(' ').map(str::to_owned).collect();
            assert!(names.is_subset(all), "the row of {name} names a module without a row: {uses}");
            names
        }
    }
}

#[test]
fn a_cycle_in_a_table_is_found() {
    let text = "//! | `a` | x | b |\n//! | `b` | x | c |\n//! | `c` | x | a |\n//! | `d` | x | - |\n\
                //! Pure (no tensor, no device anywhere below them): d.";
    assert_eq!(Table::parse(text).cycle(), Some("a"));
    assert_eq!(Table::parse(&text.replace("x | a |", "x | - |")).cycle(), None);
}

#[test]
fn everything_but_leaves_out_the_named_and_itself() {
    let text = "//! | `a` | x | everything but c |\n//! | `b` | x | - |\n//! | `c` | x | everything |\n\
                //! Pure (no tensor, no device anywhere below them): b.";
    let table = Table::parse(text);
    assert_eq!(table.allowed["a"], BTreeSet::from(["b".to_owned()]));
    assert_eq!(table.allowed["c"].len(), 2);
}
